"""Messages over the Minimal Lower Layer Protocol (HL7 v2.5.1 C.4), and what their acknowledgements mean.

  accept (AA, CA) → sent · error (AE, CE) → tried again · reject (AR, CR) → final, with MSA-3 and ERR as the remark

Every wait is bounded by `timeout_s`; whatever the peer does otherwise ends as "no answer".
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from ich_node.deliver.answer import Answer, Verdict, cleaned
from ich_node.deliver.hl7 import oru
from ich_node.dicom.requestor import connect, in_words
from ich_node.domain.errors import PeerRefused, PeerUnavailable
from ich_node.domain.ledger import Delivery
from ich_node.runtime import audit
from ich_node.runtime.config import Config, DeliverConfig, Hl7Config
from ich_node.runtime.secure import secure

BEGIN, END = b"\x0b", b"\x1c\r"
LONGEST_ACK = 1 << 16
"""Bytes: an acknowledgement has a few segments."""
VERDICTS = {
    "AA": (Verdict.SENT, "accepted"),
    "CA": (Verdict.SENT, "accepted for processing"),
    "AE": (Verdict.LATER, "the receiver reports an error"),
    "CE": (Verdict.LATER, "the receiver cannot take it at the moment"),
    "AR": (Verdict.REFUSED, "the receiver rejects the message"),
    "CR": (Verdict.REFUSED, "the receiver rejects the message"),
}
"""MSA-1 (HL7 table 0008)."""


@dataclass(frozen=True, slots=True)
class Load:
    """A message and its control ID (MSH-10)."""

    control_id: str
    data: bytes


class MllpConnection:
    """An open connection to a listener."""

    def __init__(self, opened: socket.socket, timeout_s: float) -> None:
        self._socket = opened
        self._timeout_s = timeout_s
        self._open = True
        self.last_progress = time.monotonic()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    @property
    def alive(self) -> bool:
        """True until either side has closed it."""
        if self._open:
            try:
                self._socket.settimeout(0)
                self._open = bool(self._socket.recv(1, socket.MSG_PEEK))
            except (BlockingIOError, ValueError):  # nothing to read · TLS does not peek: the next message tells
                pass
            except OSError:
                self._open = False
        return self._open

    def covers(self, loads: Sequence[Load]) -> bool:  # noqa: ARG002  any message goes over any connection
        """True."""
        return True

    def send(self, load: Load) -> Answer:
        """Send a message and wait for its acknowledgement."""
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(BEGIN + load.data + END)
            return acknowledged(self._read(), load.control_id)
        except PeerUnavailable as error:
            cause = str(error)
        except TimeoutError:
            cause = f"the receiver did not answer within {self._timeout_s:g} s"
        except OSError as error:
            cause = f"the connection broke: {in_words(error)}"
        self.release()
        return Answer(Verdict.LATER, None, f"no answer: {cause}")

    def _read(self) -> bytes:
        end = time.monotonic() + self._timeout_s
        data = b""
        while END not in data:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            piece = self._socket.recv(4096)
            if not piece:
                raise PeerUnavailable("the receiver hung up")
            self.last_progress = time.monotonic()
            data += piece
            if len(data) > LONGEST_ACK:
                raise PeerUnavailable("the acknowledgement is too long")
        return data[: data.index(END)].removeprefix(BEGIN)

    def release(self) -> None:
        """Close it."""
        self._open = False
        self._socket.close()

    def interrupt(self) -> None:
        """End a wait, from any thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def acknowledged(data: bytes, control_id: str) -> Answer:
    """What an acknowledgement says; raises PeerUnavailable when it is none of ours.

    Only MSA and ERR are looked at: what a receiver writes elsewhere is informational.
    """
    text = data.decode("utf-8", "replace").replace("\n", "\r").strip("\r ")
    if not text.startswith("MSH") or len(text) < 4:
        raise PeerUnavailable("the acknowledgement is no HL7 message")
    segments = [line.split(text[3]) for line in text.split("\r")]
    msa = next((fields for fields in segments if fields[0] == "MSA"), None)
    if msa is None:
        raise PeerUnavailable("the acknowledgement has no MSA segment")
    code, about, said = (*msa[1:4], "", "", "")[:3]
    if about.strip() != control_id:
        raise PeerUnavailable("the acknowledgement (MSA-2) is about another message")
    errors = [fields for fields in segments if fields[0] == "ERR"]
    remark = [said, *(field for fields in errors for field in (*fields, *[""] * 9)[3:9:5])]  # ERR-3 and ERR-8
    verdict, cause = VERDICTS.get(code, (Verdict.LATER, "the receiver answers with an unknown acknowledgement code"))
    return Answer(verdict, code if code in VERDICTS else "?", cause, cleaned("; ".join(filter(None, remark))))


class Hl7Peer:
    """A destination that takes ORU messages."""

    def __init__(self, config: Config, destination: Hl7Config) -> None:
        self.node = audit.Node(destination.receiving_application or destination.name, destination.host)
        self._options: DeliverConfig = config.deliver
        self._destination = destination

    def load(self, item: Delivery) -> Load:
        """The message for a delivery of result.json; raises PeerRefused when it cannot be made."""
        try:
            result = json.loads(item.path.read_bytes())
            first = item.path.parent / f"{result['objects'][0]['sop_instance_uid']}.dcm"
            dataset = dcmread(first, stop_before_pixels=True)
        except (OSError, ValueError, KeyError, IndexError, InvalidDicomError) as error:
            raise PeerRefused(f"the result cannot be read: {type(error).__name__}") from error
        header = {
            element.keyword: str(element.value)
            for element in dataset
            if element.keyword and element.VR not in ("SQ", "OB", "OW", "UN")
        }
        data = oru.message(result, {**header, "JobID": str(item.job_id)}, self._destination, item.created_at)
        return Load(oru.control_id(data), data)

    def connect(self, loads: Sequence[Load]) -> MllpConnection:  # noqa: ARG002
        """A connection; raises PeerUnavailable."""
        destination = self._destination
        wrap = secure(destination.tls, destination.tls_server_name or destination.host, destination.tls_fingerprint)
        opened = connect((destination.host, destination.port), self._options.connect_timeout_s, wrap)
        return MllpConnection(opened, self._options.dimse_timeout_s)

    def answers(self) -> bool:
        """Whether it takes a connection."""
        try:
            self.connect([]).release()
        except PeerUnavailable:
            return False
        return True
