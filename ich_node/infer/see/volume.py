"""Paths of one series in, one `Volume` in HU out: slices foot to head, every oddity named.

A file that cannot be read costs its own slice, never the series; whether what remains is enough is the gates'
business. Raises UnusableSeries only when no volume can be made at all. MAX_VOXELS bounds memory whatever the files say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ich_node.dicom import geometry
from ich_node.dicom.eligibility import PlanesOf
from ich_node.dicom.geometry import Plane, Stack
from ich_node.dicom.reading import cleaned, text
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import Volume
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see import cage, pixels, rivals
from ich_node.infer.see.pixels import Hu, Image

CT_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
AHEAD = 4
"""Slices per decoder that are asked for at once; what is decoded and not yet looked at stays small."""

TOO_COSTLY, MOST_COSTLY = Reason(Why.PIXELS_TOO_COSTLY), 2
"""A damaged slice or two may cost a decoder its life; a series with more of them is an attack or worthless."""

AIR_BELOW_HU, MUCH_AIR, NO_AIR, BLANK = -500, 0.1, 0.1, 0.995
"""Chosen: round a head lies air, of which there is about as much on the next slice. A slice with a tenth of it is
shifted in its values, and one that is nothing else is blank, unless it lies above the head."""

OVERLAPPING = 1.4
"""A slice that much thicker than the step to the next overlaps it by nearly half, or belongs to another scan."""
MAX_VOXELS = 1 << 29
"""One GiB of HU: 2,000 slices of 512², 500 of 1024². Beyond the slabs nothing is made of every voxel."""


Places = tuple[list[tuple[Image, Plane]], Hu]


def read_volume(paths: Sequence[Path]) -> Volume:
    """Read the CT slices among `paths`, all of one series, as one volume.

    Raises UnusableSeries with the reason when nothing readable forms a stack, or the images are of several series.
    """
    return volume_of(*pixels.open_images(paths))


def volume_of(opened: Sequence[Image], unreadable: Counter[Reason], planes_of: PlanesOf = geometry.planes_of) -> Volume:
    """As `read_volume`, of images that are open already; unreadable: why others are not."""
    with pixels.quiet():
        reasons = unreadable.copy()
        images = _of_ct(opened, reasons)
        places = _places(images, reasons, planes_of)
        if not places:
            raise UnusableSeries(_most_common(reasons))
        stack = geometry.stack_of([plane for _, plane in places])
        stack = _one_scan(places, stack)
        slices, hu = _like_neighbours(*_read([places[index] for index in stack.order], reasons), reasons)
        left_out = stack.left_out_warnings
        if len(slices) < len(stack.order):  # drawn up again around the slices that could not be decoded
            stack = geometry.stack_of([plane for _, plane in slices])
            slices, hu = [slices[index] for index in stack.order], hu[list(stack.order)]
        return _volume(slices, stack, hu, (*_unreadable(reasons), *left_out))


def _of_ct(opened: Sequence[Image], reasons: Counter[Reason]) -> list[Image]:
    images = []
    for image in opened:
        try:
            if image.header.get("SOPClassUID") not in CT_CLASSES:
                raise UnusableSeries(Reason(Why.NOT_CT, classes=UID(text(image.header, "SOPClassUID")).name))
            pixels.check_pixels(image)
        except UnusableSeries as error:
            reasons[error.reason] += 1
        else:
            images.append(image)
    if len({image.header.get("SeriesInstanceUID") for image in images}) > 1:
        raise UnusableSeries(Reason(Why.SEVERAL_SERIES))
    return images


def _places(images: Sequence[Image], reasons: Counter[Reason], planes_of: PlanesOf) -> list[tuple[Image, Plane]]:
    """Every frame of every image with its plane."""
    places = []
    for image in images:
        try:
            planes = planes_of(image.header)
            if planes[-1:] and planes[-1].frame_number is not None and len(planes) != image.frames:
                raise UnusableSeries(Reason(Why.FRAMES_DIFFER, promised=image.frames, described=len(planes)))
            if not planes or (planes[0].frame_number is None and image.frames != 1):
                raise UnusableSeries(Reason(Why.FRAMES_WITHOUT_POSITION))
        except UnusableSeries as error:
            reasons[error.reason] += 1
        else:
            places += [(image, plane) for plane in planes]
    return places


def _one_scan(places: list[tuple[Image, Plane]], stack: Stack) -> Stack:
    """The stack of one scan by the pixels, where several images share places and headers tell nothing apart."""
    here = {place[0]: place for place in stack.rivals}
    others: set[int] = set()
    if here:
        candidates = [here.get(index, (index,)) for index in stack.order]
        images = [[_hu_or_nothing(*places[index]) for index in place] for place in candidates]
        numbers = rivals.separate(images)
        others = {index for place, kept in zip(candidates, numbers, strict=True) for index in place} - {
            place[kept] for place, kept in zip(candidates, numbers, strict=True)
        }
    elif may_be_zipped := _may_be_zipped(stack):
        inside = [stack.order[place] for place in may_be_zipped]
        start = rivals.parity([_hu_or_nothing(*places[index]) for index in inside])
        if start is not None and len(inside) < len(stack.order):  # the scan that goes on beyond is the whole one
            start = 0 if may_be_zipped[0] > 0 else (len(inside) - 1) % 2
        others = set() if start is None else set(inside) - set(inside[start::2])
    if not others:
        return stack
    left = [index for index in range(len(places)) if index not in others]
    again = geometry.stack_of([places[index][1] for index in left])
    return replace(
        again,
        order=tuple(left[index] for index in again.order),
        left_out=(
            *((left[i], why) for i, why in again.left_out),
            *((i, Reason(Why.OTHER_ACQUISITION)) for i in others),
        ),
        warnings=(*again.warnings, *_several(stack, others)),
    )


def _several(stack: Stack, others: set[int]) -> tuple[Reason, ...]:
    """That there was another scan, when it was more than a few images."""
    if 2 * len(others) < len(stack.order):
        return ()
    return (Reason(Why.SEVERAL_UNNAMED, images=len(others)),)


def _may_be_zipped(stack: Stack) -> range:
    """Places where two scans half a step apart look like one: slices overlap by half, or two rotations are in turn."""
    everywhere = range(len(stack.order))
    rotations = [replace(made, instance=None) for made in stack.made]
    if len(set(rotations)) == 2 and rotations[::2] != rotations[1::2] and rotations[:-2] == rotations[2:]:
        return everywhere
    thinnest_mm = min(made.thickness_mm or 0.0 for made in stack.made)
    wide = [-1, *np.flatnonzero(thinnest_mm <= OVERLAPPING * stack.distances_mm), len(stack.order) - 1]
    return max((everywhere[below + 1 : above + 1] for below, above in pairwise(wide)), key=len)


def _hu_or_nothing(image: Image, plane: Plane) -> Hu:
    """The HU of an image; air where it cannot be read, which `_read` names."""
    try:
        return pixels.frame_hu(image, plane.frame_number)
    except UnusableSeries:
        return np.full(plane.shape, pixels.AIR_HU, np.int16)


def _read(slices: list[tuple[Image, Plane]], reasons: Counter[Reason]) -> Places:
    """The slices whose pixels can be decoded, and their HU [slices, rows, columns]."""
    rows, columns = slices[0][1].shape
    if len(slices) * rows * columns > MAX_VOXELS:
        raise UnusableSeries(Reason(Why.TOO_LARGE, count=len(slices), rows=rows, columns=columns))
    hu = np.empty((len(slices), rows, columns), np.int16)
    good: list[tuple[Image, Plane]] = []
    for place, found in zip(slices, _decoded(slices), strict=True):
        if isinstance(found, Reason):
            reasons[found] += 1
            if reasons[TOO_COSTLY] > MOST_COSTLY:
                raise UnusableSeries(TOO_COSTLY)
        else:
            hu[len(good)] = found
            good.append(place)
    if not good:
        raise UnusableSeries(_most_common(reasons))
    return good, hu[: len(good)]


def _like_neighbours(slices: list[tuple[Image, Plane]], hu: Hu, reasons: Counter[Reason]) -> Places:
    """Slices and HU without those that are blank, or that another rescale made no HU, between others that are."""
    if len(slices) < 2:
        return slices, hu
    air = np.array([np.mean(image[::8, ::8] < AIR_BELOW_HU) for image in hu])
    beside = np.array([np.median(np.delete(air[max(0, at - 2) : at + 3], min(at, 2))) for at in range(len(air))])
    below, above = np.concatenate([[1], air[:-1]]), np.concatenate([air[1:], [1]])
    blank = (air > BLANK) & (np.maximum(below, above) < BLANK - MUCH_AIR)
    wrong = (beside > MUCH_AIR) & (air < NO_AIR * beside) | blank
    kept = np.flatnonzero(~wrong)
    if len(kept) in (0, len(slices)) or len(kept) < len(slices) / 2:  # then it is the gates' business
        return slices, hu
    reasons[Reason(Why.UNLIKE_NEIGHBOURS)] += len(slices) - len(kept)
    return [slices[at] for at in kept], hu[kept]


def _decoded(slices: Sequence[tuple[Image, Plane]]) -> Iterator[Hu | Reason]:
    """HU of each slice, or why there are none, in their order; compressed ones are decoded side by side."""

    def read(place: tuple[Image, Plane]) -> Hu | Reason:
        try:
            return pixels.frame_hu(place[0], place[1].frame_number)
        except UnusableSeries as error:
            return error.reason

    if all(image.transfer_syntax in pixels.NATIVE for image, _ in slices):
        yield from map(read, slices)
        return
    width = cage.shared().size
    with ThreadPoolExecutor(width) as pool:
        for start in range(0, len(slices), AHEAD * width):
            yield from pool.map(read, slices[start : start + AHEAD * width])


def _volume(slices: list[tuple[Image, Plane]], stack: Stack, hu: Hu, warnings: tuple[Reason, ...]) -> Volume:
    frames = [plane.frame_number for _, plane in slices]
    wrong = cleaned({id(image): image.header for image, _ in slices}.values())
    return Volume(
        hu=hu,
        spacing_mm=stack.spacing_mm,
        affine=stack.affine,
        positions_mm=stack.positions_mm,
        sop_instance_uids=tuple(plane.sop_instance_uid for _, plane in slices),
        headers=tuple(image.header for image, _ in slices),
        frame_numbers=None if None in frames else tuple(number for number in frames if number is not None),
        warnings=(*warnings, *stack.warnings, *wrong),
    )


def _unreadable(reasons: Counter[Reason]) -> tuple[Reason, ...]:
    return tuple(Reason(Why.LEFT_OUT, count=count, because=reason) for reason, count in reasons.most_common())


def _most_common(reasons: Counter[Reason]) -> Reason:
    return reasons.most_common(1)[0][0] if reasons else Reason(Why.NO_IMAGES)
