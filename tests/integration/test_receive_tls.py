"""Associations over TLS: the same C-STORE, certificates on both sides, no waiting for those who do not shake hands."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pynetdicom import AE
from raw_scu import ASSOCIATE_AC, ASSOCIATE_RJ, RawScu, dataset
from receive_bench import Receiver, eventually

from ich_node.runtime import tls
from ich_node.runtime.config import CallerConfig, ReceiveConfig, TlsConfig

SCRIPT = """
import datetime, ipaddress, sys
from pathlib import Path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.asymmetric import ec
now = datetime.datetime.now(datetime.UTC); day = datetime.timedelta(days=1)
def name(text): return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
def make(subject, issuer, key, signer, ca):
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False).sign(signer, hashes.SHA256()))
folder = Path(sys.argv[1])
root = ec.generate_private_key(ec.SECP256R1())
(folder / "ca.pem").write_bytes(make("ca", "ca", root, root, True).public_bytes(s.Encoding.PEM))
revoked = x509.CertificateRevocationListBuilder().issuer_name(name("ca")).last_update(now - day).next_update(now + day)
for who in ("node", "peer", "coffee", "lost"):
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = make(who, "ca", key, root, False)
    (folder / f"{who}.crt").write_bytes(certificate.public_bytes(s.Encoding.PEM))
    (folder / f"{who}.sha256").write_text(certificate.fingerprint(hashes.SHA256()).hex())
    entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build()
    if who == "lost":
        revoked = revoked.add_revoked_certificate(entry)
    (folder / f"{who}.key").write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
(folder / "revoked.pem").write_bytes(revoked.sign(root, hashes.SHA256()).public_bytes(s.Encoding.PEM))
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], check=True)
    return folder


def of(folder: Path, who: str) -> TlsConfig:
    return TlsConfig(certificate=folder / f"{who}.crt", private_key=folder / f"{who}.key", ca=folder / "ca.pem")


@pytest.fixture(params=[True, False], ids=["direct", "ordinary"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path, certificates: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path, tls=of(certificates, "node"), fast_path=request.param) as running:
        yield running


@pytest.fixture
def context(certificates: Path) -> ssl.SSLContext:
    return tls.client_context(of(certificates, "peer"))


def test_instances_arrive_byte_for_byte(receiver: Receiver, context: ssl.SSLContext) -> None:
    sent = {f"1.2.3.{n}": dataset(f"1.2.3.{n}".encode(), pixels=bytes([n]) * 600_000) for n in range(4)}
    with RawScu(receiver.port, tls=context) as scu:
        assert scu.associate()[0] == ASSOCIATE_AC
        for uid, data in sent.items():
            assert scu.store(uid.encode(), data) == 0
        scu.release()
    assert receiver.datasets() == sent


def test_a_library_sender_echoes_and_releases(receiver: Receiver, context: ssl.SSLContext) -> None:
    entity = AE("PEER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", receiver.port, ae_title="ICHNODE", tls_args=(context, "localhost"))
    assert association.is_established
    assert association.send_c_echo().Status == 0
    association.release()
    assert association.is_released


def test_a_sender_without_a_certificate_gets_no_association(receiver: Receiver, certificates: Path) -> None:
    bare = ssl.create_default_context(cafile=certificates / "ca.pem")
    with pytest.raises(OSError), RawScu(receiver.port, tls=bare) as scu:
        if scu.associate()[0] != ASSOCIATE_AC:
            raise ConnectionError
    assert receiver.scp.admission.open_associations() == 0


def test_a_plain_sender_gets_no_association(receiver: Receiver) -> None:
    with RawScu(receiver.port) as scu, suppress(OSError):
        assert scu.associate()[0] != ASSOCIATE_AC


def test_those_who_never_shake_hands_hold_nobody_up(receiver: Receiver, context: ssl.SSLContext) -> None:
    mute = [RawScu(receiver.port) for _ in range(5)]
    with RawScu(receiver.port, tls=context, timeout_s=8) as scu:
        assert scu.associate()[0] == ASSOCIATE_AC
    for scu in mute:
        scu.socket.close()


def test_a_renewed_certificate_is_shown_without_a_restart(
    receiver: Receiver, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("renewed")
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], check=True)
    old = {path.name: path.read_bytes() for path in certificates.iterdir()}
    new_peer = tls.client_context(of(folder, "peer"))
    try:
        for path in folder.iterdir():
            (certificates / path.name).write_bytes(path.read_bytes())

        def shown() -> bool:
            try:
                with RawScu(receiver.port, tls=new_peer) as scu:
                    return scu.associate()[0] == ASSOCIATE_AC
            except OSError:
                return False

        assert eventually(shown)
    finally:
        for name, content in old.items():
            (certificates / name).write_bytes(content)


# --- who a certificate is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["peer", "CN=peer", "sha256", "colons"])
def test_a_caller_that_is_bound_to_a_certificate_is_nobody_else(tmp_path: Path, certificates: Path, bound: str) -> None:
    fingerprint = (certificates / "peer.sha256").read_text()
    colons = ":".join(fingerprint[n : n + 2].upper() for n in range(0, 64, 2))
    certificate = {"sha256": fingerprint, "colons": colons}.get(bound, bound)
    callers = (CallerConfig(ae_title="RAW", certificate=certificate),)
    with Receiver(tmp_path, tls=of(certificates, "node"), callers=callers) as running:
        for who, answer in (("peer", ASSOCIATE_AC), ("coffee", ASSOCIATE_RJ)):
            context = tls.client_context(of(certificates, who))
            with RawScu(running.port, tls=context) as scu:
                assert scu.associate()[0] == answer


def test_a_revoked_certificate_opens_nothing_and_a_new_list_is_read(tmp_path: Path, certificates: Path) -> None:
    listed = tmp_path / "revoked.pem"
    listed.write_bytes((certificates / "revoked.pem").read_bytes())
    node = of(certificates, "node").model_copy(update={"revoked": listed})
    with Receiver(tmp_path / "state", tls=node) as running:
        with RawScu(running.port, tls=tls.client_context(of(certificates, "peer"))) as scu:
            assert scu.associate()[0] == ASSOCIATE_AC
        lost = tls.client_context(of(certificates, "lost"))
        with pytest.raises(OSError), RawScu(running.port, tls=lost) as scu:  # TLS 1.3: told with the first read
            assert scu.associate()[0] == ASSOCIATE_AC
        listed.write_bytes(b"not a list any more")
        with pytest.raises(OSError), RawScu(running.port, tls=lost) as scu:  # the last good list stays in use
            assert scu.associate()[0] == ASSOCIATE_AC


def test_names_of_a_certificate_are_its_common_name_subject_alternatives_and_fingerprint() -> None:
    shown = {
        "subject": ((("organizationName", "Hospital"),), (("commonName", "CT1"),)),
        "subjectAltName": (("DNS", "ct1.hospital"), ("IP Address", "10.0.0.1")),
    }
    assert tls.certificate_names(shown, "AB") == {"ct1", "o=hospital, cn=ct1", "ct1.hospital", "10.0.0.1", "ab"}


def test_a_caller_bound_to_a_certificate_needs_tls() -> None:
    with pytest.raises(ValueError, match="no tls"):
        ReceiveConfig(callers=(CallerConfig(ae_title="CT1", certificate="ct1"),))
