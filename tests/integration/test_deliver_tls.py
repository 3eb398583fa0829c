"""Delivery over TLS: certificates on both sides, and plain words when they do not fit."""

from __future__ import annotations

import shutil
import ssl

import pytest
from fake_pacs import FakePacs
from ledger_builder import configuration, destination
from tls_files import write_certificates

from ich_node.deliver.dicom import scu
from ich_node.runtime import tls


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


def echo(tmp_path, port, files):
    tls = {"certificate": str(files.certificate), "private_key": str(files.private_key), "ca": str(files.ca)}
    config = configuration(tmp_path, destination("pacs", port, host="localhost", tls=tls))
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
    for old, new in zip(tls.files_of(own), tls.files_of(good), strict=True):
        shutil.copy(new, old)
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
