"""Where there is no head: above the vertex, and in images that come after a head was answered.

In: HU of slices, as the worker has them. Out: whether more of the head can be expected, and whether images that came
late show any of it. What shows none changes no answer, and nobody is told twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import Analysis, Volume
from ich_node.infer.see import pixels

TISSUE_HU = -300  # between air and fat
AIR_SHARE = 0.07  # of the largest slice: holders have .01 to .07; of a head, less than 4 mm are left at .07
LAST_SHARE = 0.4
"""Of the slice below. Near its top a round head gets smaller in proportion to what is left of it: at half, it would end
with the next slice. Some room for noise and for the holder."""


def ends_above_the_head(volume: Volume) -> bool:
    """Whether nothing of the head would lie in a slice above the uppermost one, so that no more can be expected."""
    tissue = [_tissue(image) for image in volume.hu]  # one by one: there may be a thousand
    return bool(tissue[-1] <= max(AIR_SHARE * max(tissue), LAST_SHARE * tissue[max(0, len(tissue) - 2)]))


def adds_no_head(analysis: Analysis, paths: Sequence[Path], answered: Path) -> bool:
    """Whether an analysis looked at the slices of an earlier one again, and beyond them at none with a head.

    paths: the images of `analysis`. answered: the result.json of the earlier one. Where the new images keep the series
    from being analysed at all, it is asked of all of them. False in doubt: an answer too many harms less.
    """
    try:
        earlier = {entry["sop_instance_uid"] for entry in json.loads(answered.read_bytes())["slices"]}
    except (OSError, ValueError, LookupError, TypeError):
        return False
    tissue = _of_volume(analysis.volume) if analysis.volume is not None else _of_files(paths)
    if not earlier or not earlier <= tissue.keys():
        return False
    largest = max(tissue[uid] for uid in earlier)
    return all(count <= AIR_SHARE * largest for uid, count in tissue.items() if uid not in earlier)


def _of_volume(volume: Volume) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for uid, image in zip(volume.sop_instance_uids, volume.hu, strict=True):
        found[uid] = max(found.get(uid, 0), _tissue(image))
    return found


def _of_files(paths: Sequence[Path]) -> Mapping[str, int]:
    """The same of every image; nothing where one of them cannot be read: it might show a head."""
    images, unreadable = pixels.open_images(paths)
    if unreadable:
        return {}
    try:
        return {
            str(image.header.SOPInstanceUID): max(
                _tissue(pixels.frame_hu(image, frame)) for frame in _frames(image.frames)
            )
            for image in images
        }
    except UnusableSeries:
        return {}


def _frames(count: int) -> Sequence[int | None]:
    return [None] if count == 1 else range(1, count + 1)


def _tissue(image: pixels.Hu) -> int:
    """Pixels of one slice that are no air."""
    return int(np.count_nonzero(image > TISSUE_HU))
