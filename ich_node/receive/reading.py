"""The headers of one series, read a few at a time and within a budget, however many there are and whatever they hold.

In: the files of a series in the spool. Out: `Image`s, in the order of arrival. What is read is kept until the reading
goes, so that a second look at a series that has grown costs the new images only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import CTImageStorage

from ich_node.dicom.elements import Shared
from ich_node.dicom.owner import Owner
from ich_node.dicom.part10 import MOST_ITEMS, check_header, read_header, read_sender
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.receive.owners import Image
from ich_node.runtime import logs
from ich_node.store.spool import Spool

SPARE_S, IMAGE_S = 10.0, 0.02
"""CPU seconds of reading for what one address brought to a series: three times what a multi-frame header of 2,000
frames takes, and for each image ten times what that of a slice takes."""
FRAMES = frozenset({"PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"})
"""What a CT Image has no use for; not asked for, its items cost nothing."""


@dataclass(slots=True)
class Share:
    """What one address brought to a series: names of files that are still to be read, and what it has cost."""

    unread: list[Path] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    items: int = 0
    seconds: float = 0.0

    @property
    def too_costly(self) -> bool:
        """Whether its headers cost more than any real ones."""
        return self.items > MOST_ITEMS or self.seconds > SPARE_S + IMAGE_S * len(self.names)


class Reading:
    """Of one series. `keywords`: what is wanted of each header. clock: CPU seconds of this thread."""

    def __init__(
        self,
        spool: Spool,
        series_uid: str,
        keywords: Sequence[str],
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._spool = spool
        self._series_uid = series_uid
        self._keywords = tuple(keywords)
        self._plain = tuple(keyword for keyword in keywords if keyword not in FRAMES)
        self._clock = clock
        self._images: dict[str, tuple[int, Image] | None] = {}  # by file name; arrival, None: unreadable
        self._shares: dict[str, Share] = {}  # by address
        self._shared = Shared()

    def steps(self) -> Iterator[tuple[str, float]]:
        """Read what was not read yet, one image a step, of whom has cost least; yields (address, CPU seconds)."""
        known = {name for share in self._shares.values() for name in share.names}
        for path in self._spool.paths(self._series_uid):
            if path.stem not in known:
                share = self._shares.setdefault(_address(path), Share())
                share.names.add(path.stem)
                share.unread.append(path)
        while open_ones := {a: share for a, share in self._shares.items() if share.unread and not share.too_costly}:
            address = min(open_ones, key=lambda each: open_ones[each].seconds)
            share = open_ones[address]
            started = self._clock()
            self._read(share.unread.pop(), share)
            spent = self._clock() - started
            share.seconds += spent
            yield address, spent

    @property
    def images(self) -> list[Image]:
        """What was read, by arrival, without what cost too much."""
        read = [each for name, each in self._images.items() if each and name not in self.left_out]
        return [image for _, image in sorted(read, key=lambda each: each[0])]

    @property
    def left_out(self) -> frozenset[str]:
        """The files of those who cost too much."""
        return frozenset(name for share in self._shares.values() if share.too_costly for name in share.names)

    def _read(self, path: Path, share: Share) -> None:
        self._images[path.stem] = None
        try:
            checked = check_header(path)
            share.items += checked.items
            if share.items > MOST_ITEMS:
                return
            instance = checked.instance(path)
            plain = instance.sop_class_uid == CTImageStorage
            header = read_header(path, self._plain if plain else self._keywords, checked)
            self._shared.share(header)
            self._images[path.stem] = path.stat().st_mtime_ns, Image(instance, header, Owner.of(header))
        except (UnidentifiableInstance, OSError) as error:
            logs.get().warning(
                "series_unreadable", series=self._series_uid, instance=path.stem, reason=type(error).__name__
            )


def _address(path: Path) -> str:
    """Where a file came from; empty when it does not say."""
    try:
        sender = read_sender(path)
    except (UnidentifiableInstance, OSError):
        return ""
    return sender.address if sender else ""


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
