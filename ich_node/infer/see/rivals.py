"""Several images at a place that no header tells apart: their pixels do, where they can.

In: HU of the images at every place, foot to head. Out: which image of each place belongs to one and the same scan, or
UnusableSeries. A scan goes on from slice to slice, so that an image is more like its neighbour of the same scan than
like that of another one: two scans that differ (the patient moved, a contrast agent came) fall apart into two chains.
Of the chains the smoothest is taken: motion, contrast and a sharp kernel all make an image rougher. Nothing depends on
the order of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
from scipy import optimize

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why

Hu = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]

BLOCK = 4
"""Pixels are averaged over blocks of 4 × 4, so that noise does not decide."""
WINDOW_HU = (-150, 250)
"""What tells two scans apart: the outline of the head, vessels, brain; not the density of bone."""
CLEAR = 0.95
"""The right assignment from place to place must differ less than this share of the next best one."""
ALIKE = 0.5
"""Images at a place that differ by less than this share of a step to the next place tell nothing: either will do."""
ZIPPED = 1.15
"""Neighbours that differ this much more than next but one neighbours belong to two scans, slice by slice in turn."""
SAME_HU = 0.5
"""Images that differ by less on average are copies of one."""
FEW = 0.2
"""Up to this share of all places may have a second image that is no second scan: a page, a repeated slice."""


def separate(places: Sequence[Sequence[Hu]]) -> tuple[int, ...]:
    """For every place, foot to head, the number of the image that belongs to the chosen scan.

    Raises UnusableSeries when the images do not fall apart into scans.
    """
    looks = [_distinct([_coarse(image) for image in images]) for images in places]
    most = max(len(look) for look in looks)
    if most == 1:
        return tuple(look[0][0] for look in looks)
    if sum(len(look) > 1 for look in looks) <= max(1, FEW * len(looks)):
        return _by_neighbours(looks)
    chains = _chains(looks, most)
    roughness = [_roughness([image for _, image in chain]) for chain in chains]
    return tuple(number for number, _ in chains[int(np.argmin(roughness))])


def parity(images: Sequence[Hu]) -> int | None:
    """0 or 1 when only every second image, from that one on, is one scan; None when all of them are."""
    looks = [_coarse(image) for image in images]
    if len(looks) < 2 * 8:  # too few to tell
        return None
    near = np.median([_difference(one, other) for one, other in pairwise(looks)])
    next_but_one = np.median([_difference(one, other) for one, other in zip(looks, looks[2:], strict=False)])
    if near <= ZIPPED * next_but_one:
        return None
    return int(np.argmin([_roughness(looks[start::2]) for start in (0, 1)]))


def _coarse(image: Hu) -> Floats:
    rows, columns = image.shape[0] // BLOCK * BLOCK, image.shape[1] // BLOCK * BLOCK
    clipped = np.clip(image[:rows, :columns], *WINDOW_HU).astype(np.float32)
    return np.asarray(clipped.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).mean(axis=(1, 3)))


def _difference(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).mean())


def _roughness(images: Sequence[Floats]) -> float:
    return float(np.mean([np.abs(np.diff(image, axis=axis)).mean() for image in images for axis in (0, 1)]))


def _distinct(looks: list[Floats]) -> list[tuple[int, Floats]]:
    """(number, image) without copies, in an order that only the pixels decide."""
    found: list[tuple[int, Floats]] = []
    for number, look in enumerate(looks):
        if all(_difference(look, other) > SAME_HU for _, other in found):
            found.append((number, look))
    return sorted(found, key=lambda item: item[1].tobytes())


def _by_neighbours(looks: list[list[tuple[int, Floats]]]) -> tuple[int, ...]:
    """Where only a few places have two images, the one that is more like the slices around it."""
    certain = {index: look[0][1] for index, look in enumerate(looks) if len(look) == 1}
    chosen = []
    for index, look in enumerate(looks):
        around = sorted(certain, key=lambda other: (abs(other - index), other))[:2]
        chosen.append(min(look, key=lambda item: sum(_difference(item[1], certain[other]) for other in around))[0])
    return tuple(chosen)


def _chains(looks: list[list[tuple[int, Floats]]], most: int) -> list[list[tuple[int, Floats]]]:
    """As many chains as images at a place, each going from an image to the one most like it at the next place."""
    if any(len(look) not in (1, most) for look in looks):
        raise UnusableSeries(Reason(Why.INSEPARABLE))
    start = next(index for index, look in enumerate(looks) if len(look) == most)
    chains = [{start: item} for item in looks[start]]
    for way in (range(start + 1, len(looks)), range(start - 1, -1, -1)):
        last = [chain[start][1] for chain in chains]
        for index in way:
            if len(looks[index]) == 1:
                for chain in chains:
                    chain[index] = looks[index][0]
                continue
            cost = np.array([[_difference(one, other) for _, other in looks[index]] for one in last])
            _, partner = optimize.linear_sum_assignment(cost)
            straight = cost[np.arange(most), partner].sum()
            apart = most * min(_difference(a[1], b[1]) for a, b in combinations(looks[index], 2))
            if straight > CLEAR * _next_best(cost, partner) and apart > ALIKE * straight:
                raise UnusableSeries(Reason(Why.INSEPARABLE))
            for number, chain in enumerate(chains):
                chain[index] = looks[index][int(partner[number])]
                last[number] = chain[index][1]
    return [[chain[index] for index in range(len(looks))] for chain in chains]


def _next_best(cost: npt.NDArray[np.floating], partner: npt.NDArray[np.intp]) -> float:
    """The cost of the best assignment that differs from `partner`: two images exchange theirs."""
    best = np.inf
    for one in range(len(partner)):
        for other in range(one):
            swapped = partner.copy()
            swapped[[one, other]] = partner[[other, one]]
            best = min(best, float(cost[np.arange(len(partner)), swapped].sum()))
    return best
