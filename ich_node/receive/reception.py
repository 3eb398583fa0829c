"""What C-STORE means here, the same on every route: check, make durable, tell, answer (PS3.4 B.2.3, PS3.7 9.1.1).

    StoreRequest → Incoming.write(parts) … → Incoming.finish() → Answer

Invariants: Success is said only when the instance is on stable storage. After the first problem the rest of the
instance is swallowed, nothing of it stays, and the answer tells the reason in our own words, never in the sender's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ich_node.dicom.identity import Buffer, Identity, IdentityReader, is_uid
from ich_node.domain.dicom import Peer
from ich_node.domain.errors import SpoolFull, UnidentifiableInstance
from ich_node.receive.admission import Told
from ich_node.receive.shares import Shares
from ich_node.runtime import audit, counters, logs
from ich_node.store.spool import Spool, Writer

SUCCESS = 0x0000  # PS3.4 B.2.3
SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 C.5.6: refused, SOP Class not supported
OUT_OF_RESOURCES = 0xA700  # PS3.4 B.2.3: refused, the sender may try again
DATASET_MISMATCH = 0xA900  # PS3.4 B.2.3: error, dataset does not match SOP Class
CANNOT_UNDERSTAND = 0xC000  # PS3.4 B.2.3: error, cannot understand

TAINTING = frozenset({OUT_OF_RESOURCES, CANNOT_UNDERSTAND})
"""Refusals that leave a hole in the series: its sender believes the image to belong there, and so do we."""
MOST_BEFORE_UIDS = 1 << 24
"""Bytes of one instance that are held before it says who it is: twice the largest header that is analysed."""
MOST_HELD = 1 << 26
"""The same of all instances together: four senders at a time that hide their UIDs."""

IMAGE_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
"""What may become a job; everything else is set aside."""


class Hints(Protocol):
    """What the assembler likes to hear; losing it costs time, never an image."""

    def stored(self, association: int, peer: Peer | None, study_uid: str, series_uid: str) -> None:
        """An image of a series has become durable."""

    def refused(
        self,
        association: int,
        peer: Peer | None,
        series_uid: str | None,
        sop_instance_uid: str,
        for_space: bool,
        study_uid: str | None,
    ) -> None:
        """An image was not taken, for lack of space or because of its bytes: its sender may send it again.

        series_uid, study_uid: None when the dataset did not get so far as to say it.
        """

    def ended(self, association: int, released: bool) -> None:
        """An association has ended: released in order, or aborted."""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE-RQ: what its command says, the presentation context that it came in, and who sent it."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str
    association: int
    peer: Peer | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and Error Comment (0000,0902) of the C-STORE-RSP; the comment is empty on Success."""

    status: int
    comment: str = ""


class Reception:
    """Takes instances in, from many associations at a time."""

    def __init__(self, spool: Spool, hints: Hints, max_instance_bytes: int, shares: Shares | None = None) -> None:
        self.spool = spool
        self.hints = hints
        self.max_instance_bytes = max_instance_bytes
        self.shares = shares or Shares()
        self.refusals = Told(lines=20)
        """One line per refused instance, but for a peer that is refused without end."""
        self._held = 0
        self._lock = threading.Lock()

    def hold(self, count: int) -> bool:
        """Account for bytes that wait for their identity; False, nothing held, when there are too many of them."""
        with self._lock:
            if count > 0 and self._held + count > MOST_HELD:
                return False
            self._held += count
            return True

    def begin(self, request: StoreRequest) -> Incoming:
        """The first half of a C-STORE-RQ is here."""
        return Incoming(self, request)


