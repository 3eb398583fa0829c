"""TLS contexts by the DICOM profiles, for the node as a server and as a client; both sides must show a certificate.

* ``bcp195-non-downgrading``: TLS 1.2 and 1.3, forward secrecy and authenticated encryption only (PS3.15 B.10: AES-GCM
  with ECDHE or DHE; ChaCha20-Poly1305 is "of similar strength", which the profile allows).
* ``bcp195``: the same, and also TLS 1.2 with CBC suites for older peers (PS3.15 B.12, RFC 9325 4.2). TLS 1.0 and 1.1
  are never spoken (RFC 8996).

Invariant: a context is complete or it is not handed out. Renewed files are picked up by `Reloading.current()`; while a
renewal is half written, the last good context stays in use.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ich_node.domain.errors import ConfigError
from ich_node.runtime import logs
from ich_node.runtime.config import TlsConfig

AEAD = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
"""OpenSSL names of what B.10 lists; TLS 1.3 suites are all of this kind and not chosen here."""
SUITES = {
    "bcp195-non-downgrading": AEAD,
    "bcp195": f"{AEAD}:ECDHE+AES256+SHA384:ECDHE+AES128+SHA256:ECDHE+AES+SHA1:!aNULL:!eNULL:!PSK:!SRP",
}


SHORT_NAMES = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
}
"""RFC 4514 table 3, as `openssl x509 -subject` prints them."""


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """A context for accepting associations; the peer must show a certificate of our authorities.

    Raises ConfigError when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_SINGLE_DH_USE | ssl.OP_CIPHER_SERVER_PREFERENCE
    return _completed(context, config)


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """A context for requesting associations; the peer's certificate must name the host that we called.

    Build one per association: renewed files are then always in use. Raises ConfigError when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the host name (RFC 9325 5.2)
    return _completed(context, config)


def _completed(context: ssl.SSLContext, config: TlsConfig) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ciphers(SUITES[config.profile])
    try:
        context.load_cert_chain(config.certificate, config.private_key, password=_no_passphrase)
        context.load_verify_locations(cafile=config.ca)
        if config.revoked is not None:
            context.load_verify_locations(cafile=config.revoked)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = ", ".join(str(path) for path in files_of(config))
        raise ConfigError([f"tls: {error}; one of {files}"]) from error
    return context


def _no_passphrase() -> str:
    """An encrypted key must not make a service wait at a prompt."""
    raise ValueError("the private key is encrypted; the node keeps no secrets, so it cannot open it")


def files_of(config: TlsConfig) -> tuple[Path, ...]:
    """The files that a context depends on."""
    files = (config.certificate, config.private_key, config.ca, config.revoked)
    return tuple(path for path in files if path is not None)


def certificate_names(certificate: Mapping[str, Any], sha256: str) -> frozenset[str]:
    """By what a checked certificate may be bound to a caller, in lower case.

    certificate: as `SSLSocket.getpeercert()` has it; sha256: hexadecimal digest of its DER form. Names are common name,
    whole subject ("CN=ct1, O=hospital"), every subject alternative name, and the fingerprint.
    """
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    names = {str(value) for key, value in subject if key == "commonName"}
    names.add(", ".join(f"{SHORT_NAMES.get(key, key)}={value}" for key, value in subject))
    names |= {str(value) for _, value in certificate.get("subjectAltName", ())}
    return frozenset({name.lower() for name in names if name} | {sha256.lower()})


class Reloading:
    """Hands out a context that is as new as its files; safe to call from several threads."""

    def __init__(self, config: TlsConfig, build: Callable[[TlsConfig], ssl.SSLContext]) -> None:
        """Build the first context; raises ConfigError when that is not possible."""
        self._config = config
        self._build = build
        self._lock = threading.Lock()
        self._stamp = self._stamps()
        self._context = build(config)

    def current(self) -> ssl.SSLContext:
        """The context, built again when a file changed; the old one while the new files do not fit together."""
        with self._lock:
            stamp = self._stamps()
            if stamp != self._stamp:
                try:
                    self._context = self._build(self._config)
                except ConfigError as error:
                    logs.get().error("certificate_reloaded", ok=False, reason=str(error))
                else:
                    logs.get().info("certificate_reloaded", ok=True)
                self._stamp = stamp
            return self._context

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        """Inode and modification time of every file; (0, 0) for one that is not there at the moment."""
        stamps = []
        for path in files_of(self._config):
            try:
                status = path.stat()
            except OSError:
                stamps.append((0, 0))
            else:
                stamps.append((status.st_ino, status.st_mtime_ns))
        return tuple(stamps)
