"""TLS contexts: what they insist on, and how renewed files come into use."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ich_node.domain.errors import ConfigError
from ich_node.runtime import tls
from ich_node.runtime.config import TlsConfig

NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, authority: bool) -> x509.Certificate:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=1))
            .not_valid_after(NOW + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, name: str, profile: str = "bcp195-non-downgrading") -> TlsConfig:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), authority=False)
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return TlsConfig(
            certificate=self.folder / f"{name}.crt",
            private_key=self.folder / f"{name}.key",
            ca=self.file,
            profile=profile,  # type: ignore[arg-type]
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> ssl.SSLObject:
    """Both ends of a handshake in memory; returns the server's end. Raises ssl.SSLError when either side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=host)
    finished: set[int] = set()
    for _ in range(10):
        for end in (here, there):
            try:
                end.do_handshake()
                finished.add(id(end))
            except ssl.SSLWantReadError:
                pass
        if len(finished) == 2:
            return there
    raise AssertionError("the handshake does not end")


def test_two_nodes_of_one_authority_talk(authority: Authority) -> None:
    server = tls.server_context(authority.issue("node"))
    client = tls.client_context(authority.issue("peer"))
    end = handshake(server, client)
    assert end.version() == "TLSv1.3"
    assert end.getpeercert()


def test_a_client_without_a_certificate_is_refused(authority: Authority) -> None:
    server = tls.server_context(authority.issue("node"))
    bare = ssl.create_default_context(cafile=authority.file)
    with pytest.raises(ssl.SSLError):
        handshake(server, bare)


def test_a_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other").issue("stranger").model_copy(update={"ca": authority.file})
    with pytest.raises(ssl.SSLError):
        handshake(tls.server_context(authority.issue("node")), tls.client_context(other))


def test_a_server_that_is_not_the_host_called_is_refused(authority: Authority) -> None:
    server = tls.server_context(authority.issue("node"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context(authority.issue("peer")), host="pacs.example")


def old_client(authority: Authority, ciphers: str) -> ssl.SSLContext:
    client = tls.client_context(authority.issue("peer"))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    return client


@pytest.mark.parametrize("profile", ["bcp195", "bcp195-non-downgrading"])
def test_tls_1_2_with_authenticated_encryption_is_spoken_by_both_profiles(authority: Authority, profile: str) -> None:
    server = tls.server_context(authority.issue("node", profile))
    assert handshake(server, old_client(authority, "ECDHE+AESGCM")).version() == "TLSv1.2"


def test_cbc_suites_are_for_the_downgrading_profile_only(authority: Authority) -> None:
    older = old_client(authority, "ECDHE-ECDSA-AES128-SHA")
    assert handshake(tls.server_context(authority.issue("node", "bcp195")), older).version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        handshake(tls.server_context(authority.issue("node")), older)


@pytest.mark.parametrize("profile", ["bcp195", "bcp195-non-downgrading"])
def test_nothing_below_tls_1_2_is_offered(authority: Authority, profile: str) -> None:
    assert tls.server_context(authority.issue("node", profile)).minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.client_context(authority.issue("node", profile)).minimum_version == ssl.TLSVersion.TLSv1_2


def test_no_suite_without_forward_secrecy(authority: Authority) -> None:
    for profile in ("bcp195", "bcp195-non-downgrading"):
        names = {suite["name"] for suite in tls.server_context(authority.issue("node", profile)).get_ciphers()}
        assert all(name.startswith(("ECDHE-", "DHE-", "TLS_")) for name in names)


def test_a_missing_file_is_a_configuration_error(authority: Authority, tmp_path: Path) -> None:
    config = authority.issue("node").model_copy(update={"ca": tmp_path / "nowhere.pem"})
    with pytest.raises(ConfigError, match=r"nowhere\.pem"):
        tls.server_context(config)


def test_a_renewed_certificate_comes_into_use_without_a_restart(authority: Authority) -> None:
    reloading = tls.Reloading(authority.issue("node"), tls.server_context)
    first = reloading.current()
    assert reloading.current() is first
    authority.issue("node")
    assert reloading.current() is not first


def test_a_half_written_renewal_leaves_the_last_good_context_in_use(authority: Authority) -> None:
    config = authority.issue("node")
    reloading = tls.Reloading(config, tls.server_context)
    first = reloading.current()
    config.certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    assert reloading.current() is first
    os.unlink(config.certificate)  # noqa: PTH108
    assert reloading.current() is first
    authority.issue("node")
    assert reloading.current() is not first


def test_real_sockets_carry_bytes_both_ways(authority: Authority) -> None:
    server, client = tls.server_context(authority.issue("node")), tls.client_context(authority.issue("peer"))
    left, right = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(right, server_side=True) as end:
            end.sendall(end.recv(5)[::-1])

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(left, server_hostname="localhost") as end:
        end.sendall(b"hello")
        assert end.recv(5) == b"olleh"
    thread.join()
