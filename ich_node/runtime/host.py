"""The name of this machine among those that share one state directory: in lock files, in names of processes."""

from __future__ import annotations

import os
import re
import secrets
import socket

from ich_node.domain.errors import ConfigError

HOST_VARIABLE = "ICH_NODE_HOST"
"""Where two of them would have the same host name, as containers of one image on a host's network."""


def name() -> str:
    """The host name, or what ICH_NODE_HOST says; fit for a file name. Raises ConfigError when it is none."""
    found = os.environ.get(HOST_VARIABLE) or socket.gethostname()
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", found) or found.startswith("."):
        raise ConfigError([f"{HOST_VARIABLE}: a name of letters, digits, dots and dashes, not {found!r}"])
    return found


def process() -> str:
    """A name for this process that no other one ever has: that of the host, and a word of its own."""
    return f"{name()}/{secrets.token_hex(4)}"
