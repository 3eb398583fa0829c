"""Five-fold cross-validation on CT-ICH: predictions as the node would make them, and the figures of the manifest.

Every patient is predicted by the network that has seen neither the patient's slices nor paintings on them, and
calibrated by what was fitted on the other folds.
"""

from __future__ import annotations

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
from ich_node.training.data.pool import Pool, load
from ich_node.training.evaluate import metrics
from ich_node.training.evaluate.gates_report import volume_of
from ich_node.training.learn import calibrate
from ich_node.training.learn.network import STRIDE, Network
from ich_node.training.learn.recipe import FOLDS, Recipe, Workshop

OUT_OF_FOLD = "oof"
"""The folder of the predictions by the networks of the folds."""
SMALL_SLICES = 4
"""A study with hemorrhage on no more slices than this is counted among the small ones."""


def folds(real: Pool, recipe: Recipe) -> npt.NDArray[np.intp]:
    """The fold of every real slice."""
    return ct_ich.folds(real.patient, real.labels, FOLDS, recipe.seed)


def predict(shop: Workshop, recipe: Recipe, network: Network, fold: int, folder: str = OUT_OF_FOLD) -> Path:
    """Predict the patients of `fold` from their full-size head boxes, as the node would; the file with the answers."""
    path = shop.out / folder / f"fold_{fold}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return path
    real = load(shop.real)
    unseen = set(np.unique(real.patient[folds(real, recipe) == fold]).tolist())
    rows: dict[str, list[Any]] = {}
    for study in ct_ich.studies(shop.data / "ct_ich", unseen):
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


def read_predictions(shop: Workshop, folder: str = OUT_OF_FOLD) -> dict[str, npt.NDArray[Any]]:
    """The predictions of all folds together; also written to FOLDER.npz for the evaluation."""
    found: dict[str, list[npt.NDArray[Any]]] = {}
    for fold, path in enumerate(sorted((shop.out / folder).glob("fold_*.npz"))):
        with np.load(path) as arrays:
            for name in arrays:
                found.setdefault(name, []).append(arrays[name])
            found.setdefault("fold", []).append(np.full(len(arrays["patient"]), fold))
    together = {name: np.concatenate(values) for name, values in found.items()}
    _write(shop.out / f"{folder}.npz", together)
    return together


def _write(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


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
        "slice_auc_by_type": by_type(found["label"], smooth),
        "ece_any": round(metrics.ece(found["label"][:, 0], p_slice[:, 0]), 4),
        "weighted_log_loss": round(metrics.weighted_log_loss(found["label"], p_slice), 4),
        "study_weighted_log_loss": round(metrics.weighted_log_loss(study_labels, p_study), 4),
        "pointing_game": _pointing(found),
    }
    for name in calibrate.POINTS:
        found_at = at_threshold(studies, study_labels, of_study, name)
        figures[f"study_any_{name}"] = {key: str(value) for key, value in found_at.items()}
    return figures


def _cross_fitted(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.floating], fold: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Probabilities of every fold from a calibration that was fitted on the other folds."""
    result = np.empty(logits.shape, np.float64)
    for one in np.unique(fold):
        scaling = calibrate.fit(logits[fold != one], labels[fold != one])
        result[fold == one] = scaling.probability(logits[fold == one])
    return result


def at_threshold(
    studies: npt.NDArray[np.floating],
    labels: npt.NDArray[np.floating],
    fold: npt.NDArray[np.integer],
    name: str,
) -> dict[str, metrics.Estimate]:
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
        "sensitivity": metrics.sensitivity(ill, called),
        "specificity": metrics.specificity(ill, called),
    }


def by_type(labels: npt.NDArray[np.floating], logits: npt.NDArray[np.floating]) -> dict[str, str]:
    """Slice AUC of every type, with its slices."""
    found = {}
    for index, label in enumerate(LABELS[1:], start=1):
        count = int(labels[:, index].sum())
        found[label] = f"{metrics.auc(labels[:, index], logits[:, index]):.3f} ({count} slices)"
    return found


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


def pointing_as_shown(shop: Workshop, found: dict[str, npt.NDArray[Any]]) -> str:
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