class Incoming:
    """One instance on its way in. Buffers handed to `write` may be used again when it returns."""

    def __init__(self, reception: Reception, request: StoreRequest) -> None:
        self._reception = reception
        self._request = request
        self._pending: list[Buffer] = []
        self._size = 0
        self._held = 0
        self._reader = IdentityReader(request.transfer_syntax_uid)
        self._identity: Identity | None = None
        self._writer: Writer | None = None
        self._problem: Answer | None = None
        if request.sop_class_uid != request.abstract_syntax:
            self._refuse(SOP_CLASS_NOT_SUPPORTED, "SOP Class is not that of the presentation context")
        elif not is_uid(request.sop_instance_uid):
            self._refuse(CANNOT_UNDERSTAND, "Affected SOP Instance UID is not a UID")

    def write(self, parts: Sequence[Buffer]) -> None:
        """The next bytes of the dataset; never raises for what they say."""
        self._take(parts, last=False)

    def finish(self, parts: Sequence[Buffer] = ()) -> Answer:
        """The last bytes, if any, and then the end of the dataset: the instance is durable, or not there."""
        self._take(parts, last=True)
        if self._problem is None:
            self._commit()
        self.discard()
        answer, uid = self._problem or Answer(SUCCESS), self._request.sop_instance_uid
        self._tell(answer)
        if answer.status in TAINTING and self._request.sop_class_uid in IMAGE_CLASSES and is_uid(uid):
            named = (self._identity.series_uid, self._identity.study_uid) if self._identity else (None, None)
            for_space = answer.status == OUT_OF_RESOURCES
            request = self._request
            self._reception.hints.refused(request.association, request.peer, named[0], uid, for_space, named[1])
        return answer

    def discard(self) -> None:
        """Forget it, e.g. because the association was lost; harmless after `finish`."""
        if self._writer is not None:
            self._writer.discard()
        self._pending.clear()
        self._reception.hold(-self._held)
        self._held = 0

    def _take(self, parts: Sequence[Buffer], last: bool) -> None:
        if self._problem is not None:
            return
        self._size += sum(map(len, parts))
        if self._size > self._reception.max_instance_bytes:
            self._refuse(CANNOT_UNDERSTAND, f"larger than {self._reception.max_instance_bytes >> 20} MB")
            return
        try:
            for part in parts:
                self._reader.feed(part)
            if self._writer is not None:
                self._writer.write(parts)
            else:
                self._pending.extend(parts)
                self._identify(last)
        except UnidentifiableInstance as error:
            self._refuse(CANNOT_UNDERSTAND, str(error))
        except SpoolFull:
            self._refuse(OUT_OF_RESOURCES, "no space")
        except OSError as error:
            self._refuse(OUT_OF_RESOURCES, f"storage error {error.errno}")

    def _identify(self, last: bool) -> None:
        """Open the file as soon as the bytes at hand say who they are; keep a copy of them until then."""
        if self._reader.known or last:
            self._open(self._reader.finish())
        elif self._size > MOST_BEFORE_UIDS:
            raise UnidentifiableInstance(f"more than {MOST_BEFORE_UIDS >> 20} MB before the UIDs")
        elif not self._reception.hold(self._size - self._held):
            self._refuse(OUT_OF_RESOURCES, "too many instances that do not say who they are")
        else:
            self._pending, self._held = [b"".join(self._pending)], self._size

    def _open(self, identity: Identity) -> None:
        self._identity = identity
        aside = identity.sop_class_uid not in IMAGE_CLASSES
        if identity.sop_class_uid != self._request.sop_class_uid:
            self._refuse(DATASET_MISMATCH, "SOP Class of dataset and request differ")
        elif identity.sop_instance_uid != self._request.sop_instance_uid:
            self._refuse(DATASET_MISMATCH, "SOP Instance of dataset and request differ")
        elif refusal := self._reception.shares.refusal(
            self._request.peer,
            identity.series_uid,
            self._reception.spool.room(),
            aside=aside,
            has_begun=lambda: self._reception.spool.has_begun(identity.series_uid),
        ):
            self._refuse(OUT_OF_RESOURCES, refusal)
        else:
            self._writer = self._reception.spool.writer(
                series_uid=identity.series_uid,
                sop_instance_uid=identity.sop_instance_uid,
                sop_class_uid=identity.sop_class_uid,
                transfer_syntax_uid=self._request.transfer_syntax_uid,
                sender=self._request.peer,
                aside=aside,
            )
            self._writer.write(self._pending)
        self._pending = []

    def _commit(self) -> None:
        if self._writer is None or self._identity is None:
            self._refuse(CANNOT_UNDERSTAND, "there is no dataset")
            return
        try:
            path = self._writer.commit()
        except SpoolFull:
            self._refuse(OUT_OF_RESOURCES, "no space")
        except OSError as error:
            self._refuse(OUT_OF_RESOURCES, f"storage error {error.errno}")
        except UnidentifiableInstance as error:
            self._refuse(CANNOT_UNDERSTAND, str(error))
        else:
            self._reception.shares.took(self._request.peer, self._identity.series_uid, self._size)
            self._audit(self._identity, path)
            kind = "image" if self._identity.sop_class_uid in IMAGE_CLASSES else "set aside"
            counters.get().add("instances_received", kind)
            counters.get().add("received_bytes", kind, self._size)
            if self._identity.sop_class_uid in IMAGE_CLASSES:
                request, identity = self._request, self._identity
                self._reception.hints.stored(request.association, request.peer, identity.study_uid, identity.series_uid)

    def _audit(self, identity: Identity, path: Path) -> None:
        peer = self._request.peer
        node = audit.Node(peer.ae_title, peer.address) if peer else audit.Node("unknown", "")
        audit.get().received(self._request.association, node, identity.study_uid, identity.sop_class_uid, path)

    @property
    def _address(self) -> str:
        return self._request.peer.address if self._request.peer else ""

    def _refuse(self, status: int, comment: str) -> None:
        self._problem = Answer(status, comment[:64])  # LO
        self.discard()

    def _tell(self, answer: Answer) -> None:
        """One line per instance; UIDs only where they are UIDs."""
        request, log = self._request, logs.get()
        peer = {"calling_ae_title": request.peer.ae_title, "address": request.peer.address} if request.peer else {}
        instance = request.sop_instance_uid if is_uid(request.sop_instance_uid) else None
        if answer.status != SUCCESS:
            counters.get().add("instances_refused", f"0x{answer.status:04X}")
            if count := self._reception.refusals((self._address, answer.comment)):
                status = f"0x{answer.status:04X}"
                log.warning(
                    "instance_refused", status=status, reason=answer.comment, instance=instance, count=count, **peer
                )
        elif request.sop_class_uid in IMAGE_CLASSES:
            log.debug("instance_stored", instance=instance, bytes=self._size, **peer)
        else:
            log.debug("instance_set_aside", instance=instance, sop_class=request.sop_class_uid, **peer)
