"""Results over an association: out as the bytes that were published, answers back as answers.Answer.

Invariants: a file goes out as it lies on disk when the peer takes its transfer syntax, else as the same dataset,
uncompressed; a failure is PeerUnavailable (try again) or PeerRefused (do not). Every wait is bounded, see
dicom.requestor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ich_node.deliver.answer import Answer, Verdict
from ich_node.deliver.dicom.answers import meaning
from ich_node.dicom import dimse
from ich_node.dicom.commitment import STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
from ich_node.dicom.pdu import Proposal
from ich_node.dicom.requestor import Message, Requestor, request_association
from ich_node.domain.errors import PeerRefused, PeerUnavailable
from ich_node.runtime.config import DeliverConfig, DestinationConfig
from ich_node.runtime.secure import secure

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
VERIFICATION = "1.2.840.10008.1.1"
"""The one SOP Instance of the Storage Commitment Push Model (PS3.4 J.3.5)."""
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
ALTERNATE_SUFFIXES = (".comprehensive.dcm", ".enhanced.dcm")
PIECE = 1 << 17  # chosen: 128 KiB read at a time: few calls, little memory
MEDIUM = 0x0000
"""Priority of a C-STORE (PS3.7 9.3.1.1)."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file to send, as its file meta information describes it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Echo:
    """What C-ECHO found out: round trip in seconds, or why there was none. refused: SOP classes it does not take."""

    ok: bool
    seconds: float
    cause: str
    refused: frozenset[str] = frozenset()


def describe(path: Path) -> Outgoing:
    """Read a file's meta information; raises PeerRefused when the file is gone or is not DICOM."""
    try:
        meta = read_file_meta_info(path)
        return Outgoing(path, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID)
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise PeerRefused(f"the result file cannot be read: {type(error).__name__}") from error


def versions(path: Path) -> tuple[Outgoing, ...]:
    """The file, then what may go out in its place when a peer does not take a Comprehensive 3D SR: best first."""
    first = describe(path)
    if first.sop_class_uid != COMPREHENSIVE_3D_SR:
        return (first,)
    beside = (path.with_suffix(suffix) for suffix in ALTERNATE_SUFFIXES)
    return (first, *(describe(alternate) for alternate in beside if alternate.exists()))


def contexts_for(files: Iterable[Outgoing]) -> list[Proposal]:
    """One presentation context per SOP Class and transfer syntax, each also offered uncompressed (PS3.5 10.1).

    Separate contexts, because an acceptor picks one transfer syntax per context (PS3.8 9.3.3) and we want to know all
    that it takes.
    """
    pairs: dict[tuple[str, str], None] = {}
    for file in files:
        for syntax in (file.transfer_syntax_uid, *UNCOMPRESSED):
            pairs[file.sop_class_uid, syntax] = None
    return [Proposal(sop_class, (syntax,)) for sop_class, syntax in pairs]


