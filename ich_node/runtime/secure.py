"""TLS towards a peer that we call: our certificate, its name, and its fingerprint where that is configured."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Callable

from ich_node.domain.errors import ConfigError, PeerUnavailable
from ich_node.runtime import tls
from ich_node.runtime.config import TlsConfig


def secure(
    config: TlsConfig | None, server_name: str, fingerprint: str | None = None
) -> Callable[[socket.socket], socket.socket] | None:
    """What wraps a connected socket; None for plain TCP.

    server_name: must be in the peer's certificate (RFC 9525). fingerprint: SHA-256 of that certificate, hex, which it
    must have as well. Raises PeerUnavailable when our own files cannot be used.
    """
    if config is None:
        return None
    try:
        context = tls.client_context(config)
    except ConfigError as error:  # a renewal that is half written is complete a moment later
        raise PeerUnavailable(f"own certificate: {error}") from error

    def wrap(opened: socket.socket) -> socket.socket:
        wrapped = context.wrap_socket(opened, server_hostname=server_name)
        found = hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()
        if fingerprint is not None and not hmac.compare_digest(found, fingerprint):
            wrapped.close()
            raise PeerUnavailable("TLS: the peer's certificate is not the one that is configured")
        return wrapped

    return wrap
