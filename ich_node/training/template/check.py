"""How well a study is located: rendered CTs of label maps, each located with a template that has not seen its head.

Every head is scanned several times with random tilt, roll and turn, slices of 1 to 5 mm, whole or cut off at the vertex
or above the skull base, with noise. Truth is the label map. Reported are single points of the brain and whole findings:
a ball of 4 to 15 mm somewhere in the brain, blurred to the coarseness of a CAM, named by the functions that the node
uses. "Not sure" is an answer and is counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy import ndimage

from ich_node.domain.findings import Laterality, Volume
from ich_node.infer.say import headspace, locate, skull
from ich_node.infer.say.headspace import INFRATENTORIAL, REGIONS, HeadFrame, Template
from ich_node.infer.say.skull import Inside
from ich_node.infer.see.crop import crop
from ich_node.training.evaluate import metrics
from ich_node.training.template.build import Head, build

FOLDS = 5  # chosen: no head is measured against a template that it is in
SCANS_PER_HEAD = 4  # chosen: poses, thicknesses and cuts differ
LESIONS_PER_SCAN = 12  # chosen: some for every site
THICKNESS_MM = (1.0, 2.5, 3.0, 5.0)  # what scanners make of heads
CUT_OFF_MM = ((0.0, 0.0), (50.0, 0.0), (0.0, 25.0), (40.0, 15.0))
"""What a scan leaves out at the foot end and at the head end."""

PIXEL_MM = 0.9  # chosen: coarse, for speed; the mask is on 2 mm anyway
MIDLINE_MM = 4.0  # as locate.MIDLINE_MM: nearer there is no side
CAM_BLUR_MM = 4.0  # chosen: about the half of a cell of the map
BELOW = np.array([REGIONS.index(name) for name in INFRATENTORIAL])
HU = {
    **dict.fromkeys((2, 41, 7, 46), 29.0),
    **dict.fromkeys((4, 43, 5, 44, 14, 15, 24, 72), 8.0),
    **{502: 42.0, 506: 10.0, 507: 35.0, 508: 55.0, 509: -90.0, 511: 10.0, 512: 38.0, 514: 55.0, 530: 35.0},
    **{515: 1300.0, 516: 550.0},
}
"""Label → HU; every other brain label is grey matter, 0 is air."""


@dataclass(slots=True)
class Tally:
    """Counts over everything that was checked."""

    points: int = 0
    lateral_points: int = 0
    right_side: int = 0
    right_compartment: int = 0
    right_region: int = 0
    lesions: dict[str, list[int]] = field(default_factory=lambda: {"side": [0, 0, 0], "compartment": [0, 0, 0]})
    by_region: dict[str, list[int]] = field(default_factory=lambda: {name: [0, 0] for name in REGIONS})
    overlap: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    scans: int = 0
    not_fitted: int = 0


def check(heads: Sequence[Head], *, seed: int = 0) -> dict[str, Any]:
    """The figures, as plain numbers. Lesions are counted as [right, wrong, not sure]."""
    tally = Tally()
    jobs = [(fold, number) for fold in range(FOLDS) for number in range(fold, len(heads), FOLDS)]
    template: Template | None = None
    built = -1
    for fold, number in track(jobs, "heads"):
        if fold != built:
            template, built = build([head for i, head in enumerate(heads) if i % FOLDS != fold]), fold
        rng = np.random.default_rng((seed, number))
        for _ in range(SCANS_PER_HEAD):
            if template is not None:
                _one_scan(heads[number], template, rng, tally)
    return _figures(tally)


def _one_scan(head: Head, template: Template, rng: np.random.Generator, tally: Tally) -> None:
    volume, region, side = scan(head, rng)
    started = time.perf_counter()
    space = skull.inside(volume, crop(volume))
    frame = locate.fit_head(space, template)
    tally.seconds.append(time.perf_counter() - started)
    tally.scans += 1
    known, left = on_blocks(volume, space, region), on_blocks(volume, space, side)
    brain = known > 0
    tally.overlap.append(metrics.dice(brain, space.mask))
    if frame is None:
        tally.not_fitted += 1
        return
    _points(frame, template, space.positions(brain), known[brain] - 1, left[brain] > 0, tally)
    for heat, truth_side, truth_below in _lesions(space, known, left, rng):
        lit = heat >= 0.5
        at, weight = frame.to_template(space.positions(lit)), heat[lit]
        _count(tally.lesions["side"], locate.side(at[:, 0], weight), truth_side)
        named = locate.compartment(locate.shares(at, weight, template))
        _count(tally.lesions["compartment"], named, "infratentorial" if truth_below else "supratentorial")


def _points(
    frame: HeadFrame,
    template: Template,
    positions: npt.NDArray[np.float64],
    truth: npt.NDArray[np.integer],
    left: npt.NDArray[np.bool_],
    tally: Tally,
) -> None:
    at = frame.to_template(positions)
    probability = template.region_probability(at)
    lateral = (np.abs(at[:, 0]) > MIDLINE_MM) & np.isin(truth, (0, 1))
    tally.points += len(at)
    tally.lateral_points += int(lateral.sum())
    tally.right_side += int(((at[:, 0] > 0) == left)[lateral].sum())
    tally.right_compartment += int(((probability[:, BELOW].sum(axis=1) > 0.5) == np.isin(truth, BELOW)).sum())
    named = probability.argmax(axis=1)
    tally.right_region += int((named == truth).sum())
    for number, name in enumerate(REGIONS):
        tally.by_region[name][0] += int((named[truth == number] == number).sum())
        tally.by_region[name][1] += int((truth == number).sum())


def _lesions(
    space: Inside, region: npt.NDArray[np.integer], left: npt.NDArray[np.integer], rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.float32], Laterality, bool]]:
    """Heat on the blocks, true side, whether infratentorial; balls that lie clearly on one side of the brain."""
    brain = region > 0
    places = space.positions(brain)
    index = np.argwhere(brain)
    slice_mm = max(float(np.linalg.norm(space.origins[-1] - space.origins[0])) / max(len(space.origins) - 1, 1), 0.1)
    blur = (min(2.0, CAM_BLUR_MM / 4 / slice_mm), *(CAM_BLUR_MM / mm for mm in space.block_mm))
    for _ in range(LESIONS_PER_SCAN):
        centre = places[rng.integers(len(places))]
        inside = np.linalg.norm(places - centre, axis=1) < rng.uniform(4, 15)
        cells = tuple(index[inside].T)
        share = float((left[cells] > 0).mean())
        below = float(np.isin(region[cells] - 1, BELOW).mean())
        if not (share > 0.95 or share < 0.05) or 0.05 < below < 0.95:
            continue
        ball = np.zeros(brain.shape, np.float32)
        ball[cells] = 1
        heat = ndimage.gaussian_filter(ball, blur)
        yield heat / heat.max(), Laterality.LEFT if share > 0.5 else Laterality.RIGHT, below > 0.5


def _count(of: list[int], answer: object, truth: object) -> None:
    """[right, wrong, not sure]; "midline" for a one-sided lesion is not sure rather than wrong."""
    unsure = answer is None or answer is Laterality.MIDLINE
    of[2 if unsure else 0 if answer == truth else 1] += 1


def scan(head: Head, rng: np.random.Generator) -> tuple[Volume, npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
    """A CT of a label map in a random pose, with region (Head.region) and side (Head.side) on its grid."""
    angles = np.deg2rad([rng.uniform(-20, 20), rng.normal(0, 4), rng.normal(0, 7)])
    thickness = float(rng.choice(THICKNESS_MM))
    foot, vertex = CUT_OFF_MM[int(rng.integers(len(CUT_OFF_MM)))]
    turn = headspace.rotation(*angles)
    middle = (np.array(head.labels.shape) - 1) / 2
    heights = np.arange(-115 + foot, 110 - vertex, thickness)
    across = (np.arange(round(240 / PIXEL_MM)) - round(240 / PIXEL_MM) / 2) * PIXEL_MM
    z, y, x = np.meshgrid(heights, across, across, indexing="ij")
    at = turn @ np.stack([x, y, z]).reshape(3, -1) + middle[:, None]
    table = np.where(np.arange(1000) > 0, 36.0, -1000.0)
    for label, value in HU.items():
        table[label] = value
    tissue = table[head.labels].astype(np.float32)
    planes = (0.0,) if thickness < 2 else (-thickness / 3, 0.0, thickness / 3)
    step = turn @ np.array([0, 0, 1])
    mean = np.mean([_sampled(tissue, at + offset * step[:, None], -1000) for offset in planes], axis=0)
    hu = np.clip(mean.reshape(z.shape) + rng.normal(0, 4, z.shape), -1024, 3071).astype(np.int16)
    positions = np.stack([np.full(len(heights), across[0]), np.full(len(heights), across[0]), heights], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * (thickness, PIXEL_MM, PIXEL_MM)
    affine[:3, 3] = positions[0]
    uids = tuple(f"2.25.{number + 1}" for number in range(len(heights)))
    volume = Volume(hu, (thickness, PIXEL_MM, PIXEL_MM), affine, positions, uids, headers=())
    region = ndimage.map_coordinates(head.region, at, order=0).reshape(z.shape)
    return volume, region, ndimage.map_coordinates(head.side, at, order=0).reshape(z.shape)


def _sampled(field_: npt.NDArray[np.float32], at: npt.NDArray[np.float64], outside: float) -> npt.NDArray[np.float32]:
    return np.asarray(ndimage.map_coordinates(field_, at, order=1, cval=outside))


def on_blocks(volume: Volume, space: Inside, values: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
    """Values on the CT grid of `scan` at the block centres of `space`."""
    at = space.positions(np.ones(space.mask.shape, np.bool_)) - volume.positions_mm[0]
    index = np.rint(at[:, ::-1] / volume.spacing_mm).astype(int)
    index = np.clip(index, 0, np.array(values.shape) - 1)
    return np.asarray(values[tuple(index.T)].reshape(space.mask.shape), np.int8)


def _figures(tally: Tally) -> dict[str, Any]:
    sure = {name: right + wrong for name, (right, wrong, _) in tally.lesions.items()}
    return {
        "scans": tally.scans,
        "not_fitted": tally.not_fitted,
        "points": tally.points,
        "side_of_points": tally.right_side / tally.lateral_points,
        "compartment_of_points": tally.right_compartment / tally.points,
        "region_of_points": tally.right_region / tally.points,
        "region_of_points_by_region": {name: right / max(n, 1) for name, (right, n) in tally.by_region.items()},
        "findings": {
            name: {
                "count": sum(counts),
                "right_when_sure": metrics.wilson(counts[0], sure[name]),
                "not_sure": counts[2] / max(sum(counts), 1),
            }
            for name, counts in tally.lesions.items()
        },
        "dice_of_intracranial_mask": {"mean": float(np.mean(tally.overlap)), "least": float(np.min(tally.overlap))},
        "seconds": {"median": float(np.median(tally.seconds)), "p95": float(np.quantile(tally.seconds, 0.95))},
    }
