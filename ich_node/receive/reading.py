"""The headers of one series, read a few at a time and within a budget, however many there are and whatever they hold.

In: the files of a series in the spool. Out: `Image`s, in the order of arrival. What is read is kept until the reading
goes, so that a second look at a series that has grown costs the new images only.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydicom.uid import CTImageStorage

from ich_node.dicom.owner import Owner
from ich_node.dicom.part10 import HEADER_LIMIT, ITEM_BYTES, MOST_ITEMS, read_header, read_instance
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.receive.owners import Image
from ich_node.runtime import logs
from ich_node.store.spool import Spool

MOST_SECONDS = 60.0
"""Of reading, for one series: a thousand times what a head takes; on this thread every other series waits for it."""
FRAMES = frozenset({"PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"})
"""What a CT Image has no use for; not asked for, its items cost nothing."""


class TooCostly(Exception):
    """The headers of a series cost more than any real one's."""


class Reading:
    """Of one series. `keywords`: what is wanted of each header."""

    def __init__(self, spool: Spool, series_uid: str, keywords: Sequence[str]) -> None:
        self._spool = spool
        self._series_uid = series_uid
        self._keywords = tuple(keywords)
        self._plain = tuple(keyword for keyword in keywords if keyword not in FRAMES)
        self._images: dict[str, tuple[int, Image] | None] = {}  # by file name; arrival, None: unreadable
        self._items = 0
        self._seconds = 0.0

    def steps(self, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        """Read what was not read yet, one image a step. Raises TooCostly."""
        for path in self._spool.paths(self._series_uid):
            if path.stem in self._images:
                continue
            started = clock()
            try:
                self._images[path.stem] = self._read(path)
            except (UnidentifiableInstance, OSError) as error:
                self._images[path.stem] = None
                logs.get().warning(
                    "series_unreadable", series=self._series_uid, instance=path.stem, reason=type(error).__name__
                )
            self._seconds += clock() - started
            if self._items > MOST_ITEMS or self._seconds > MOST_SECONDS:
                raise TooCostly
            yield

    @property
    def images(self) -> list[Image]:
        """What was read, by arrival."""
        return [
            image for _, image in sorted((each for each in self._images.values() if each), key=lambda each: each[0])
        ]

    def _read(self, path: Path) -> tuple[int, Image]:
        self._items += _items(path)
        instance = read_instance(path)
        plain = instance.sop_class_uid == CTImageStorage
        header = read_header(path, self._plain if plain else self._keywords)
        return path.stat().st_mtime_ns, Image(instance, header, Owner.of(header))


def _items(path: Path) -> int:
    """At most so many sequence items does a header hold."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data[:HEADER_LIMIT].count(ITEM_BYTES)


GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
PIXEL_DATA = b"\xe0\x7f\x10\x00"


def same_picture(one: Image, other: Image) -> bool:
    """Whether two images show the same in the same place; two encodings of one picture count as different."""
    if any(str(one.header.get(keyword)) != str(other.header.get(keyword)) for keyword in GEOMETRY):
        return False
    if one.instance.transfer_syntax_uid != other.instance.transfer_syntax_uid:
        return False
    try:
        return _from_pixels(one.instance.path) == _from_pixels(other.instance.path)
    except OSError:
        return False


def _from_pixels(path: Path) -> bytes:
    data = path.read_bytes()
    start = data.find(PIXEL_DATA)  # of an icon at worst: then more is compared than need be
    return data[start:] if start >= 0 else data