class Association:
    """An established association with a destination; made by associate()."""

    def __init__(self, requestor: Requestor) -> None:
        self._requestor = requestor
        contexts, negotiated = requestor.contexts, requestor.negotiated
        self._proposed = {
            (proposal.abstract_syntax, syntax)
            for proposal in contexts.values()
            for syntax in proposal.transfer_syntaxes
        }
        self._accepted = {
            (contexts[context_id].abstract_syntax, syntax): context_id
            for context_id, syntax in negotiated.accepted.items()
        }

    @property
    def alive(self) -> bool:
        """True until either side has ended the association."""
        return self._requestor.alive

    @property
    def sop_classes(self) -> frozenset[str]:
        """What the peer has accepted, in any transfer syntax."""
        return frozenset(sop_class_uid for sop_class_uid, _ in self._accepted)

    @property
    def last_progress(self) -> float:
        """When bytes went through last, time.monotonic()."""
        return self._requestor.last_progress

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
            chosen = self._encoding(file)
            if chosen is None:
                return self._not_accepted(file)
            context_id, pieces = chosen
            elements: dimse.Elements = {
                dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
                dimse.AFFECTED_SOP_CLASS: file.sop_class_uid,
                dimse.AFFECTED_SOP_INSTANCE: file.sop_instance_uid,
                dimse.PRIORITY: MEDIUM,
            }
            response = self._requestor.request(context_id, elements, pieces)
        except PeerRefused as error:
            return Answer(Verdict.REFUSED, None, str(error))
        except PeerUnavailable as error:
            return Answer(Verdict.LATER, None, f"no answer: {error}")
        except OSError as error:  # the file went away under our hands, perhaps in the middle of the message
            return Answer(Verdict.REFUSED, None, f"the result file cannot be read: {error.strerror}")
        return meaning(_status(response), dimse.comment(response.command))

    def _encoding(self, file: Outgoing) -> tuple[int, Iterator[bytes]] | None:
        """(context ID, dataset bytes): as it is, else in an uncompressed syntax that the peer accepts, else None."""
        as_it_is = self._accepted.get((file.sop_class_uid, file.transfer_syntax_uid))
        if as_it_is is not None:
            return as_it_is, dataset_of(file.path)
        for syntax in UNCOMPRESSED:
            context_id = self._accepted.get((file.sop_class_uid, syntax))
            if context_id is not None:
                return context_id, iter([dimse.encoded(uncompressed(file.path), syntax)])
        return None

    def _not_accepted(self, file: Outgoing) -> Answer:
        why = _why_refused(self._requestor, file.sop_class_uid)
        if why is None:
            return Answer(Verdict.LATER, None, "the association has no presentation context for it")
        cause = f"the peer accepts no presentation context for {UID(file.sop_class_uid).name}: {why[1]}"
        return Answer(Verdict.LATER if why[0] else Verdict.REFUSED, None, cause)

    def request_commitment(self, transaction_uid: str, references: Sequence[tuple[str, str]]) -> None:
        """N-ACTION of the Storage Commitment Push Model for (SOP Class UID, SOP Instance UID) pairs (PS3.4 J.3.2).

        Raises PeerUnavailable unless the peer answers Success.
        """
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = [_reference(*pair) for pair in references]
        context_id, syntax = next(iter(self._requestor.negotiated.accepted.items()))
        elements: dimse.Elements = {
            dimse.COMMAND_FIELD: dimse.N_ACTION_RQ,
            dimse.REQUESTED_SOP_CLASS: STORAGE_COMMITMENT,
            dimse.REQUESTED_SOP_INSTANCE: WELL_KNOWN_INSTANCE,
            dimse.ACTION_TYPE: 1,
        }
        response = self._requestor.request(context_id, elements, [dimse.encoded(request, syntax)])
        status = _status(response)
        if status != 0x0000:
            said = dimse.comment(response.command)
            raise PeerUnavailable(
                f"the peer answered the request with 0x{status:04X}" + (f": {said}" if said else ""), status
            )

    def on_report(self, take: Callable[[Dataset], int]) -> None:
        """Let `take` have the Event Information of every N-EVENT-REPORT and return the status to answer it with."""

        def serve(message: Message) -> int:
            syntax = self._requestor.negotiated.accepted.get(message.context_id, "")
            try:
                return take(decoded(message.dataset, syntax))
            except ValueError:
                return 0x0115  # Invalid Argument Value (PS3.7 C)

        self._requestor.serve(dimse.N_EVENT_REPORT_RQ, serve)

    def listen(self, until: Callable[[], bool], seconds: float) -> None:
        """Wait for the peer's requests until `until()` or for so long, or until the association ends."""
        self._requestor.listen(until, seconds)

    def echo(self) -> int:
        """C-ECHO; its status. Raises PeerUnavailable, or PeerRefused when the peer has not accepted Verification."""
        contexts = [context_id for (uid, _), context_id in self._accepted.items() if uid == VERIFICATION]
        if not contexts:
            raise PeerRefused("the peer does not accept Verification (C-ECHO)")
        context_id = contexts[0]
        elements: dimse.Elements = {dimse.COMMAND_FIELD: dimse.C_ECHO_RQ, dimse.AFFECTED_SOP_CLASS: VERIFICATION}
        return _status(self._requestor.request(context_id, elements))

    def release(self) -> None:
        """End the association in order."""
        self._requestor.release()

    def interrupt(self) -> None:
        """End the association at once, from any thread; a store() that waits for its answer returns."""
        self._requestor.interrupt()


