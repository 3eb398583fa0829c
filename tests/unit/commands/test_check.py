"""`ich-node check`: what can fail at the start is found before the start, and said in plain words."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from ich_node.commands import check
from ich_node.runtime import config
from ich_node.runtime.config import Config
from ich_node.store import shared_disk
from tests.fake_pacs import BASIC_TEXT_SR, ENHANCED_SR, IMPLICIT, SECONDARY_CAPTURE, FakePacs
from tests.ports import free_port
from tests.tls_files import write_certificates
from tests.web_listener import WebListener


def configured(folder: Path, **sections: dict) -> Config:
    return config.parse({"store": {"state_dir": str(folder / "state"), "min_free_gb": 0.001}, **sections}, folder)


def found(settings: Config, subject: str) -> check.Check:
    """The check of that subject; the model's, which take a second, are not waited for."""
    return next(item for item in check.checks(settings) if item.subject == subject)


def tls_section(folder: Path, days: tuple[int, int] = (-1, 90), mode: int = 0o640) -> dict[str, str]:
    files = write_certificates(folder, days)
    files.private_key.chmod(mode)
    return {"certificate": str(files.certificate), "private_key": str(files.private_key), "ca": str(files.ca)}


def test_a_free_port_is_said_to_be_free(tmp_path):
    port = free_port()
    answer = found(configured(tmp_path, receive={"port": port}), "receive")
    assert (answer.passed, answer.detail) == (True, f"127.0.0.1 port {port} is free")


def test_a_port_that_another_program_holds_is_found(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        receive, deliver = {"port": other.getsockname()[1]}, {"dimse_timeout_s": 0.2, "connect_timeout_s": 0.2}
        answer = found(configured(tmp_path, receive=receive, deliver=deliver), "receive")
    assert not answer.passed
    assert "taken by another program" in answer.detail


def test_an_address_that_this_machine_does_not_have_is_found(tmp_path):
    answer = found(configured(tmp_path, receive={"address": "192.0.2.1", "port": free_port()}), "receive")
    assert (answer.passed, "no interface" in answer.detail) == (False, True)


def test_a_name_that_no_one_knows_is_found(tmp_path):
    assert not found(configured(tmp_path, receive={"address": "no-such-host.invalid"}), "receive").passed


@pytest.mark.parametrize(("options", "words"), [({"soft": ""}, "mounted hard"), ({"hard": ""}, "lookupcache")])
def test_a_disk_that_can_not_be_shared_is_found(tmp_path, monkeypatch, options, words):
    monkeypatch.setattr(shared_disk, "mount_of", lambda _: shared_disk.Mount("nfs4", options))
    store = {"state_dir": str(tmp_path), "shared": True, "database": "postgresql://nobody", "min_free_gb": 1e-9}
    told = found(configured(tmp_path, store=store), "spool")
    assert not told.passed
    assert words in told.detail


def test_a_good_certificate_shows_its_names_and_its_end(tmp_path):
    receive = {"port": free_port(), "tls": tls_section(tmp_path)}
    answer = found(configured(tmp_path, receive=receive), "receive.tls")
    assert answer.passed, answer.detail
    assert answer.detail.startswith("localhost, 127.0.0.1; valid until ")


@pytest.mark.parametrize(
    ("days", "passed", "words"),
    [((-9, -1), False, "has expired"), ((2, 9), False, "not valid before"), ((-1, 5), True, "renew it soon")],
)
def test_the_dates_of_a_certificate_are_looked_at(tmp_path, days, passed, words):
    destination = {"name": "pacs", "ae_title": "PACS", "host": "localhost", "tls": tls_section(tmp_path, days)}
    settings = configured(tmp_path, receive={"port": free_port()}, deliver={"destinations": [destination]})
    answer = found(settings, "tls of destination pacs")
    assert (answer.passed, words in answer.detail) == (passed, True), answer.detail


def test_a_key_that_everybody_may_read_is_found(tmp_path):
    receive = {"port": free_port(), "tls": tls_section(tmp_path, mode=0o644)}
    answer = found(configured(tmp_path, receive=receive), "receive.tls")
    assert (answer.passed, "mode 0644" in answer.detail) == (False, True)


@pytest.mark.parametrize("missing", ["certificate", "private_key", "ca"])
def test_a_file_that_is_not_there_is_named(tmp_path, missing):
    section = tls_section(tmp_path)
    Path(section[missing]).unlink()
    answer = found(configured(tmp_path, receive={"port": free_port(), "tls": section}), "receive.tls")
    assert (answer.passed, section[missing] in answer.detail) == (False, True)


def test_the_authorities_of_the_audit_receiver_are_read(tmp_path):
    no_pem = tmp_path / "none.pem"
    no_pem.write_text("hello")
    settings = configured(tmp_path, receive={"port": free_port()}, audit={"ca": str(no_pem)})
    assert not found(settings, "audit.ca").passed


def test_a_clock_before_the_installation_is_found(tmp_path, monkeypatch):
    future = tmp_path / "ich.yaml"
    future.write_text("")
    os.utime(future, (4e9, 4e9))  # the year 2096
    settings = configured(tmp_path, infer={"bundle": str(tmp_path)})
    answer = found(settings, "clock")
    assert (answer.passed, "earlier than the program" in answer.detail) == (False, True)


@pytest.mark.parametrize(
    ("taken", "passed", "words"),
    [
        ((SECONDARY_CAPTURE, ENHANCED_SR, BASIC_TEXT_SR), True, "ms)"),
        ((SECONDARY_CAPTURE, BASIC_TEXT_SR), False, "does not take Comprehensive 3D SR"),
        ((), False, "does not take Secondary Capture Image Storage"),
    ],
    ids=["an older form of SR", "no SR", "nothing"],
)
def test_a_pacs_that_answers_and_does_not_take_what_will_be_sent_is_found(tmp_path, taken, passed, words):
    with FakePacs([(uid, (IMPLICIT,)) for uid in taken]) as pacs:
        destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}
        settings = configured(tmp_path, receive={"port": free_port()}, deliver={"destinations": [destination]})
        answer = found(settings, "destination pacs")
    assert (answer.passed, words in answer.detail) == (passed, True), answer.detail


def test_a_web_destination_that_nobody_serves_or_without_its_secret_is_found(tmp_path):
    (tmp_path / "secret").write_text("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
    hooks = [
        {"name": "gone", "url": f"http://127.0.0.1:{free_port()}/hook", "secrets": [str(tmp_path / "secret")]},
        {"name": "no_secret", "url": "http://127.0.0.1:1/hook", "secrets": [str(tmp_path / "missing")]},
    ]
    settings = configured(tmp_path, receive={"port": free_port()}, deliver={"webhooks": hooks})
    assert not found(settings, "webhook gone").passed
    assert not found(settings, "webhook no_secret").passed
    with WebListener() as listener:
        archive = {"name": "archive", "url": listener.url}
        settings = configured(tmp_path, receive={"port": free_port()}, deliver={"dicomweb": [archive]})
        assert found(settings, "DICOMweb archive archive").passed
