"""The standard head: a coarse template of the intracranial space, and its fit to a study.

The template is made by `python -m ich_node.training.template.build` from SynthSeg label maps (Billot et al., Medical
Image Analysis 2023, Apache-2.0). It holds, on a grid of 3 mm, the mean distance to the inner table of the skull and the
probability of every region. Template axes are millimetres along LPS: +x to the left, +y to posterior, +z to the head;
x = 0 is the midline plane.

A study is brought to it by nine parameters: three rotations, three shifts, three scales. Only the in-plane boundary of
the intracranial mask takes part, never its first and last slice as such, so that a scan that stops short of the
vertex or of the skull base is not squeezed into the whole template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from ich_node.domain.findings import INNER_SITES

TEMPLATE = Path(__file__).with_name("template.npz")
REGIONS = ("hemisphere", *INNER_SITES)
"""The regions of the template's probability maps, in their order."""

INFRATENTORIAL = ("fourth ventricle", "cerebellum", "brain stem")
SURFACE_POINTS = 450  # chosen: fifty for each of the nine parameters; more make the fit slower
MIN_SURFACE_POINTS = 100  # chosen: ten for each of the nine parameters; fewer are no head
ROBUST_MM = 4.0  # chosen: two blocks of the mask; a point that misses by more counts for less
PITCH_STARTS_RAD = (-0.3, 0.05, 0.35)
"""Chosen: chin up, level, chin down; a fit only finds the pose nearest to its start."""
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """distance_mm: float32 [nx, ny, nz], negative inside. regions: float32 [len(REGIONS), nx, ny, nz], sums to 1.

    origin_mm: template mm of the centre of voxel (0, 0, 0); spacing_mm: edge of a voxel.
    """

    distance_mm: npt.NDArray[np.float32]
    regions: npt.NDArray[np.float32]
    origin_mm: Points
    spacing_mm: float

    def distance(self, points: Points) -> Points:
        """Signed distance in mm at template points [n, 3]; outside the grid, that of its nearest voxel."""
        return np.asarray(ndimage.map_coordinates(self.distance_mm, self._index(points), order=1, mode="nearest"))

    def region_probability(self, points: Points) -> Points:
        """Probability [n, len(REGIONS)] at template points [n, 3]."""
        index = np.rint(self._index(points)).astype(int)
        index = np.clip(index, 0, np.array(self.distance_mm.shape)[:, None] - 1)
        return np.asarray(self.regions[:, index[0], index[1], index[2]].T, np.float64)

    def _index(self, points: Points) -> Points:
        return np.asarray(((points - self.origin_mm) / self.spacing_mm).T)


@dataclass(frozen=True, slots=True, eq=False)
class HeadFrame:
    """From the patient (LPS mm) to the template: matrix @ (position − centre) + shift. residual_mm: median misfit."""

    matrix: npt.NDArray[np.float64]
    centre: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    residual_mm: float

    def to_template(self, positions: Points) -> Points:
        """LPS mm [n, 3] → template mm [n, 3]."""
        return np.asarray((positions - self.centre) @ self.matrix.T + self.shift)


@cache
def shipped() -> Template:
    """The template that ships with the package."""
    with np.load(TEMPLATE) as stored:
        return unpack(stored["distance"], stored["regions"], stored["origin_mm"], float(stored["spacing_mm"]))


def unpack(
    distance: npt.NDArray[np.int8], regions: npt.NDArray[np.uint8], origin_mm: Points, spacing_mm: float
) -> Template:
    """A template from its stored form: half millimetres in int8, probabilities as shares of 255 in uint8."""
    probability = regions.astype(np.float32)
    probability /= np.maximum(probability.sum(axis=0), 1)
    return Template(
        distance.astype(np.float32) / np.float32(2), probability, np.asarray(origin_mm, np.float64), spacing_mm
    )


def fit(surface: Points, template: Template) -> HeadFrame | None:
    """Bring the boundary of an intracranial mask, LPS mm [n, 3], to the template; None with too few points."""
    if len(surface) < MIN_SURFACE_POINTS:
        return None
    points = surface[np.linspace(0, len(surface) - 1, min(SURFACE_POINTS, len(surface))).astype(int)]
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    around = points - centre
    box = _box(template)
    poses = [_start(around, box, pitch) for pitch in PITCH_STARTS_RAD]
    rough = min((_solve(pose, around[::3], template, evaluations=6) for pose in poses), key=lambda found: found.cost)
    best = _solve(rough.x, around, template, evaluations=14, loss="cauchy")
    matrix, shift = _transform(best.x)
    residual = float(np.median(np.abs(template.distance(around @ matrix.T + shift))))
    return HeadFrame(matrix, centre, shift, residual)


def _box(template: Template) -> tuple[Points, Points]:
    """The lowest and the highest template mm of what lies inside, along each axis."""
    inner = template.distance_mm < 0
    ends = [np.flatnonzero(inner.any(axis=across))[[0, -1]] for across in ((1, 2), (0, 2), (0, 1))]
    low, high = np.array(ends).T * template.spacing_mm + template.origin_mm
    return low, high


def _start(around: Points, box: tuple[Points, Points], pitch: float) -> Points:
    """No turn but a pitch, template size, and the vertex of the mask under that of the template, which fills `box`."""
    turned = around @ rotation(pitch, 0, 0).T
    low, high = turned.min(axis=0), turned.max(axis=0)
    shift = (box[0] + box[1]) / 2 - (low + high) / 2
    shift[2] = box[1][2] - high[2]
    return np.concatenate([[pitch, 0, 0], shift / 20, np.zeros(3)])


def _solve(
    start: Points, around: Points, template: Template, evaluations: int, loss: str = "soft_l1"
) -> optimize.OptimizeResult:
    def misfit(parameters: Points) -> Points:
        matrix, shift = _transform(parameters)
        distance = template.distance(around @ matrix.T + shift) / ROBUST_MM
        return np.concatenate([distance, np.sqrt(len(around)) * _priors(parameters)])

    return optimize.least_squares(misfit, start, loss=loss, method="trf", max_nfev=evaluations)


def _priors(parameters: Points) -> Points:
    """Pull towards a head of ordinary size and proportions that is not rolled; weak against clear evidence."""
    scales = parameters[6:9]
    return np.concatenate([scales, 1.5 * (scales - scales.mean()), 0.3 * parameters[1:3], [0.1 * parameters[0]]])


def _transform(parameters: Points) -> tuple[Points, Points]:
    return np.diag(np.exp(parameters[6:9])) @ rotation(*parameters[:3]), parameters[3:6] * 20


def rotation(pitch: float, roll: float, yaw: float) -> Points:
    """Rotation about x (nodding), then y (tilting to a shoulder), then z (turning), in radians."""
    (ca, cb, cc), (sa, sb, sc) = np.cos([pitch, roll, yaw]), np.sin([pitch, roll, yaw])
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
