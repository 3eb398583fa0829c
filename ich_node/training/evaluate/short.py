"""What the short trainings of this folder share: a CPU's budget, the sources of their slices, and their predictions.

They are made to be compared with each other, on the same studies, and never with the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ich_node.training.data.pool import Pool
from ich_node.training.learn.batches import Draw, Paintings, Real, Shelf
from ich_node.training.learn.network import Network
from ich_node.training.synthesis.canvas import Canvases, canvases
from ich_node.training.synthesis.painting import Painter

SIZE = 160  # pixels: chosen, two fifths of the work of 256
RATE = 6e-4  # chosen: that of the recipe's second phase, less for smaller batches
USUAL = {"real": 9, "painted": 8, "phantoms": 7}
"""Slices of a step from each source: the shares of the recipe, 24 in all."""
BLOCK = 6  # steps that one block of paintings serves
CPU = torch.device("cpu")


def canvases_in(path: Path, pool: Pool) -> Canvases:
    """What can be painted on the slices of `pool`; found once and kept in the file `path`."""
    if not path.exists():
        found = canvases(pool)
        np.savez_compressed(path, index=found.index, depth=found.depth, ventricles=found.ventricles)
    with np.load(path) as arrays:
        return Canvases(arrays["index"], arrays["depth"], arrays["ventricles"])


def real(pool: Pool, among: npt.NDArray[np.intp]) -> Real:
    """The slices `among` those of the patients."""
    return Real(Shelf(pool, CPU), pool, CPU, among)


def painted(pool: Pool, found: Canvases, among: npt.NDArray[np.intp], count: int) -> Paintings:
    """Paintings on the canvases `among` the patients' slices, `count` for a step."""
    use = np.isin(found.index, among)
    own = Canvases(found.index[use], found.depth[use], found.ventricles[use])
    return Paintings(Painter(pool, own, CPU), count * BLOCK)


def phantoms(pool: Pool) -> Draw:
    """The phantom slices whose label is clear."""
    return Draw(Shelf(pool, CPU), CPU, np.flatnonzero(~pool.doubtful))


def answers(network: Network, hu: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Logits [slices, 6] of head boxes, foot to head."""
    with torch.no_grad():
        return np.asarray(network.eval()(torch.from_numpy(hu))[0].numpy(), np.float32)


def keep(path: Path, studies: Iterable[dict[str, npt.NDArray[Any]]]) -> None:
    """Write the predictions of studies as `evaluate.gains` reads them; the file appears whole or not at all."""
    parts = list(studies)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        together = {key: np.concatenate([one[key] for one in parts]) for key in parts[0]}
        np.savez(stream, allow_pickle=False, **together)
    part.rename(path)
