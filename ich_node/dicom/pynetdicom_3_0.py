"""Which names of pynetdicom 3.0 the node uses beyond what pynetdicom promises. Every such name is listed here.

pyproject.toml pins the minor version; `lacks()` is asked at start, so that a pynetdicom that was exchanged by hand is
told in plain words, and not by the first association.
"""

from __future__ import annotations

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket, RequestHandler

PRIVATE: tuple[tuple[object, tuple[str, ...]], ...] = (
    (Association, ("_run_reactor", "kill", "set_socket")),
    (AssociationSocket, ("_shutdown_socket", "close", "ready", "recv", "send")),
    (DIMSEServiceProvider, ("get_msg", "receive_primitive")),
    (DULServiceProvider, ("_is_transport_event", "_read_pdu_data", "kill_dul", "run_reactor")),
    (RequestHandler, ("_create_association", "handle")),
    (StateMachine, ("do_action", "transition")),
    (Timer, ("expired", "remaining", "restart", "start", "stop")),
    (_config, ("LOG_HANDLER_LEVEL",)),
)


def lacks() -> list[str]:
    """The names of PRIVATE that are not there, as owner.name."""
    return [
        f"{str(getattr(owner, '__name__', owner)).removeprefix('pynetdicom.')}.{name}"
        for owner, names in PRIVATE
        for name in names
        if not hasattr(owner, name)
    ]
