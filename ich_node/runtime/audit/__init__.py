"""The audit trail of PS3.15 A.5: optional, to a syslog receiver, and never in the way.

    a role says what happened ──▶ bounded queue ──▶ one thread ──▶ syslog (UDP or TLS)

Invariants: saying something never blocks and never raises; when the queue is full or the receiver is away, messages are
lost and counted, and `audit_unreachable` says so in the log. Patient IDs go to the receiver, never into the log.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ich_node.dicom.part10 import read_header
from ich_node.domain.errors import UnidentifiableInstance
from ich_node.runtime import logs
from ich_node.runtime.audit import messages
from ich_node.runtime.audit.messages import Message, Node, Source, Study
from ich_node.runtime.audit.syslog import Transport, transport
from ich_node.runtime.config import Config

__all__ = ["Held", "Node", "SyslogTrail", "Trail", "get", "running"]

AUDITED = ("receive", "deliver", "board", "jobs")
"""The roles that show or exchange data, and an operator's decisions; the worker has no network at all."""
QUEUE_LIMIT = 10_000  # chosen: hours of a busy night; then messages are counted as lost, and said to be
RETRY_S = 5.0  # chosen: a receiver that restarts is back within seconds
FLUSH_S = 2.0  # chosen: a stop does not wait for a receiver that is down
COMPLAIN_EVERY_S = 300.0  # chosen: a log that says it every five minutes is noticed and not filled

Make = Callable[[], Message]


@dataclass(frozen=True, slots=True)
class Held:
    """What the node holds of a study: SOP Class UID → instances; sample: one of the files, None when they are gone."""

    study_uid: str
    counts: Mapping[str, int]
    sample: Path | None


class Trail:
    """What a role says. This one says nothing: no receiver is configured."""

    def started(self) -> None:
        """The role is about to work."""

    def stopped(self) -> None:
        """The role has ended its work."""

    def received(self, association: int, peer: Node, study_uid: str, sop_class_uid: str, path: Path) -> None:
        """An instance of `association` is durable; `path` is its file."""

    def association_ended(self, association: int) -> None:
        """What came on it makes one message."""

    def sent(self, peer: Node, counts: Mapping[str, int], sample: Path, *, success: bool) -> None:
        """Instances of one study went to `peer` (or did not): SOP Class UID → number; `sample` is one of the files."""

    def exported(self, to: Node, results: Path, *, success: bool) -> None:
        """A message about a job went to `to` (or did not), which is no DICOM node; `results` is the job's folder."""

    def turned_away(self, peer: Node, reason: str) -> None:
        """An association was refused, or TLS failed."""

    def signed_in(self, user: str, address: str, *, success: bool) -> None:
        """Somebody signed in, or tried to."""

    def signed_out(self, user: str, address: str) -> None:
        """Somebody signed out."""

    def viewed(self, user: str, address: str, study_uid: str, sample: Path) -> None:
        """Somebody looked at a study; `sample` is one of its files."""

    def acted(self, user: str, address: str, study_uid: str, sample: Path) -> None:
        """Somebody had a study analysed or sent anew, or gave feedback on it."""

    def decided(self, person: str, decision: str, action: str, studies: Sequence[Held]) -> None:
        """An operator decided something about the results of studies; action: C, R, U or D as in A.5.3.3."""


