"""Makes the standard head of infer/say/headspace.py from label maps, and measures how well a study is located with it.

`python -m ich_node.training.template.build --maps DIR` writes the template that ships; `--check` builds it
anew without each tested head and writes the figures of docs/evaluation.md. DIR holds the SynthSeg training label maps
(Billot et al., Medical Image Analysis 2023, Apache-2.0), 1 mm NIfTI files.

Arrays of a label map are [x, y, z] of 1 mm along LPS, so that an index is a position in millimetres.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy import ndimage

from ich_node.infer.say import headspace
from ich_node.infer.say.headspace import REGIONS, HeadFrame, Template
from ich_node.training.evaluate import assess

SPACING_MM = 3.0  # chosen: a head of 1 mm says no more after averaging; the file stays small
HALF_MM = np.array([84.0, 105.0, 96.0])
"""Half the extent of the template's grid: room for a head and the ways out of it."""

MARGIN_MM = 24  # chosen: room for distances outside the brain
ROUNDS = 4  # chosen: the pose has settled by then
BRAIN_LABELS: dict[str, tuple[int, ...]] = {
    "hemisphere": (2, 41, 3, 42, 17, 53, 18, 54, 25, 57, 85),
    "deep grey matter": (10, 49, 11, 50, 12, 51, 13, 52, 26, 58, 28, 60),
    "lateral ventricle": (4, 43, 5, 44, 30, 62),
    "third ventricle": (14,),
    "fourth ventricle": (15,),
    "cerebellum": (7, 46, 8, 47),
    "brain stem": (16,),
}
"""Region → FreeSurfer labels of the maps; hippocampus and amygdala (17, 18, 53, 54) count as hemisphere."""

FLUID_LABELS = (24, 21, 22, 72)  # FreeSurfer codes of what counts as fluid outside the four ventricles
LEFT_LABELS = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 25, 26, 28, 30)  # FreeSurfer codes
RIGHT_LABELS = (41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 57, 58, 60, 62)
"""FreeSurfer codes, in the order of the left."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A label map around its brain.

    labels: int16 [x, y, z], the map's own values. inside: bool, intracranial. distance_mm: float32, to the boundary of
    the intracranial space, negative inside. region: uint8, 1 + index into REGIONS of
    the nearest region, 0 outside. side: int8, +1 nearer to the left hemisphere, −1 to the right.
    """

    labels: npt.NDArray[np.int16]
    inside: npt.NDArray[np.bool_]
    distance_mm: npt.NDArray[np.float32]
    region: npt.NDArray[np.uint8]
    side: npt.NDArray[np.int8]


def read_head(path: Path) -> Head:
    """Read a label map. Raises OSError or nibabel's ImageFileError when it is not one."""
    import nibabel  # noqa: PLC0415  # only with the extra [train]

    image = nibabel.as_closest_canonical(nibabel.load(path))
    labels = np.asarray(image.dataobj).astype(np.int16)[::-1, ::-1]
    return head_of(np.ascontiguousarray(labels))


def head_of(labels: npt.NDArray[np.int16]) -> Head:
    """Derive intracranial space, regions and sides from a label map [x, y, z] along LPS."""
    brain = np.isin(labels, sum(BRAIN_LABELS.values(), ()))
    where = np.argwhere(brain)
    low = np.maximum(where.min(axis=0) - MARGIN_MM, 0)
    high = np.minimum(where.max(axis=0) + MARGIN_MM + 1, labels.shape)
    labels = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    brain = np.isin(labels, sum(BRAIN_LABELS.values(), ()))
    inside = _intracranial(brain, np.isin(labels, FLUID_LABELS))
    region = np.zeros(labels.shape, np.uint8)
    for index, name in enumerate(REGIONS):
        region[np.isin(labels, BRAIN_LABELS[name])] = index + 1
    nearest = ndimage.distance_transform_edt(region == 0, return_distances=False, return_indices=True)
    side = _side(labels)
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    return Head(
        labels, inside, distance.astype(np.float32), np.where(inside, region[tuple(nearest)], 0).astype(np.uint8), side
    )


