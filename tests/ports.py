"""Free TCP ports of loopback, for programs that want to be told one."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """A TCP port of loopback that nobody listens on, below the range of outgoing connections.

    A port of that range may be taken by any connection before the program that is to listen on it does; and a sender
    that keeps trying one while nobody listens there may end up connected to itself.
    """
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Several such ports, all different."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)
