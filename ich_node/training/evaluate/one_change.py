"""One change at a time, on the same folds: python -m ich_node.training.evaluate.one_change --help.

What did scale, paintings and phantoms contribute, and would neighbouring slices help? Every arm is the second phase
from the same weights, which saw phantoms only, with the same seed, folds and number of slices; only one thing differs.
The budget is that of a CPU, less than a fiftieth of the recipe's: the arms may be compared with each other, never with
the bundle. Networks and predictions are kept in OUT and not made again; folds come one after the other, and a run
that was cut short compares each arm on the folds that it has.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ich_node.infer.see.crop import crop_stack
from ich_node.training.data import ct_ich
from ich_node.training.data.pool import Pool, joined, load, save
from ich_node.training.evaluate import metrics
from ich_node.training.learn import calibrate, crossval, default
from ich_node.training.learn.batches import Draw, Paintings, Real, Shelf, Source
from ich_node.training.learn.beside import Alone, Neighboured, NeighbourNetwork
from ich_node.training.learn.network import Network
from ich_node.training.learn.recipe import FOLDS, Recipe, Workshop
from ich_node.training.learn.train import Phase, Trainer
from ich_node.training.synthesis import scans
from ich_node.training.synthesis.canvas import Canvases, canvases
from ich_node.training.synthesis.painting import Painter

SIZE = 192  # pixels: chosen, half the work of 256
STEPS = 80  # chosen: two minutes of one core
RATE = 6e-4  # chosen: that of the recipe, less for smaller batches
SCANS = 32  # of phantoms, whole: some 800 slices
BLOCK = 6  # steps that one block of paintings serves
WRONG_MM = (5.0, 0.45, 0.45)  # what was once taken for the pixel of the pictures
CPU = torch.device("cpu")
REPLICATES = 1000  # of the resampling of patients


@dataclass(frozen=True, slots=True)
class Arm:
    """What differs. counts: slices of a step from each source; they sum to 24 everywhere."""

    counts: Mapping[str, int]
    spacing_mm: tuple[float, float, float] = ct_ich.SPACING_MM
    neighbours: bool = False


USUAL = {"real": 9, "painted": 8, "phantoms": 7}
RECIPE = "as the recipe"
ARMS: Mapping[str, Arm] = {
    RECIPE: Arm(USUAL),
    "with neighbours": Arm(USUAL, neighbours=True),
    "at the wrong scale": Arm(USUAL, spacing_mm=WRONG_MM),
    "without paintings": Arm({"real": 13, "phantoms": 11}),
}
SHOWN_WRONG = "at the wrong scale, patients shown at it too"
START = "phase 1 alone: phantoms"


class Bench:
    """Pools, phantoms and canvases, made once and kept in OUT."""

    def __init__(self, shop: Workshop, weights: Path) -> None:
        self.shop, self.weights = shop, weights
        default.keep_real(shop)
        self.real = load(shop.real)
        self.fold = crossval.folds(self.real, Recipe())
        self.phantoms = self._phantoms()

    def _phantoms(self) -> Pool:
        """Whole scans, foot to head, each with a number of its own in `patient`."""
        files = scans.heads(self.shop.data / "head_label_maps", self.shop.heads)
        folder = self.shop.out / "whole"
        folder.mkdir(parents=True, exist_ok=True)
        known: dict[Path, Any] = {}
        parts = []
        for number in range(SCANS):
            path = folder / f"{number:03d}.npz"
            if not path.exists():
                rng = np.random.default_rng([Recipe().seed, 17, number])
                pool, _ = scans.whole(scans.drawn_head(rng, files, known), rng)
                pool.patient[:] = number
                save(pool, path)
            parts.append(load(path))
        return joined(parts)

    def real_at(self, arm: Arm) -> tuple[Pool, Canvases]:
        """The patients' slices as the arm sees them, and what can be painted on."""
        name = "right" if arm.spacing_mm == ct_ich.SPACING_MM else "wrong"
        pool = self.real
        if name == "wrong":
            path = self.shop.out / "ct_ich_wrong.npz"
            if not path.exists():
                save(ct_ich.pool(self.shop.data / "ct_ich", arm.spacing_mm), path)
            pool = load(path)
        path = self.shop.out / f"canvases_{name}.npz"
        if not path.exists():
            found = canvases(pool)
            np.savez_compressed(path, index=found.index, depth=found.depth, ventricles=found.ventricles)
        with np.load(path) as arrays:
            return pool, Canvases(arrays["index"], arrays["depth"], arrays["ventricles"])

    def network(self, arm: Arm) -> Network:
        """The network of an arm before phase 2."""
        start = default.network_from(self.weights, SIZE)
        return NeighbourNetwork(SIZE, start.state_dict()) if arm.neighbours else start

    def sources(self, arm: Arm, fold: int) -> dict[str, Source]:
        """Where the slices of an arm come from, without the patients of `fold`."""
        pool, found = self.real_at(arm)
        seen = np.flatnonzero(self.fold != fold)
        real = Real(Shelf(pool, CPU), pool, CPU, seen)
        use = np.isin(found.index, seen)
        own = Canvases(found.index[use], found.depth[use], found.ventricles[use])
        painted = Paintings(Painter(pool, own, CPU), arm.counts.get("painted", 0) * BLOCK)
        phantoms = Draw(Shelf(self.phantoms, CPU), CPU, np.flatnonzero(~self.phantoms.doubtful))
        if arm.neighbours:
            return {
                "real": Neighboured(real, pool),
                "painted": Alone(painted),
                "phantoms": Neighboured(phantoms, self.phantoms),
            }
        return {"real": real, "painted": painted, "phantoms": phantoms}

    def predicted(self, name: str, fold: int) -> None:
        """Train one arm without one fold, and predict that fold; each is kept."""
        arm, folder = ARMS[name], self.shop.out / "one_change"
        targets = {name: (ct_ich.SPACING_MM, folder / f"{name}_{fold}.npz")}
        if arm.spacing_mm == WRONG_MM:
            targets[SHOWN_WRONG] = (WRONG_MM, folder / f"{SHOWN_WRONG}_{fold}.npz")
        if all(path.exists() for _, path in targets.values()):
            return
        phase = Phase(f"{name}_{fold}", arm.counts, steps=STEPS, size=SIZE, rate=RATE, seed=fold)
        torch.manual_seed(fold)
        trained = Trainer(self.network(arm), phase, folder, CPU).run(self.sources(arm, fold))
        for spacing, path in targets.values():
            self._predict(trained, fold, spacing, path)

    def start(self, fold: int) -> None:
        """Predict a fold with the weights that all arms start from."""
        path = self.shop.out / "one_change" / f"{START}_{fold}.npz"
        if not path.exists():
            self._predict(default.network_from(self.weights, SIZE), fold, ct_ich.SPACING_MM, path)

    def _predict(self, network: Network, fold: int, spacing: tuple[float, float, float], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unseen = set(np.unique(self.real.patient[self.fold == fold]).tolist())
        rows: dict[str, list[npt.NDArray[Any]]] = {"patient": [], "slice": [], "label": [], "logit": []}
        for study in ct_ich.studies(self.shop.data / "ct_ich", unseen):
            box = crop_stack(study.hu, spacing)
            with torch.no_grad():
                logits = network.eval()(torch.from_numpy(box.hu))[0].numpy()
            for key, value in zip(
                rows,
                (np.full(len(logits), study.patient), np.arange(len(logits)), study.labels, logits),
                strict=True,
            ):
                rows[key].append(value)
        part = path.with_suffix(".part")
        with part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **{key: np.concatenate(values) for key, values in rows.items()})
        part.rename(path)


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What one arm said. smooth: float32 [slices, 6]. studies: float32 [patients, 6], in the order of their names."""

    patient: npt.NDArray[np.str_]
    label: npt.NDArray[np.float32]
    smooth: npt.NDArray[np.float32]
    studies: npt.NDArray[np.float32]
    study_label: npt.NDArray[np.float32]


def said(paths: Sequence[Path]) -> Said:
    """The predictions of an arm for all its folds together, smoothed as the bundle smooths."""
    parts = [dict(np.load(path)) for path in paths]
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    smooth, studies, names = calibrate.by_study(found["patient"], found["slice"], found["logit"])
    labels = np.stack([found["label"][found["patient"] == name].max(axis=0) for name in names])
    return Said(found["patient"], found["label"], smooth, studies, labels)


def figures(arm: Said, base: Said) -> dict[str, Any]:
    """AUC of "any" of an arm by slice and study, and the interval of its gain over `base` on the same patients."""
    names = np.unique(base.patient)
    owner = np.searchsorted(names, base.patient)
    slices_of = [np.flatnonzero(owner == number) for number in range(len(names))]
    rng = np.random.default_rng(0)
    gains: dict[str, list[float]] = {"slice": [], "study": []}
    for _ in range(REPLICATES):
        draw = rng.integers(len(names), size=len(names))
        if len(np.unique(base.study_label[draw, 0])) < 2:
            continue
        gains["study"].append(_auc(arm, draw, "study") - _auc(base, draw, "study"))
        index = np.concatenate([slices_of[number] for number in draw])
        gains["slice"].append(_auc(arm, index, "slice") - _auc(base, index, "slice"))
    counts = np.array([int(arm.label[index, 0].sum()) for index in slices_of])
    return {
        "slice_auc": round(_auc(arm, np.arange(len(arm.label)), "slice"), 3),
        "slice_gain": _interval(gains["slice"]),
        "study_auc": round(_auc(arm, np.arange(len(slices_of)), "study"), 3),
        "study_gain": _interval(gains["study"]),
        "patients": len(counts),
        "bleeding": int((counts > 0).sum()),
        "small": int(((counts > 0) & (counts <= crossval.SMALL_SLICES)).sum()),
        "types": crossval.by_type(arm.label, arm.smooth),
    }


def _auc(arm: Said, index: npt.NDArray[np.intp], of: str) -> float:
    labels, scores = (arm.label, arm.smooth) if of == "slice" else (arm.study_label, arm.studies)
    return metrics.auc(labels[index, 0], scores[index, 0])


def _interval(gains: Sequence[float]) -> list[float]:
    """The bounds of the middle 95 % of resampled gains."""
    return [round(float(value), 3) for value in np.percentile(gains, (2.5, 97.5))]


def main() -> None:
    """Train and predict what is missing while there are minutes; write the figures after every network."""
    parser = argparse.ArgumentParser(prog="python -m ich_node.training.evaluate.one_change", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="the data, as `train` has them")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="where everything is kept")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="the start: weights of phantoms")
    parser.add_argument("--figures", type=Path, required=True, metavar="FILE", help="the figures, as JSON")
    parser.add_argument("--minutes", type=float, required=True, metavar="N", help="no network is begun after these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + arguments.minutes * 60
    bench = Bench(Workshop(arguments.root, arguments.out), arguments.weights)
    for fold in range(FOLDS):
        bench.start(fold)
        for name in ARMS:
            if time.monotonic() > end:
                return
            bench.predicted(name, fold)
            _write(bench.shop, arguments.figures)


def _write(shop: Workshop, path: Path) -> None:
    """The figures of every arm, on the folds that it and the recipe have."""
    folder = shop.out / "one_change"

    def done(name: str) -> set[int]:
        return {fold for fold in range(FOLDS) if (folder / f"{name}_{fold}.npz").exists()}

    def of(name: str, folds: set[int]) -> Said:
        return said([folder / f"{name}_{fold}.npz" for fold in sorted(folds)])

    arms = {}
    for name in (*ARMS, SHOWN_WRONG, START):
        if folds := done(name) & done(RECIPE):
            arms[name] = {"folds": len(folds), **figures(of(name, folds), of(RECIPE, folds))}
    found = {"steps": STEPS, "slices_a_step": sum(USUAL.values()), "size": SIZE, "arms": arms}
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