def _status(response: Message) -> int:
    return dimse.number(response.command, dimse.STATUS, "Status")


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def dataset_of(path: Path) -> Iterator[bytes]:
    """The dataset's bytes of a Part 10 file in pieces: what follows the File Meta Information (PS3.10 7.1)."""
    with path.open("rb") as file:
        head = file.read(144)
        length = int.from_bytes(head[140:144], "little")  # (0002,0000), the first element after the preamble
        file.seek(144 + length)
        while piece := file.read(PIECE):
            yield piece


def uncompressed(path: Path) -> Dataset:
    """The dataset of a file, ready to be encoded in an uncompressed transfer syntax; same SOP Instance UID.

    Decompression changes the encoding only, so the instance stays the same one (PS3.3 C.7.6.1.1.5 asks for a new UID
    when lossy compression is applied, not when it is undone). Raises PeerRefused when it cannot be decompressed.
    """
    dataset = dcmread(path)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        try:
            dataset.decompress(generate_instance_uid=False)
        except (RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
            raise PeerRefused("the peer wants it uncompressed, and it cannot be decompressed") from error
    return dataset


def decoded(data: bytes, transfer_syntax_uid: str) -> Dataset:
    """A peer's dataset in an uncompressed little endian transfer syntax; raises ValueError when it is none."""
    try:
        found = read_dataset(BytesIO(data), transfer_syntax_uid == ImplicitVRLittleEndian, True)
        found.decode()
    except Exception as error:  # pydicom lets anything through on hostile bytes
        raise ValueError("not a dataset") from error
    return found


def _why_refused(requestor: Requestor, sop_class_uid: str | None = None) -> tuple[bool, str] | None:
    """(it may change, the peer's reasons) for the contexts that it did not accept; None when it refused none."""
    negotiated = requestor.negotiated
    asked = [
        context_id
        for context_id, proposal in requestor.contexts.items()
        if sop_class_uid in (None, proposal.abstract_syntax) and context_id in negotiated.refused
    ]
    if not asked:
        return None
    reasons = dict.fromkeys(negotiated.refused[context_id] for context_id in asked)
    return not negotiated.odd.isdisjoint(asked), ", ".join(reasons)


def associate(
    calling_ae_title: str, destination: DestinationConfig, options: DeliverConfig, proposals: Sequence[Proposal]
) -> Association:
    """Open an association.

    Raises PeerUnavailable when the peer cannot be reached, rejects it (requestor.Rejected) or contradicts itself,
    PeerRefused when it accepts none of `proposals`.
    """
    requestor = request_association(
        (destination.host, destination.port),
        calling=calling_ae_title,
        called=destination.ae_title,
        proposals=proposals,
        connect_timeout_s=options.connect_timeout_s,
        timeout_s=options.dimse_timeout_s,
        secure=secure(destination.tls, destination.tls_server_name or destination.host, destination.tls_fingerprint),
    )
    if not requestor.negotiated.accepted:
        may_change, reasons = _why_refused(requestor) or (True, "none was proposed")
        requestor.release()
        kind = PeerUnavailable if may_change else PeerRefused
        raise kind(f"the peer accepts none of the presentation contexts: {reasons}")
    return Association(requestor)


def echo(
    calling_ae_title: str, destination: DestinationConfig, options: DeliverConfig, sop_classes: Collection[str] = ()
) -> Echo:
    """C-ECHO to a destination (PS3.4 A): whether it answers, how fast, or why not; what it takes of `sop_classes`."""
    begin = time.monotonic()
    proposals = [Proposal(uid, UNCOMPRESSED) for uid in (VERIFICATION, *sop_classes)]
    try:
        association = associate(calling_ae_title, destination, options, proposals)
        status = association.echo()
    except (PeerUnavailable, PeerRefused) as error:
        return Echo(False, time.monotonic() - begin, str(error))
    seconds = time.monotonic() - begin
    association.release()
    if status == 0x0000:
        return Echo(True, seconds, "answers", frozenset(sop_classes) - association.sop_classes)
    return Echo(False, seconds, f"answers with status 0x{status:04X}")
