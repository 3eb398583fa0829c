"""A head in more slices than it was drawn in: between neighbours, with other noise, which is quick."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ich_node.phantom import head


def between_slices(thick: head.Phantom, count: int) -> head.Phantom:
    """The phantom in `count` slices over the same height; itself when it has as many."""
    own = len(thick.hu)
    if count == own:
        return thick
    rng = np.random.default_rng(0)
    at = np.clip((np.arange(count) + 0.5) * own / count - 0.5, 0, own - 1)
    low = np.minimum(at.astype(int), own - 2)
    noise = rng.normal(0, 4, thick.hu.shape[1:])
    slices = [_between(thick.hu[k], thick.hu[k + 1], weight, noise) for k, weight in zip(low, at - low, strict=True)]
    spacing = (thick.spacing_mm[0] * own / count, *thick.spacing_mm[1:])
    return head.Phantom(np.stack(slices), thick.mask, spacing, thick.truth)


def _between(
    low: npt.NDArray[np.int16], high: npt.NDArray[np.int16], weight: float, noise: npt.NDArray[np.float64]
) -> npt.NDArray[np.int16]:
    shifted = np.roll(noise, int(weight * 97), axis=(0, 1))
    return np.rint((1 - weight) * low + weight * high + shifted).astype(np.int16)