def _side(labels: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """+1 nearer to the left hemisphere, −1 nearer to the right; distances on every second voxel."""
    coarse = labels[::2, ::2, ::2]
    to_left, to_right = (ndimage.distance_transform_edt(~np.isin(coarse, half)) for half in (LEFT_LABELS, RIGHT_LABELS))
    nearer = ndimage.zoom(to_right - to_left, 2, order=1, grid_mode=True, mode="nearest")
    return np.where(nearer[tuple(slice(n) for n in labels.shape)] >= 0, 1, -1).astype(np.int8)


def _intracranial(brain: npt.NDArray[np.bool_], fluid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    space = ndimage.binary_opening(brain | fluid, iterations=1) | brain
    parts, _ = ndimage.label(space)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_closing(parts == sizes.argmax(), iterations=3))


def surface(inside: npt.NDArray[np.bool_], step: int = 3) -> npt.NDArray[np.float64]:
    """In-plane boundary points [n, 3] in mm of every `step`-th axial slice, foot to head."""
    slices = inside[:, :, ::step]
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    edge = slices & ~ndimage.binary_erosion(slices, structure=cross)
    index = np.argwhere(edge.transpose(2, 0, 1))[:, [1, 2, 0]]
    return np.asarray(index * [1, 1, step], np.float64)


def build(heads: list[Head], rounds: int = ROUNDS) -> Template:
    """Average the heads in a common, symmetric pose; the first pose is that of their mid-planes."""
    frames = [_first_frame(head) for head in heads]
    template = average(heads, frames)
    for _ in range(rounds):
        fitted = [headspace.fit(surface(head.inside), template) for head in heads]
        frames = [frame for frame in fitted if frame is not None]
        template = average(heads, frames)
    return template


def _first_frame(head: Head) -> HeadFrame:
    """Upright as scanned, the middle between the hemispheres' centres at the origin of the template."""
    left = np.argwhere(head.inside & (head.side > 0)).mean(axis=0)
    right = np.argwhere(head.inside & (head.side < 0)).mean(axis=0)
    return HeadFrame(np.eye(3), (left + right) / 2, np.zeros(3), 0.0)


def average(heads: list[Head], frames: list[HeadFrame]) -> Template:
    """Mean distance to the boundary and mean region membership, each head together with its mirror image."""
    counts = np.round(2 * HALF_MM / SPACING_MM).astype(int) + 1
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1) * SPACING_MM - HALF_MM
    points = grid.reshape(-1, 3)
    distance = np.zeros(len(points), np.float64)
    regions = np.zeros((len(REGIONS), len(points)), np.float64)
    for head, frame in zip(heads, frames, strict=True):
        index = ((points - frame.shift) @ np.linalg.inv(frame.matrix).T + frame.centre).T
        distance += _sample_distance(head.distance_mm, index)
        known = ndimage.map_coordinates(head.region, index, order=0, mode="constant")
        for number in range(len(REGIONS)):
            regions[number] += known == number + 1
    distance, regions = distance / len(heads), regions / len(heads)
    shaped, maps = distance.reshape(tuple(counts)), regions.reshape(-1, *counts)
    shaped, maps = (shaped + shaped[::-1]) / 2, (maps + maps[:, ::-1]) / 2
    return headspace.unpack(*pack(_zeroed(shaped), _filled(maps)), -HALF_MM, SPACING_MM)


def _sample_distance(signed: npt.NDArray[np.float32], index: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The distance at voxel coordinates [3, n]; beyond the map it grows with the way out of the map."""
    beyond = np.clip(index, 0, np.array(signed.shape)[:, None] - 1)
    outside_mm = np.linalg.norm(index - beyond, axis=0)
    return np.asarray(ndimage.map_coordinates(signed, beyond, order=1) + outside_mm)


def _zeroed(mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A true distance again: the mean of distances is flatter than a distance where the heads differ."""
    fine = ndimage.zoom(mean, 3, order=1, grid_mode=True, mode="nearest") < 0
    signed = ndimage.distance_transform_edt(~fine) - ndimage.distance_transform_edt(fine)
    return np.asarray(signed[1::3, 1::3, 1::3] * SPACING_MM / 3)


def _filled(maps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Every voxel knows a region: where no head reaches, that of the nearest voxel where one does."""
    empty = maps.sum(axis=0) == 0
    nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return np.asarray(maps[(slice(None), *nearest)])


def pack(
    distance: npt.NDArray[np.float64], regions: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    """The stored form of `headspace.unpack`."""
    share = regions / np.maximum(regions.sum(axis=0), 1e-9)
    return np.clip(np.rint(distance * 2), -127, 127).astype(np.int8), np.rint(share * 255).astype(np.uint8)


def save(template: Template, path: Path) -> None:
    """Write the template as the package ships it."""
    distance, regions = pack(template.distance_mm.astype(np.float64), template.regions.astype(np.float64))
    np.savez_compressed(
        path, distance=distance, regions=regions, origin_mm=template.origin_mm, spacing_mm=template.spacing_mm
    )


def read_heads(folder: Path) -> list[Head]:
    """Every label map of a folder, by name. Raises FileNotFoundError when there is none."""
    files = sorted(folder.glob("*.nii*"))
    if not files:
        raise FileNotFoundError(f"no NIfTI file in {folder}")
    return [read_head(path) for path in track(files, "label maps", transient=True)]


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m ich_node.training.template.build", description=__doc__)
    parser.add_argument("--maps", type=Path, required=True, metavar="DIR", help="SynthSeg training label maps")
    parser.add_argument("--out", type=Path, default=headspace.TEMPLATE, help="the template to write")
    parser.add_argument("--check", type=Path, metavar="JSON", help="measure instead of writing the template")
    arguments = parser.parse_args()
    heads = read_heads(arguments.maps)
    if arguments.check is None:
        save(build(heads), arguments.out)
        return
    from ich_node.training.template.check import check  # noqa: PLC0415  # it imports this module

    arguments.check.write_text(json.dumps(assess.plain(check(heads)), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
