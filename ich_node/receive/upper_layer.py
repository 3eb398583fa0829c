"""Parts of pynetdicom's association that are exchanged: its timers, its state machine, its DIMSE provider, its queue.

With them an association sleeps while there is nothing to do, survives hostile bytes, counts a message before it is
decoded, and takes its time from a clock that nobody sets.

pynetdicom asks its queues a thousand times a second, lets its threads die of what it cannot decode, and measures
silence with the wall clock. `calm` exchanges the parts that do so, in one association at a time.
"""

from __future__ import annotations

import contextlib
import queue
import time
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.fsm import InvalidEventError, StateMachine
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.timer import Timer

SLEEP_S = 0.1  # chosen: an idle association looks ten times a second whether it must end
LONGEST_COMMAND = 1 << 16
"""A command set: a few hundred bytes, and what retired elements some senders add."""
LONGEST_OTHER = 1 << 22
"""Any message but a C-STORE-RQ: 20,000 references of a Storage Commitment request have 2.3 MB."""


def calm(association: Association, most_bytes: int) -> None:
    """Exchange the parts, before the association starts. most_bytes: of a message that are kept."""
    dul = association.dul
    dul.state_machine.__class__ = CalmStateMachine
    dul.artim_timer.__class__ = dul._idle_timer.__class__ = SteadyTimer
    dul._run_loop_delay = 0  # our socket sleeps in `ready`
    association.dimse = SleepingDimse(association, most_bytes)
    dul.to_user_queue = WakingQueue(association.dimse.msg_queue)


class SteadyTimer(Timer):  # type: ignore[misc]  # pynetdicom has no types
    """pynetdicom's timer on a clock that never jumps."""

    _start_time: float | None
    _end_time: float | None

    def start(self) -> None:
        """Start, again if it runs."""
        self._start_time, self._end_time = time.monotonic(), None

    def stop(self) -> None:
        """Stop."""
        self._end_time = time.monotonic()

    @property
    def remaining(self) -> float:
        """Seconds that are left; 1 when it never expires."""
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        return float(self.timeout - ((self._end_time or time.monotonic()) - self._start_time))


class SleepingDimse(DIMSEServiceProvider):  # type: ignore[misc]  # pynetdicom has no types
    """pynetdicom's DIMSE provider whose acceptor waits for work instead of asking for it every millisecond.

    What a C-STORE-RQ brings beyond `most_bytes` is dropped as it comes: what is left is still too large, and refused
    with a status. A command beyond LONGEST_COMMAND, and any other message beyond LONGEST_OTHER, ends the association
    before it is decoded.
    """

    def __init__(self, association: Association, most_bytes: int) -> None:
        super().__init__(association)
        self._most_bytes = most_bytes

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Add a P-DATA to the message at hand; raises ValueError when that is too long."""
        message, values = self.message, primitive.presentation_data_value_list
        expected = getattr(message, "context_id", None)
        contexts = {context_id for context_id, _ in values} | ({expected} if expected is not None else set())
        if not values or len(contexts) != 1:  # PS3.8 9.3.5: a P-DATA has a value at least
            raise ValueError("a fragment of no message, or of another one")
        command = message.encoded_command_set.tell() if message is not None else 0
        if command + sum(len(value) for _, value in values if value[0] & 1) > LONGEST_COMMAND:
            raise ValueError("a command is too long")
        size = message.data_set.tell() if message is not None else 0
        if not isinstance(message, C_STORE_RQ) and size + sum(len(value) for _, value in values) > LONGEST_OTHER:
            raise ValueError("a message is too long")
        if size > self._most_bytes:
            primitive.presentation_data_value_list = [[context_id, value[:1]] for context_id, value in values]
        super().receive_primitive(primitive)

    def get_msg(self, block: bool = False) -> Any:
        """The next message, or (None, None). Who asks for it has served the last one, with or without a response."""
        served = getattr(self.dul.socket, "served", None)
        if served is not None and self.msg_queue.empty():
            served()
        try:
            return self.msg_queue.get(timeout=self.dimse_timeout if block else SLEEP_S)
        except queue.Empty:
            return None, None


class CalmStateMachine(StateMachine):  # type: ignore[misc]  # pynetdicom has no types
    """pynetdicom's state machine, which ends an association in order where pynetdicom's thread would die."""

    def do_action(self, event: str) -> None:
        """Act on an event. A damaged message is answered with an A-ABORT, an event out of place with the end."""
        try:
            super().do_action(event)
        except InvalidEventError:  # a response that comes after the end
            with contextlib.suppress(queue.Empty):
                self.dul.to_provider_queue.get_nowait()
            self._end(event)
        except Exception:  # pynetdicom decodes hostile bytes in its actions and lets anything through
            if self.current_state == "Sta6" and event not in ("Evt17", "Evt19"):
                self._go_on("Evt19")  # PS3.8 9.2: an invalid PDU
            else:
                self._end(event)

    def _end(self, failed: str) -> None:
        """As if the connection were lost; when that is what has failed, the thread is left to end."""
        if failed != "Evt17" and self.current_state != "Sta1":
            self._go_on("Evt17")

    def _go_on(self, event: str) -> None:
        self.dul._kill_thread = False  # which pynetdicom has set, and with it left the connection open
        self.dul.event_queue.put(event)


class WakingQueue(queue.Queue[Any]):
    """A queue that also wakes those who wait for a message."""

    def __init__(self, messages: queue.Queue[Any]) -> None:
        super().__init__()
        self._messages = messages

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put, and wake."""
        super().put(item, block, timeout)
        self._messages.put((None, None))
