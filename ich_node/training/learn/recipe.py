"""The default recipe: everything that decides what onnx/ich.onnx is, apart from the data, and where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ich_node.training.learn.train import Phase

FOLDS = 5  # chosen: the usual five: each network is measured on heads that it has not seen
FINAL = "final"
"""The name of the network that ships; the others are numbered by the fold that they leave out."""

FIRST = Phase("first", {"phantoms": 128}, steps=1600, rate=1.2e-3)
SECOND = Phase("second", {"real": 24, "painted": 54, "phantoms": 50}, steps=1200, rate=1.0e-3)
"""128 slices a step keep a GPU busy and are still cheap to make on two cores."""
NETWORKS = (FINAL, *range(FOLDS))


@dataclass(frozen=True, slots=True)
class Recipe:
    """first: phantoms only, shared by all networks. second: `runs` times for every network.

    minutes: of training in all, where the clock decides instead of the steps; first_share: of the first phase.
    chunks: of phantoms; enough: the number of slices with which training starts. weights: what the first phase starts
    from, instead of the ImageNet weights of the backbone's package. block: steps that one block of paintings serves.
    capacity: phantom slices that are kept at hand.
    """

    seed: int = 2026
    chunks: int = 2500
    enough: int = 700
    capacity: int = 60_000
    first: Phase = FIRST
    second: Phase = SECOND
    runs: int = 2
    minutes: float = math.inf
    first_share: float = 0.09
    block: int = 8
    weights: Path | None = None

    def seconds(self, phase: str) -> float:
        """The time of one run of the first or second phase."""
        if phase == self.first.name:
            return self.minutes * 60 * self.first_share
        return self.minutes * 60 * (1 - self.first_share) / (len(NETWORKS) * self.runs)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where the data are and where everything is kept."""

    data: Path
    out: Path

    @property
    def real(self) -> Path:
        """The pool of CT-ICH."""
        return self.out / "ct_ich.npz"

    @property
    def heads(self) -> Path:
        """The folder of the heads from label maps."""
        return self.out / "heads"

    @property
    def phantoms(self) -> Path:
        """The folder of the synthetic chunks."""
        return self.out / "phantoms"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.out / "checkpoints"

    @property
    def anatomy(self) -> Path:
        """What the heads of every source measure."""
        return self.out / "anatomy.json"

    @property
    def runs(self) -> Path:
        """Steps and seconds of every run, for the model card."""
        return self.out / "runs.json"

    def network(self, name: int | str) -> Path:
        """The finished weights of a network."""
        return self.out / "networks" / f"{name}.pt"