class SyslogTrail(Trail):
    """A trail that goes to a syslog receiver. close() flushes it."""

    def __init__(self, source: Source, out: Transport, clock: Callable[[], datetime] | None = None) -> None:
        self._source = source
        self._out = out
        self._clock = clock or (lambda: datetime.now(UTC))
        self._queue: queue.Queue[Make | None] = queue.Queue(QUEUE_LIMIT)
        self._incoming: dict[int, tuple[Node, dict[str, tuple[Counter[str], Path]]]] = {}
        self._lock = threading.Lock()
        self._lost = 0
        self._complained = -COMPLAIN_EVERY_S
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    # --- what roles say --------------------------------------------------------------------------------------------

    def started(self) -> None:
        """Application Start."""
        moment = self._clock()
        self._say(lambda: messages.application_started(self._source, moment))

    def stopped(self) -> None:
        """Application Stop."""
        moment = self._clock()
        self._say(lambda: messages.application_stopped(self._source, moment))

    def received(self, association: int, peer: Node, study_uid: str, sop_class_uid: str, path: Path) -> None:
        """Counted until the association ends."""
        with self._lock:
            _, studies = self._incoming.setdefault(association, (peer, {}))
            counts, _ = studies.setdefault(study_uid, (Counter(), path))
            counts[sop_class_uid] += 1

    def association_ended(self, association: int) -> None:
        """DICOM Instances Transferred, one message with every study of the association."""
        with self._lock:
            entry = self._incoming.pop(association, None)
        if entry is None:
            return
        peer, studies = entry
        moment = self._clock()

        def make() -> Message:
            found = [Study(uid, counts, _patient_id(path)) for uid, (counts, path) in studies.items()]
            return messages.instances_transferred(self._source, moment, peer, found, received=True)

        self._say(make)

    def sent(self, peer: Node, counts: Mapping[str, int], sample: Path, *, success: bool) -> None:
        """DICOM Instances Transferred."""
        moment = self._clock()

        def make() -> Message:
            study = Study(_study_uid(sample), dict(counts), _patient_id(sample))
            return messages.instances_transferred(self._source, moment, peer, [study], received=False, success=success)

        self._say(make)

    def exported(self, to: Node, results: Path, *, success: bool) -> None:
        """Data Export."""
        moment = self._clock()

        def make() -> Message:
            sample = next(iter(sorted(results.glob("*.dcm"))), results / "none")
            study = Study(_study_uid(sample), {}, _patient_id(sample))
            return messages.exported(self._source, moment, to, study, success=success)

        self._say(make)

    def turned_away(self, peer: Node, reason: str) -> None:
        """Security Alert."""
        moment = self._clock()
        self._say(lambda: messages.security_alert(self._source, moment, peer, reason))

    def signed_in(self, user: str, address: str, *, success: bool) -> None:
        """User Authentication, Login."""
        moment = self._clock()
        self._say(lambda: messages.user_authenticated(self._source, moment, user, address, login=True, success=success))

    def signed_out(self, user: str, address: str) -> None:
        """User Authentication, Logout."""
        moment = self._clock()
        self._say(lambda: messages.user_authenticated(self._source, moment, user, address, login=False))

    def viewed(self, user: str, address: str, study_uid: str, sample: Path) -> None:
        """DICOM Instances Accessed, read."""
        self._accessed(user, address, [Held(study_uid, {}, sample)], "R")

    def acted(self, user: str, address: str, study_uid: str, sample: Path) -> None:
        """DICOM Instances Accessed, updated."""
        self._accessed(user, address, [Held(study_uid, {}, sample)], "U")

    def decided(self, person: str, decision: str, action: str, studies: Sequence[Held]) -> None:
        """DICOM Instances Accessed, with the decision in words."""
        self._accessed(person, "", studies, action, decision)

    def _accessed(self, user: str, address: str, studies: Sequence[Held], action: str, decision: str = "") -> None:
        moment = self._clock()

        def make() -> Message:
            about = [Study(one.study_uid, one.counts, _patient_id(one.sample)) for one in studies]
            return messages.instances_accessed(
                self._source, moment, user, address, about, action=action, decision=decision
            )

        self._say(make)

    def close(self) -> None:
        """Send what is queued, for at most FLUSH_S."""
        self._closing.set()
        with suppress(queue.Full):  # then the thread sees _closing after the message at hand
            self._queue.put_nowait(None)
        self._thread.join(FLUSH_S)

    # --- the way out -----------------------------------------------------------------------------------------------

    def _say(self, make: Make) -> None:
        try:
            self._queue.put_nowait(make)
        except queue.Full:
            self._lost += 1
            self._complain("the queue is full")

    def _run(self) -> None:
        while (make := self._queue.get()) is not None:
            line = messages.syslog(self._source, make())
            while not self._sent(line):
                if self._closing.wait(RETRY_S):
                    return
        self._out.close()

    def _sent(self, line: bytes) -> bool:
        try:
            self._out.send(line)
        except OSError as error:
            self._complain(error.strerror or type(error).__name__)
            return False
        return True

    def _complain(self, reason: str) -> None:
        """At most one line in five minutes."""
        if time.monotonic() - self._complained >= COMPLAIN_EVERY_S:
            self._complained = time.monotonic()
            logs.get().error("audit_unreachable", reason=reason, waiting=self._queue.qsize(), lost=self._lost)


_current: Trail = Trail()


def get() -> Trail:
    """The trail of this process."""
    return _current


@contextmanager
def running(config: Config, role: str) -> Iterator[Trail]:
    """The trail of a role for as long as it runs: Application Start at the beginning, Application Stop at the end."""
    global _current  # noqa: PLW0603  one per process, like its log
    if config.audit.host is None or role not in AUDITED:
        yield _current
        return
    source = Source(config.audit.source_id, config.ae_title, socket.gethostname(), os.getpid(), role)
    trail = SyslogTrail(source, transport(config.audit))
    before, _current = _current, trail
    trail.started()
    try:
        yield trail
    finally:
        _current = before
        trail.stopped()
        trail.close()


def _patient_id(path: Path | None) -> str | None:
    return None if path is None else _value(path, "PatientID") or None


def _study_uid(path: Path) -> str:
    return _value(path, "StudyInstanceUID") or "unknown"


def _value(path: Path, keyword: str) -> str:
    """An attribute of a file as text; empty when it has none, or is gone or unreadable."""
    try:
        return str(read_header(path, [keyword]).get(keyword) or "")
    except (OSError, UnidentifiableInstance):
        return ""
