"""One change at a time, on the same folds: python -m ich_node.training.evaluate.one_change --help.

What did scale, paintings and phantoms contribute, and would neighbouring slices help? Every arm is the second phase
from the same weights, which saw phantoms only, with the same seed, folds and number of slices; only one thing differs.
The budget is that of a CPU, less than a fiftieth of the recipe's: the arms may be compared with each other, never with
the bundle. Checkpoints and predictions are kept in OUT and not made again, also when the run was ended within an arm; a
run that was cut short compares each arm on the folds that it has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ich_node.infer.see.crop import crop_stack
from ich_node.training.data import ct_ich
from ich_node.training.data.pool import Pool, joined, load, save
from ich_node.training.evaluate import gains, options, short
from ich_node.training.learn import crossval, default
from ich_node.training.learn.batches import Source
from ich_node.training.learn.beside import Alone, Neighboured, NeighbourNetwork
from ich_node.training.learn.network import Network
from ich_node.training.learn.recipe import FOLDS, Recipe, Workshop
from ich_node.training.learn.train import Phase, Trainer
from ich_node.training.synthesis import scans
from ich_node.training.synthesis.canvas import Canvases

STEPS = 80  # chosen: two minutes of one core
COMPARED = 3  # folds; chosen: more than half of the patients
SCANS = 8  # of phantoms, whole: some 200 slices, because the weights have seen so many
WRONG_MM = (5.0, 0.45, 0.45)  # what was once taken for the pixel of the pictures


@dataclass(frozen=True, slots=True)
class Arm:
    """What differs. counts: slices of a step from each source; they sum to 24 everywhere."""

    counts: Mapping[str, int]
    spacing_mm: tuple[float, float, float] = ct_ich.SPACING_MM
    neighbours: bool = False


RECIPE = "as the recipe"
ARMS: Mapping[str, Arm] = {
    RECIPE: Arm(short.USUAL),
    "without paintings": Arm({"real": 13, "phantoms": 11}),
    "with neighbours": Arm(short.USUAL, neighbours=True),
    "at the wrong scale": Arm(short.USUAL, spacing_mm=WRONG_MM),
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
                save(ct_ich.pool(self._patients, arm.spacing_mm), path)
            pool = load(path)
        return pool, short.canvases_in(self.shop.out / f"canvases_{name}.npz", pool)

    def network(self, arm: Arm) -> Network:
        """The network of an arm before phase 2."""
        start = default.network_from(self.weights, short.SIZE)
        return NeighbourNetwork(short.SIZE, start.state_dict()) if arm.neighbours else start

    def sources(self, arm: Arm, fold: int) -> dict[str, Source]:
        """Where the slices of an arm come from, without the patients of `fold`."""
        pool, found = self.real_at(arm)
        seen = np.flatnonzero(self.fold != fold)
        real, phantoms = short.real(pool, seen), short.phantoms(self.phantoms)
        painted = short.painted(pool, found, seen, arm.counts.get("painted", 0))
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
        phase = Phase(f"{name}_{fold}", arm.counts, steps=STEPS, size=short.SIZE, rate=short.RATE, seed=fold)
        torch.manual_seed(fold)
        trained = Trainer(self.network(arm), phase, folder, short.CPU).run(self.sources(arm, fold))
        for spacing, path in targets.values():
            self._predict(trained, fold, spacing, path)

    def start(self, fold: int) -> None:
        """Predict a fold with the weights that all arms start from."""
        path = self.shop.out / "one_change" / f"{START}_{fold}.npz"
        if not path.exists():
            self._predict(default.network_from(self.weights, short.SIZE), fold, ct_ich.SPACING_MM, path)

    def _predict(self, network: Network, fold: int, spacing: tuple[float, float, float], path: Path) -> None:
        unseen = set(np.unique(self.real.patient[self.fold == fold]).tolist())
        short.keep(path, (self._said(network, study, spacing) for study in ct_ich.studies(self._patients, unseen)))

    @property
    def _patients(self) -> Path:
        return self.shop.data / "ct_ich"

    @staticmethod
    def _said(
        network: Network, study: ct_ich.Study, spacing: tuple[float, float, float]
    ) -> dict[str, npt.NDArray[Any]]:
        count = len(study.hu)
        return {
            "patient": np.full(count, study.patient),
            "slice": np.arange(count),
            "label": study.labels,
            "logit": short.answers(network, crop_stack(study.hu, spacing).hu),
        }


def main() -> None:
    """Train and predict what is missing while there are minutes; write the figures after every network."""
    arguments = options.parsed("one_change", __doc__, "root", "out", "weights", "figures", "minutes")
    torch.set_num_threads(1)
    end = time.monotonic() + arguments.minutes * 60
    bench = Bench(Workshop(arguments.root, arguments.out), arguments.weights)
    for name, fold in plan():
        if time.monotonic() < end:
            bench.start(fold)
            bench.predicted(name, fold)
        _write(bench.shop, arguments.figures)


def plan() -> list[tuple[str, int]]:
    """Arms and folds in the order of their training: fold by fold, the wrong scale, which nobody wants, after all."""
    return sorted(product(ARMS, range(COMPARED)), key=lambda job: (ARMS[job[0]].spacing_mm == WRONG_MM, job[1]))


def _write(shop: Workshop, path: Path) -> None:
    """The figures of every arm, on the folds that it and the recipe have."""
    folder = shop.out / "one_change"

    def done(name: str) -> set[int]:
        return {fold for fold in range(FOLDS) if (folder / f"{name}_{fold}.npz").exists()}

    def of(name: str, folds: set[int]) -> gains.Said:
        return gains.said([folder / f"{name}_{fold}.npz" for fold in sorted(folds)])

    arms = {}
    for name in (*ARMS, SHOWN_WRONG, START):
        if folds := done(name) & done(RECIPE):
            arms[name] = {"folds": len(folds), **gains.figures(of(name, folds), of(RECIPE, folds))}
    found = {"steps": STEPS, "slices_a_step": sum(short.USUAL.values()), "size": short.SIZE, "arms": arms}
    options.write(path, found)


if __name__ == "__main__":
    main()
