"""Delivery over TLS: certificates on both sides, and plain words when they do not fit."""

from __future__ import annotations

import shutil
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from fake_pacs import FakePacs
from ledger_builder import configuration, destination
from tls_files import write_certificates

from ich_node.deliver.dicom import scu

# pynetdicom, as the peer here, ends its thread with an error when it is hung up on
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def secure_pacs(tmp_path):
    """(a PACS that wants certificates of our authority, paths of such certificates)"""
    files = write_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with FakePacs(ssl_context=context) as pacs:
        yield pacs, files


def echo(tmp_path, port, files, **more):
    tls = {"certificate": str(files.certificate), "private_key": str(files.private_key), "ca": str(files.ca)}
    config = configuration(tmp_path, destination("pacs", port, **{"host": "localhost", "tls": tls, **more}))
    return scu.echo("ICHNODE", config.deliver.destinations[0], config.deliver)


def test_a_peer_of_our_authority_answers(tmp_path, secure_pacs):
    pacs, files = secure_pacs
    answer = echo(tmp_path, pacs.port, files)
    assert answer.ok, answer.cause


def test_a_peer_of_another_authority_is_not_talked_to(tmp_path, secure_pacs):
    pacs, _ = secure_pacs
    (tmp_path / "other").mkdir()
    answer = echo(tmp_path, pacs.port, write_certificates(tmp_path / "other"))
    assert not answer.ok
    assert answer.cause.startswith("cannot connect: TLS: ")


def test_renewed_files_are_used_by_the_next_association(tmp_path, secure_pacs):
    pacs, good = secure_pacs
    (tmp_path / "own").mkdir()
    own = write_certificates(tmp_path / "own")
    assert not echo(tmp_path, pacs.port, own).ok
    for name in ("certificate", "private_key", "ca"):
        shutil.copy(getattr(good, name), getattr(own, name))
    assert echo(tmp_path, pacs.port, own).ok


def test_a_certificate_that_can_not_be_read_is_said_in_plain_words(tmp_path, secure_pacs):
    pacs, files = secure_pacs
    files.certificate.write_text("half written")
    answer = echo(tmp_path, pacs.port, files)
    assert answer.cause.startswith("own certificate: ")


def test_a_peer_that_talks_plain_is_not_talked_to(tmp_path):
    files = write_certificates(tmp_path)
    with FakePacs() as pacs:
        assert not echo(tmp_path, pacs.port, files).ok


def test_the_name_in_the_certificate_may_be_another_than_the_host(tmp_path, secure_pacs):
    pacs, files = secure_pacs
    named = {"host": "127.0.0.1", "tls_server_name": "localhost"}
    assert echo(tmp_path, pacs.port, files, **named).ok
    refused = echo(tmp_path, pacs.port, files, tls_server_name="pacs.example")
    assert refused.cause.startswith("cannot connect: TLS: ")


def test_a_destination_may_be_bound_to_one_certificate(tmp_path, secure_pacs):
    pacs, files = secure_pacs
    own = x509.load_pem_x509_certificate(files.certificate.read_bytes()).fingerprint(hashes.SHA256()).hex()
    assert echo(tmp_path, pacs.port, files, tls_fingerprint=own).ok
    other = echo(tmp_path, pacs.port, files, tls_fingerprint="0" * 64)
    assert other.cause == "cannot connect: TLS: the peer's certificate is not the one that is configured"
