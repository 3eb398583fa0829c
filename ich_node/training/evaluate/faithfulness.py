"""Is the CAM the evidence? Deletion and insertion curves (Petsiuk, Das and Saenko, BMVC 2018).

Deletion: the hottest pixels inside the skull are replaced by ordinary brain, and the probability should fall at once.
Insertion: the brain starts as ordinary everywhere, the hottest pixels come back first, and it should rise at once. The
same is done with cells of the CAM's size in random order, for comparison. Arrays are one head box [rows, columns].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ich_node.training.evaluate import metrics

FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Chosen: denser at the start, where a good map changes the answer."""
CELL_PX = 16  # chosen: random order in cells about as coarse as those of the map
Score = Callable[[npt.NDArray[np.int16]], npt.NDArray[np.floating]]
Mask = npt.NDArray[np.bool_]


class Curves(NamedTuple):
    """Probability at FRACTIONS of the pixels inside the skull, deleted or inserted, by heat and at random."""

    deletion: npt.NDArray[np.float64]
    insertion: npt.NDArray[np.float64]
    random_deletion: npt.NDArray[np.float64]
    random_insertion: npt.NDArray[np.float64]

    def areas(self) -> dict[str, float]:
        """Area under each curve over the fraction of pixels; small is good for deletion, large for insertion."""
        return {name: metrics.area_under(FRACTIONS, curve) for name, curve in self._asdict().items()}


def curves(
    hu: npt.NDArray[np.int16], heat: npt.NDArray[np.floating], inside: Mask, score: Score, rng: np.random.Generator
) -> Curves:
    """The four curves of one slice. `score` gives the probability of each image of a stack [n, rows, columns]."""
    by_heat = rank(heat, inside, rng)
    by_chance = rank(_cells(hu.shape, rng), inside, rng)
    stacks = [stack(hu, order, inside, removed) for order in (by_heat, by_chance) for removed in (True, False)]
    values = np.asarray(score(np.concatenate(stacks)), np.float64).reshape(4, len(FRACTIONS))
    return Curves(values[0], values[1], values[2], values[3])


def rank(heat: npt.NDArray[np.floating], inside: Mask, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Share of the inside that is hotter than a pixel, 0 … 1, ties in random order; NaN outside."""
    values = heat[inside]
    order = np.lexsort((rng.random(len(values)), -values))
    position = np.empty(len(values))
    position[order] = np.arange(len(values)) / max(len(values), 1)
    shares = np.full(heat.shape, np.nan)
    shares[inside] = position
    return shares


def stack(
    hu: npt.NDArray[np.int16], shares: npt.NDArray[np.float64], inside: Mask, removed: bool
) -> npt.NDArray[np.int16]:
    """One image per fraction, int16 [len(FRACTIONS), rows, columns]: hottest pixels removed, or alone brought back."""
    ordinary = hu.copy()
    ordinary[inside] = np.int16(np.median(hu[inside])) if inside.any() else np.int16(0)
    hottest = np.stack([shares < fraction for fraction in FRACTIONS])
    return np.where(hottest, ordinary, hu) if removed else np.where(hottest | ~inside, hu, ordinary)


def _cells(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    rows, columns = (-(-size // CELL_PX) for size in shape)
    cells = rng.random((rows, columns))
    return np.repeat(np.repeat(cells, CELL_PX, axis=0), CELL_PX, axis=1)[: shape[0], : shape[1]]
