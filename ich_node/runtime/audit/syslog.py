"""The way to the syslog receiver: UDP (RFC 5426) or TLS (RFC 5425). Raises OSError when it cannot be reached."""

from __future__ import annotations

import socket
import ssl
from typing import Protocol

from ich_node.runtime.config import AuditConfig

TIMEOUT_S = 5.0  # chosen: a receiver in the house answers within; messages queue meanwhile


class Transport(Protocol):
    """One way out."""

    def send(self, line: bytes) -> None:
        """Hand over one message; raises OSError."""

    def close(self) -> None:
        """Hang up."""


class Udp:
    """A datagram per message. UDP tells nobody when it is lost; use TLS where the trail must be complete."""

    def __init__(self, config: AuditConfig) -> None:
        self._address = (config.host or "", config.port)
        self._socket: socket.socket | None = None

    def send(self, line: bytes) -> None:
        """Send a datagram; a closed port is noticed by the next one at the latest."""
        if self._socket is None:
            family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
            opened = socket.socket(family, kind, protocol)
            opened.settimeout(TIMEOUT_S)
            opened.connect(address)
            self._socket = opened
        self._socket.send(line)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Tls:
    """A connection that stays open, each message behind its length (RFC 5425 4.3)."""

    def __init__(self, config: AuditConfig) -> None:
        self._address = (config.host or "", config.port)
        self._context = ssl.create_default_context(cafile=config.ca)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._socket: ssl.SSLSocket | None = None

    def send(self, line: bytes) -> None:
        """Send, on a new connection if need be."""
        if self._socket is None:
            plain = socket.create_connection(self._address, TIMEOUT_S)
            try:
                self._socket = self._context.wrap_socket(plain, server_hostname=self._address[0])
            except OSError:
                plain.close()
                raise
        try:
            self._socket.sendall(f"{len(line)} ".encode() + line)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def transport(config: AuditConfig) -> Transport:
    """As configured; raises OSError when the file with the authorities cannot be read."""
    return Tls(config) if config.transport == "tls" else Udp(config)
