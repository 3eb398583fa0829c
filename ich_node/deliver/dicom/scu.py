"""Our side of an association: results out as the bytes that were published, answers back as answers.Answer.

Invariants: a file goes out as it lies on disk when the peer takes its transfer syntax, else as the same dataset,
uncompressed; every wait is bounded by connect_timeout_s or dimse_timeout_s; a failure is PeerUnavailable (try again) or
PeerRefused (do not).
"""

from __future__ import annotations

import itertools
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AssociationSocket

from ich_node.deliver.dicom.answers import NO_ANSWER, Answer, Verdict, meaning, rejection
from ich_node.domain.errors import ConfigError, PeerRefused, PeerUnavailable
from ich_node.runtime import tls
from ich_node.runtime.config import DeliverConfig, DestinationConfig

_config.STORE_SEND_CHUNKED_DATASET = True  # send_c_store(path): the file's bytes, no decoding

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
ALTERNATE_SUFFIXES = (".comprehensive.dcm", ".enhanced.dcm")
RELEASE_TIMEOUT_S = 5
END_TIMEOUT_S = 1

Handler = tuple[Any, Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file to send, as its file meta information describes it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Echo:
    """What C-ECHO found out: round trip in seconds, or why there was none."""

    ok: bool
    seconds: float
    cause: str


def describe(path: Path) -> Outgoing:
    """Read a file's meta information; raises PeerRefused when the file is gone or is not DICOM."""
    try:
        meta = read_file_meta_info(path)
        return Outgoing(path, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID)
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise PeerRefused(f"the result file can not be read: {type(error).__name__}") from error


def versions(path: Path) -> tuple[Outgoing, ...]:
    """The file, then what may go out in its place when a peer does not take a Comprehensive 3D SR: best first."""
    first = describe(path)
    if first.sop_class_uid != COMPREHENSIVE_3D_SR:
        return (first,)
    beside = (path.with_suffix(suffix) for suffix in ALTERNATE_SUFFIXES)
    return (first, *(describe(alternate) for alternate in beside if alternate.exists()))


def contexts_for(files: Iterable[Outgoing]) -> list[PresentationContext]:
    """One presentation context per SOP Class and transfer syntax, each also offered uncompressed (PS3.5 10.1).

    Separate contexts, because an acceptor picks one transfer syntax per context (PS3.8 9.3.3) and we want to know all
    that it takes.
    """
    pairs: dict[tuple[str, str], None] = {}
    for file in files:
        for syntax in (file.transfer_syntax_uid, *UNCOMPRESSED):
            pairs[file.sop_class_uid, syntax] = None
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


class AssociationRejected(PeerUnavailable):
    """The peer rejected the association; `permanent` as in PS3.8 9.3.4."""

    def __init__(self, cause: str, *, permanent: bool) -> None:
        super().__init__(cause)
        self.permanent = permanent


class Association:
    """An established association with a destination; made by associate()."""

    def __init__(self, association: Any, proposed: frozenset[tuple[str, str]]) -> None:
        self._association = association
        self._proposed = proposed
        self._accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
        self._message_id = itertools.cycle(range(1, 65536))

    @property
    def alive(self) -> bool:
        """True until either side has ended the association."""
        return bool(self._association.is_established)

    def covers(self, files: Iterable[Outgoing]) -> bool:
        """True when every context that `files` need has been proposed."""
        return {(file.sop_class_uid, file.transfer_syntax_uid) for file in files} <= self._proposed

    def store(self, candidates: Sequence[Outgoing]) -> tuple[Answer, Outgoing]:
        """Send the first of `candidates` that the peer takes; the answer, and what it is the answer to.

        A later candidate is tried when the peer did not accept the presentation context of the one before, or
        refused it for good.
        """
        answer = Answer(Verdict.REFUSED, None, "there is nothing to send")
        for candidate in candidates:
            answer = self._store_one(candidate)
            if answer.verdict is not Verdict.REFUSED:
                return answer, candidate
        return answer, candidates[0]

    def _store_one(self, file: Outgoing) -> Answer:
        try:
            payload = self._payload(file)
            if payload is None:
                name = UID(file.sop_class_uid).name
                return Answer(Verdict.REFUSED, None, f"the peer accepts no presentation context for {name}")
            response = self._association.send_c_store(payload, msg_id=next(self._message_id), priority=0)
        except PeerRefused as error:
            return Answer(Verdict.REFUSED, None, str(error))
        except RuntimeError:  # the association ended since it was last looked at
            return NO_ANSWER
        except OSError as error:  # the file went away under our hands, perhaps in the middle of the message
            self._association.abort()
            return Answer(Verdict.REFUSED, None, f"the result file can not be read: {error.strerror}")
        except ValueError:  # accepted, but not for us as the SCU
            return Answer(Verdict.REFUSED, None, "the peer accepts the SOP Class in the role of a sender only")
        return meaning(response.Status) if "Status" in response else NO_ANSWER

    def _payload(self, file: Outgoing) -> Path | Dataset | None:
        """The file as it is, else its dataset in an uncompressed syntax that the peer accepts, else None."""
        if (file.sop_class_uid, file.transfer_syntax_uid) in self._accepted:
            return file.path
        if any((file.sop_class_uid, syntax) in self._accepted for syntax in UNCOMPRESSED):
            return uncompressed(file.path)
        return None

    def request_commitment(self, transaction_uid: str, references: Sequence[tuple[str, str]]) -> None:
        """N-ACTION of the Storage Commitment Push Model for (SOP Class UID, SOP Instance UID) pairs (PS3.4 J.3.2).

        Raises PeerUnavailable or PeerRefused unless the peer answers Success.
        """
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = [_reference(*pair) for pair in references]
        instance = "1.2.840.10008.1.20.1.1"  # the well-known SOP Instance, PS3.4 J.3.5
        try:
            response, _ = self._association.send_n_action(
                request, 1, STORAGE_COMMITMENT, instance, msg_id=next(self._message_id)
            )
        except RuntimeError as error:
            raise PeerUnavailable(NO_ANSWER.cause) from error
        if "Status" not in response:
            raise PeerUnavailable(NO_ANSWER.cause)
        if response.Status != 0x0000:
            raise PeerUnavailable(f"the peer answered the request with 0x{response.Status:04X}", response.Status)

    def echo(self) -> int | None:
        """C-ECHO; its status, or None without an answer."""
        try:
            return getattr(self._association.send_c_echo(next(self._message_id)), "Status", None)
        except RuntimeError:
            return None

    def release(self) -> None:
        """End the association in order; a peer that does not answer is hung up on after RELEASE_TIMEOUT_S."""
        self._association.acse_timeout = RELEASE_TIMEOUT_S
        self._association.release()

    def interrupt(self) -> None:
        """End the association at once, from any thread; a store() that waits for its answer returns."""
        self._association.abort(block=False)
        self._association.dimse.msg_queue.put((None, None))


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def uncompressed(path: Path) -> Dataset:
    """The dataset of a file, ready to be encoded in an uncompressed transfer syntax; same SOP Instance UID.

    Decompression changes the encoding only, so the instance stays the same one (PS3.3 C.7.6.1.1.5 asks for a new UID
    when lossy compression is applied, not when it is undone). Raises PeerRefused when it can not be decompressed.
    """
    dataset = dcmread(path)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        try:
            dataset.decompress(generate_instance_uid=False)
        except (RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
            raise PeerRefused("the peer wants it uncompressed, and it can not be decompressed") from error
    return dataset


def associate(
    calling_ae_title: str,
    destination: DestinationConfig,
    options: DeliverConfig,
    contexts: Sequence[PresentationContext],
    *,
    handlers: Sequence[Handler] = (),
) -> Association:
    """Open an association.

    Raises PeerUnavailable when the peer can not be reached or rejects it (AssociationRejected), PeerRefused when it
    accepts none of `contexts`.
    """
    ae = _Requestor(calling_ae_title)
    ae.connection_timeout = options.connect_timeout_s
    ae.acse_timeout = ae.dimse_timeout = options.dimse_timeout_s
    ae.network_timeout = None  # an idle association is ended by its owner
    connected = threading.Event()
    try:
        opened = ae.associate(
            destination.host,
            destination.port,
            contexts=list(contexts),
            ae_title=destination.ae_title,
            tls_args=_tls_arguments(destination),
            evt_handlers=[*_own_handlers(connected, options.dimse_timeout_s), *handlers],
        )
    except OSError as error:  # name resolution
        raise PeerUnavailable(f"can not connect: {error.strerror or error}") from error
    if not opened.is_established:
        opened.dul.join(END_TIMEOUT_S)
        ae.hang_up()
        raise _why_not(opened, connected.is_set(), ae.failure)
    proposed = frozenset((str(c.abstract_syntax), str(s)) for c in contexts for s in c.transfer_syntax)
    return Association(opened, proposed)


def _tls_arguments(destination: DestinationConfig) -> tuple[ssl.SSLContext, str] | None:
    if destination.tls is None:
        return None
    try:
        return tls.client_context(destination.tls), destination.host
    except ConfigError as error:  # a renewal that is half written is complete a moment later
        raise PeerUnavailable(f"own certificate: {error}") from error


def _own_handlers(connected: threading.Event, timeout_s: float) -> list[Handler]:
    def on_open(event: Any) -> None:
        connected.set()
        opened: socket.socket = event.assoc.dul.socket.socket
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a small PDU waits for a delayed ACK
        opened.settimeout(timeout_s)  # a peer that stops reading must not hold the sending thread for ever

    def on_end(event: Any) -> None:
        event.assoc._is_paused = True  # pynetdicom 3.0 send_*() waits for its reactor to pause; an ended one never does

    return [(evt.EVT_CONN_OPEN, on_open), (evt.EVT_ABORTED, on_end), (evt.EVT_RELEASED, on_end)]


def _why_not(association: Any, connected: bool, failure: BaseException | None) -> PeerUnavailable | PeerRefused:
    """The plain reason why there is no association."""
    if not connected:
        return PeerUnavailable(f"can not connect: {_in_words(failure)}")
    if association.is_rejected:
        answer = association.acceptor.primitive
        permanent, cause = rejection(answer.result, answer.result_source, answer.diagnostic)
        return AssociationRejected(cause, permanent=permanent)
    if association.rejected_contexts:
        return PeerRefused("the peer accepts none of the presentation contexts")
    return PeerUnavailable("the peer did not answer the association request")


def _in_words(error: BaseException | None) -> str:
    """Why a connection failed, in the words of TLS or of the operating system."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "no reason given"


class _Socket(AssociationSocket):  # type: ignore[misc]
    """Remembers why a connection failed, which pynetdicom 3.0 only logs, and closes the socket that it leaves open."""

    requestor: _Requestor

    def _shutdown_socket(self) -> None:
        if not self._is_connected and (error := sys.exc_info()[1]) is not None:
            self.requestor.failure = error  # connect() calls this while it handles its OSError
        super()._shutdown_socket()
        if self.socket is not None:
            self.socket.close()


class _Requestor(AE):  # type: ignore[misc]
    """An application entity whose one association uses a _Socket."""

    failure: BaseException | None = None
    opened: _Socket | None = None

    def hang_up(self) -> None:
        """Close the socket, which pynetdicom 3.0 leaves open when there was no association."""
        if self.opened is not None and self.opened.socket is not None:
            self.opened.socket.close()

    def _create_socket(self, assoc: Any, address: Any, tls_args: Any) -> AssociationSocket:
        opened = _Socket(assoc, address=address)
        opened.tls_args = tls_args
        opened.requestor = self
        self.opened = opened
        return opened


def echo(calling_ae_title: str, destination: DestinationConfig, options: DeliverConfig) -> Echo:
    """C-ECHO to a destination (PS3.4 A): whether it answers, how fast, or why not."""
    begin = time.monotonic()
    try:
        association = associate(calling_ae_title, destination, options, [build_context(VERIFICATION)])
    except (PeerUnavailable, PeerRefused) as error:
        return Echo(False, time.monotonic() - begin, str(error))
    status = association.echo()
    seconds = time.monotonic() - begin
    association.release()
    if status == 0x0000:
        return Echo(True, seconds, "answers")
    return Echo(False, seconds, NO_ANSWER.cause if status is None else f"answers with status 0x{status:04X}")
