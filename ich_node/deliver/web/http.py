"""One HTTP request and what came of it, for every destination that is a URL: bounded, without redirects or proxies."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ich_node.domain.errors import ConfigError, PeerUnavailable
from ich_node.runtime import tls
from ich_node.runtime.config import DeliverConfig, TlsConfig

LONGEST_ANSWER = 1 << 20
"""Bytes that are read of an answer: a STOW-RS report on one instance has a few hundred."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status code and body."""

    status: int
    body: bytes


class Client:
    """A client for one destination; keeps its connection alive between requests."""

    def __init__(self, files: TlsConfig | None, options: DeliverConfig) -> None:
        """Raises PeerUnavailable when our own certificate cannot be used."""
        try:
            verify = ssl.create_default_context() if files is None else tls.client_context(files)
        except ConfigError as error:
            raise PeerUnavailable(f"own certificate: {error}") from error
        timeout = httpx.Timeout(options.dimse_timeout_s, connect=options.connect_timeout_s)
        self._client = httpx.Client(verify=verify, timeout=timeout, trust_env=False, follow_redirects=False)
        self._timeout_s = options.dimse_timeout_s
        self.alive = True
        self.last_progress = time.monotonic()

    def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Reply:
        """POST; raises PeerUnavailable without an answer."""
        try:
            with self._client.stream("POST", url, content=content, headers=dict(headers)) as response:
                end, body = time.monotonic() + self._timeout_s, b""
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > LONGEST_ANSWER or time.monotonic() > end:
                        raise PeerUnavailable("the answer is too long, or too slow")
                self.last_progress = time.monotonic()
                return Reply(response.status_code, body)
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # RuntimeError: closed by another thread
            raise PeerUnavailable(f"no answer: {str(error) or type(error).__name__}") from error

    def ask(self, url: str) -> int:
        """Whether anybody serves this URL (OPTIONS, RFC 9110 9.3.7, changes nothing): the status; as `post`."""
        try:
            return self._client.options(url).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PeerUnavailable(f"no answer: {str(error) or type(error).__name__}") from error

    def release(self) -> None:
        """Close its connections."""
        self.alive = False
        self._client.close()

    interrupt = release


class Line:
    """What a connection of the sender's is where everything goes to one URL; a kind adds `send`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def alive(self) -> bool:
        """True until it is closed."""
        return self._client.alive

    @property
    def last_progress(self) -> float:
        """When there was an answer last, time.monotonic()."""
        return self._client.last_progress

    def covers(self, loads: Sequence[Any]) -> bool:  # noqa: ARG002
        """True: everything goes to the one URL."""
        return True

    def release(self) -> None:
        """Close it."""
        self._client.release()

    def interrupt(self) -> None:
        """End a wait, from any thread."""
        self._client.interrupt()


def secret(path: Path) -> str:
    """The secret in a file of its own: a configuration holds none. Raises PeerUnavailable when it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PeerUnavailable(f"{path} cannot be read: {type(error).__name__}") from error
