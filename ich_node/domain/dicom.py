"""DICOM's own words as frozen values: AE titles, peers, instances, series. No I/O, no clock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

IDENTITY_CHARACTERS = frozenset(map(chr, range(0x20, 0x7F))) - {"\\"}


class AETitle(str):
    """An application entity title: 1 to 16 characters of VR AE, not all blank (PS3.5 6.2).

    Leading and trailing blanks are not significant and are removed. Raises ValueError otherwise.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> AETitle:
        title = value.strip(" ")
        if not 1 <= len(title) <= 16:
            raise ValueError(f"an AE title has 1 to 16 characters, not all blank: {value!r}")
        if set(title) - IDENTITY_CHARACTERS:
            raise ValueError(f"an AE title has printable ASCII characters and no backslash: {value!r}")
        return super().__new__(cls, title)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of an association."""

    ae_title: AETitle
    address: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored SOP Instance; `path` is the file as received.

    name: that of its file without suffix: the SOP Instance UID, and for a second, different image that claims the same
    UID a number behind it (`~2`). sender: who sent it, where that is known.
    """

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path
    sender: Peer | None = None

    @property
    def name(self) -> str:
        """The file's name without its suffix, under which the spool keeps it."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class Series:
    """The instances of one series that are at hand."""

    study_uid: str
    series_uid: str
    instances: tuple[Instance, ...]

    @property
    def input_digest(self) -> str:
        """The identity of "these images, whatever their order"."""
        return input_digest(instance.sop_instance_uid for instance in self.instances)


def input_digest(sop_instance_uids: Iterable[str]) -> str:
    """SHA-256 (hex) of the sorted, distinct SOP Instance UIDs, one per line."""
    return hashlib.sha256("\n".join(sorted(set(sop_instance_uids))).encode()).hexdigest()
