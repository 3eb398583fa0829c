"""The audit trail over real sockets: UDP, TLS, and a receiver that is not there."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest
from fake_pacs import SECONDARY_CAPTURE, FakePacs
from ledger_builder import configuration, destination, publish_job, write_instance
from lxml import etree
from pynetdicom import AE
from structlog.testing import capture_logs
from tls_files import write_certificates

from ich_node.deliver import role as deliver_role
from ich_node.domain.ledger import JobState
from ich_node.receive.scp import Scp
from ich_node.runtime import audit
from ich_node.runtime.audit import SyslogTrail
from ich_node.runtime.audit.messages import Source
from ich_node.runtime.config import AuditConfig, ReceiveConfig
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool

SCHEMA = Path(__file__).parent.parent / "unit" / "runtime" / "audit" / "audit_message.rng"


def with_audit(config, **settings):
    return config.model_copy(update={"audit": AuditConfig.model_validate({"host": "127.0.0.1", **settings})})


def events(lines):
    """(EventID, EventTypeCode or None, Patient ID or None) of every line; each must be valid."""
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    found = []
    for line in lines:
        root = etree.fromstring(line.partition(b"\xef\xbb\xbf")[2])
        schema.assertValid(root)
        kind = root.find("EventIdentification/EventTypeCode")
        patients = [
            item.get("ParticipantObjectID")
            for item in root.findall("ParticipantObjectIdentification")
            if item.get("ParticipantObjectTypeCodeRole") == "1"
        ]
        event = root.find("EventIdentification/EventID").get("csd-code")
        found.append((event, None if kind is None else kind.get("csd-code"), patients[0] if patients else None))
    return found


@contextlib.contextmanager
def udp_receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        yield receiver


def drain(receiver):
    lines = []
    receiver.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while True:
            lines.append(receiver.recv(65536))
    return lines


def test_a_role_says_when_it_starts_what_it_sent_and_when_it_stops(tmp_path, wait_for):
    store = JobStore.open(tmp_path)
    with udp_receiver() as receiver, FakePacs() as pacs, capture_logs() as log:
        config = with_audit(configuration(tmp_path, destination("pacs", pacs.port)), port=receiver.getsockname()[1])
        job, _ = publish_job(store, tmp_path, ["pacs"], classes=[SECONDARY_CAPTURE])
        stop = threading.Event()

        def run():
            with audit.running(config, "deliver"):
                deliver_role.run(config, stop)

        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: store.job(job.id).state is JobState.DONE)
        stop.set()
        thread.join(60)
        lines = drain(receiver)
    store.close()
    assert events(lines) == [("110100", "110120", None), ("110104", None, "TEST-1"), ("110100", "110121", None)]
    assert "TEST-1" not in str(log), "patient data goes to the audit trail, never to the log"


class NoHints:
    """Nobody is assembled here."""

    def __getattr__(self, _name):
        return lambda *_arguments, **_named: None


@pytest.mark.parametrize("fast_path", [True, False], ids=["direct", "ordinary"])
def test_what_came_in_and_who_was_turned_away_is_said(tmp_path, wait_for, fast_path):
    file = write_instance(tmp_path / "in.dcm", SECONDARY_CAPTURE, "1.2.3.9")
    with udp_receiver() as receiver:
        config = with_audit(configuration(tmp_path), port=receiver.getsockname()[1])
        config = config.model_copy(update={"receive": ReceiveConfig(fast_path=fast_path)})
        with audit.running(config, "receive"):
            scp = Scp(config, Spool(tmp_path / "spool", 0), NoHints(), port=0)
            scp.start()
            entity = AE("SCANNER")
            entity.add_requested_context(SECONDARY_CAPTURE, "1.2.840.10008.1.2.1")
            association = entity.associate("127.0.0.1", scp.port, ae_title="ICHNODE")
            assert association.send_c_store(file).Status == 0
            association.release()
            assert entity.associate("127.0.0.1", scp.port, ae_title="WRONG").is_rejected
            scp.stop(2)
        lines = drain(receiver)
    said = events(lines)
    assert said[0] == ("110100", "110120", None)
    assert sorted(said[1:-1], key=str) == [("110104", None, "TEST-1"), ("110113", "110126", None)]
    assert said[-1] == ("110100", "110121", None)


def test_over_tls_each_message_follows_its_length(tmp_path):
    files = write_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    got = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection = context.wrap_socket(listener.accept()[0], server_side=True)
            with connection:
                while data := connection.recv(65536):
                    got.extend(data)

        thread = threading.Thread(target=serve)
        thread.start()
        settings = {"port": listener.getsockname()[1], "transport": "tls", "ca": str(files.ca), "host": "localhost"}
        with audit.running(with_audit(configuration(tmp_path), **settings), "receive"):
            pass
        thread.join(60)
    lines, rest = [], bytes(got)
    while rest:
        length, _, rest = rest.partition(b" ")
        lines.append(rest[: int(length)])
        rest = rest[int(length) :]
    assert events(lines) == [("110100", "110120", None), ("110100", "110121", None)]


class Broken:
    """A receiver that hangs until `told`, and then turns out to be away."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def send(self, line: bytes) -> None:
        self.told.wait(60)
        raise ConnectionRefusedError(111, "Connection refused")

    def close(self) -> None:
        pass


def test_an_unreachable_receiver_blocks_nobody_and_is_reported_once(monkeypatch):
    monkeypatch.setattr(audit, "QUEUE_LIMIT", 10)
    with capture_logs() as log:
        receiver = Broken()
        trail = SyslogTrail(Source("x", "ICHNODE", "", 1, "receive"), receiver)
        for _ in range(1000):
            trail.turned_away(audit.Node("X", "192.0.2.1"), "not allowed")
        receiver.told.set()
        trail.close()
    assert [entry["event"] for entry in log] == ["audit_unreachable"]


def test_without_a_receiver_nothing_is_said(tmp_path):
    with audit.running(configuration(tmp_path), "receive") as trail:
        trail.turned_away(audit.Node("X", "192.0.2.1"), "not allowed")
        assert type(trail) is audit.Trail


@pytest.fixture(autouse=True)
def quiet_threads():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "audit" and not thread.daemon]
