"""The headers of one series, read a few at a time and within a budget, however many there are and whatever they hold.

In: the folder of a series in the spool. Out: `Image`s, in the order of arrival. What is read is kept until the reading
goes, so that a second look at a series that has grown costs the new images only. Runs in the judging child (judge.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import CTImageStorage

from ich_node.dicom.elements import Shared
from ich_node.dicom.owner import Owner
from ich_node.dicom.part10 import MOST_ITEMS, check_header, read_header, sender_address
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.receive.owners import Image
from ich_node.store.layout import IMAGE

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

    def __init__(self, folder: Path, keywords: Sequence[str], clock: Callable[[], float] = time.thread_time) -> None:
        self._folder = folder
        self._keywords = tuple(keywords)
        self._plain = tuple(keyword for keyword in keywords if keyword not in FRAMES)
        self._clock = clock
        self._images: dict[str, tuple[int, Image] | None] = {}  # by file name; arrival, None: unreadable
        self._shares: dict[str, Share] = {}  # by address
        self._shared = Shared()
        self._known: set[str] = set()
        self.looked_s = 0.0
        """When somebody last looked, time.monotonic()."""

    def look(self) -> None:
        """Look what lies in the folder by now."""
        self.looked_s = time.monotonic()
        found: list[Path] = []
        with suppress(FileNotFoundError):  # retention was here
            found = sorted(path for path in self._folder.iterdir() if path.suffix == IMAGE)
        for path in found:
            if path.stem not in self._known:
                share = self._shares.setdefault(sender_address(path), Share())
                share.names.add(path.stem)
                share.unread.append(path)
                self._known.add(path.stem)

    @property
    def costs(self) -> dict[str, float]:
        """The addresses that brought something, with the CPU seconds that it has cost."""
        return {address: share.seconds for address, share in self._shares.items()}

    def read(self, address: str, seconds: float) -> bool:
        """Read images of one address for about so many CPU seconds, one at least; whether more is to be read."""
        share = self._shares.get(address, Share())
        end = self._clock() + seconds
        while share.unread and not share.too_costly:
            started = self._clock()
            self._read(share.unread.pop(), share)
            share.seconds += self._clock() - started
            if self._clock() >= end:
                break
        return bool(share.unread) and not share.too_costly

    def is_unread(self, addresses: Collection[str]) -> bool:
        """Whether images of some addresses are still to be read."""
        shares = (share for address, share in self._shares.items() if address in addresses)
        return any(share.unread and not share.too_costly for share in shares)

    def images(self, addresses: Collection[str] | None = None) -> list[Image]:
        """What was read, by arrival, without what cost too much; all, or what came from some addresses."""
        shares = [s for a, s in self._shares.items() if (addresses is None or a in addresses) and not s.too_costly]
        names = set().union(*(share.names for share in shares))
        read = [each for name, each in self._images.items() if each and name in names]
        return [image for _, image in sorted(read, key=lambda each: each[0])]

    def left_out(self, addresses: Collection[str]) -> set[str]:
        """The files of those of some addresses who cost too much."""
        shares = [share for a, share in self._shares.items() if a in addresses and share.too_costly]
        return set().union(*(share.names for share in shares))

    @property
    def unreadable(self) -> list[str]:
        """The files that cannot be read."""
        return [name for name, each in self._images.items() if each is None]

    def __len__(self) -> int:
        return len(self._images)

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
        except (UnidentifiableInstance, OSError):
            pass


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
