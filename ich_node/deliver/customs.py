"""What a worker wrote is looked at before it goes out, and what was looked at is what goes out.

A worker reads hostile images and may have been taken over; it can write result files and rows of the ledger. This role
has the keys and the network. So every file is copied where only this role can write, and the copy is checked and sent:
it was a plain file in the job's own folder, is of a kind that the node makes, bears the identity that its delivery has,
and names the study and patient of images that the receiver keeps, which no worker can change. Whether what is said of
them is true cannot be seen here.
"""

from __future__ import annotations

import glob
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ich_node.deliver.answer import Answer, Verdict
from ich_node.deliver.sender import Connection, Load, Peer
from ich_node.dicom.identity import Identity, is_uid
from ich_node.dicom.part10 import FileMeta, check_header
from ich_node.domain.errors import PeerRefused, UnidentifiableInstance
from ich_node.domain.ledger import Delivery, Job
from ich_node.store.layout import IMAGE, StateDir
from ich_node.store.ledger.protocols import Ledger

MADE_HERE = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
        "1.2.840.10008.5.1.4.1.1.7.2",  # Multi-frame Grayscale Byte Secondary Capture
        "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color Secondary Capture
        "1.2.840.10008.5.1.4.1.1.11.1",  # Grayscale Softcopy Presentation State
        "1.2.840.10008.5.1.4.1.1.11.2",  # Color Softcopy Presentation State
        "1.2.840.10008.5.1.4.1.1.11.8",  # Advanced Blending Presentation State
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR
        "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
        "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
        "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    }
)
"""SOP Classes (PS3.6 A) of results: pictures, states and reports; never images of a patient."""
LARGEST, LONGEST_JSON = 1 << 28, 1 << 24
"""Bytes of an object and of result.json: ten times what the largest of them have."""
PIECE = 1 << 20  # bytes copied at a time


COMPARED = 64
"""Bytes of a Patient ID (LO, PS3.5 6.2)."""

Owner = tuple[str, bytes]
"""Study Instance UID and Patient ID."""


class Smuggled(PeerRefused):
    """It is not what it must be: nothing is sent, today or later."""


class Customs:
    """See the module's text; safe for many threads."""

    def __init__(self, state: StateDir, store: Ledger) -> None:
        self._state = state
        self._store = store
        self._first: tuple[int, Owner | None] = (0, None)  # job, whose its first image is

    def place(self, item: Delivery) -> list[Path]:
        """The files that are needed for a delivery, its own first; raises Smuggled when they lie anywhere else."""
        folder = self._state.results_of(item.job_id)
        name = f"{item.item}{IMAGE}" if item.is_instance else item.item
        if Path(name).name != name or item.path != folder / name or folder.is_symlink():
            raise Smuggled("its file lies where no result of this job lies")
        if item.is_instance:
            return [item.path, *sorted(folder.glob(f"{glob.escape(item.item)}.*{IMAGE}"))]
        return [item.path, folder / f"{_first_object(item.path)}{IMAGE}"]

    @contextmanager
    def cleared(self, item: Delivery) -> Iterator[Delivery]:
        """The delivery with a checked copy of its files; raises PeerRefused when it must not go out."""
        job = self._store.job(item.job_id)
        if job is None:
            raise Smuggled("there is no such job")
        with tempfile.TemporaryDirectory(prefix="ich_node-") as folder:
            copies = [_copied(path, Path(folder)) for path in self.place(item)]
            if item.is_instance:
                self._check(copies[0], job, item.item, item.sop_class_uid)
            else:
                self._check_owner(job, _study(copies[0]), b"")
            for copy in copies[1:]:
                self._check(copy, job)
            yield replace(item, path=copies[0])

    def _check(self, path: Path, job: Job, uid: str | None = None, sop_class: str | None = None) -> None:
        found, meta = _read(path)
        if found.sop_class_uid not in MADE_HERE or sop_class not in (None, found.sop_class_uid):
            raise Smuggled("it is no object that this node makes")
        if uid not in (None, found.sop_instance_uid):
            raise Smuggled("it is another object than the ledger says")
        if (meta.sop_class_uid, meta.sop_instance_uid) != (found.sop_class_uid, found.sop_instance_uid):
            raise Smuggled("its file meta information is about another object")
        self._check_owner(job, found.study_uid, found.patient_id[:COMPARED])
        if found.series_uid == job.series_uid:
            raise Smuggled("it claims to be one of the images")

    def _check_owner(self, job: Job, study_uid: str, patient_id: bytes) -> None:
        """patient_id: empty when it is not said."""
        image = None
        for image in self._owners(job):
            if image[0] == study_uid and patient_id in (image[1], b""):
                return
        if image is not None or study_uid != job.study_uid:  # retention may have taken the images
            raise Smuggled("it is about another study or patient than the images")

    def _owners(self, job: Job) -> Iterator[Owner]:
        """Whose the images of a job are, as they say; the first is remembered, because nearly always it is enough."""
        known, first = self._first
        if known == job.id and first is not None:
            yield first
        folder = self._state.incoming / job.series_uid
        for name in job.sop_instance_uids:
            with suppress(PeerRefused):
                found, _ = _read(folder / f"{name}{IMAGE}")
                owner = found.study_uid, found.patient_id[:COMPARED]
                if self._first[0] != job.id:
                    self._first = (job.id, owner)
                yield owner


class Inspected:
    """A destination to which nothing goes that was not looked at."""

    def __init__(self, peer: Peer, customs: Customs) -> None:
        self.node = peer.node
        self.peer, self.customs = peer, customs

    def load(self, item: Delivery) -> tuple[Delivery, Load]:
        """A delivery, and what it needs of a line; raises PeerRefused."""
        self.customs.place(item)
        return item, self.peer.load(item)

    def connect(self, loads: Sequence[tuple[Delivery, Load]]) -> InspectedConnection:
        """As the destination does."""
        return InspectedConnection(self.peer.connect([load for _, load in loads]), self)

    def answers(self) -> bool:
        """As the destination does."""
        return self.peer.answers()


@dataclass(frozen=True, slots=True)
class InspectedConnection:
    """An open line to such a destination."""

    line: Connection
    inspected: Inspected

    @property
    def alive(self) -> bool:
        """As the line."""
        return self.line.alive

    @property
    def last_progress(self) -> float:
        """As the line."""
        return self.line.last_progress

    def covers(self, loads: Sequence[tuple[Delivery, Load]]) -> bool:
        """As the line."""
        return self.line.covers([load for _, load in loads])

    def send(self, load: tuple[Delivery, Load]) -> Answer:
        """Send the checked copy of a delivery."""
        try:
            with self.inspected.customs.cleared(load[0]) as item:
                return self.line.send(self.inspected.peer.load(item))
        except PeerRefused as error:
            return Answer(Verdict.REFUSED, None, str(error))
        except OSError as error:  # no room for the copy
            return Answer(Verdict.LATER, None, f"it cannot be looked at: {error.strerror}")

    def release(self) -> None:
        """As the line."""
        self.line.release()

    def interrupt(self) -> None:
        """As the line."""
        self.line.interrupt()


# --- files that a worker wrote -------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, largest: int) -> Iterator[int]:
    """The descriptor of a plain file of so many bytes at most; no link is followed, no pipe waited for.

    Raises PeerRefused.
    """
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PeerRefused(f"the result file cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
            raise Smuggled("it is no plain file, or larger than any result")
        yield source
    finally:
        os.close(source)


def _copied(path: Path, folder: Path) -> Path:
    """A copy of a plain file in our own folder."""
    with _opened(path, LARGEST) as source, (folder / path.name).open("xb") as copy:
        while copy.tell() < LARGEST and (piece := os.read(source, PIECE)):
            copy.write(piece)
    return folder / path.name


def _read(path: Path) -> tuple[Identity, FileMeta]:
    try:
        header = check_header(path)
    except (UnidentifiableInstance, OSError) as error:
        raise PeerRefused(f"the result file cannot be read: {type(error).__name__}") from error
    if header.identity is None or header.meta is None:
        raise PeerRefused("the result file does not say which object it is")
    return header.identity, header.meta


def _said(path: Path) -> dict[str, Any]:
    """A result.json."""
    try:
        with _opened(path, LONGEST_JSON) as file:
            said = json.loads(os.read(file, LONGEST_JSON))
        return {"study": str(said["study_instance_uid"]), "first": str(said["objects"][0]["sop_instance_uid"])}
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise PeerRefused(f"the result cannot be read: {type(error).__name__}") from error


def _study(path: Path) -> str:
    return str(_said(path)["study"])


def _first_object(path: Path) -> str:
    """The object of which a message takes its header."""
    first = str(_said(path)["first"])
    if not is_uid(first):
        raise Smuggled("it names an object that is none")
    return first
