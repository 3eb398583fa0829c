"""Overload and access: every stage has an end, nobody takes another's place, a full disk is refused politely."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import structlog
from raw_scu import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, RawScu, associate_rq, dataset, item, message, pdu, pdv
from receive_bench import Receiver, association_threads, eventually

from ich_node.runtime import logs
from ich_node.runtime.config import CallerConfig, LogConfig
from ich_node.store.spool import Spool

SUCCESS, NO_SPACE = 0x0000, 0xA700
AT_ONCE_S = 8.0
"""Sooner than by the time-out of a request (receive.acse_timeout_s: 10), on a machine however busy."""
ROUTES = pytest.mark.parametrize("direct", [True, False], ids=["direct", "ordinary"])


def works(receiver: Receiver, uid: bytes = b"1.2.3.999", source: str = "127.0.0.1") -> bool:
    with RawScu(receiver.port, source=source) as scu:
        return scu.associate()[0] == ASSOCIATE_AC and scu.store(uid) == SUCCESS


# --- who may come in -----------------------------------------------------------------------------------------------


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as running:
        yield running


def test_a_wrong_called_title_is_told(receiver: Receiver) -> None:
    with RawScu(receiver.port) as scu:
        assert scu.associate(associate_rq(called=b"OTHER")) == (ASSOCIATE_RJ, bytes((0, 1, 1, 7)))
        assert scu.receive()[0] == 0


def test_a_wrong_calling_title_is_told_and_a_wrong_address_is_closed(tmp_path: Path) -> None:
    callers = (CallerConfig(ae_title="CT1", addresses=("127.0.0.2",)),)
    with Receiver(tmp_path, callers=callers) as running:
        for calling, source, answer in (
            (b"CT1", "127.0.0.2", ASSOCIATE_AC),
            (b"CT1", "127.0.0.1", 0),
            (b"CT2", "127.0.0.2", ASSOCIATE_RJ),
        ):
            with RawScu(running.port, source=source) as scu:
                try:
                    kind, body = scu.associate(associate_rq(calling=calling))
                except ConnectionError:  # closed before it was asked
                    kind, body = 0, b""
                assert kind == answer
                assert kind != ASSOCIATE_RJ or body == bytes((0, 1, 1, 3))


def test_a_blank_calling_title_is_rejected(receiver: Receiver) -> None:
    with RawScu(receiver.port) as scu:
        assert scu.associate(associate_rq(calling=b" "))[0] in (ASSOCIATE_RJ, ABORT)


def test_another_protocol_version_is_rejected(receiver: Receiver) -> None:
    request = bytearray(associate_rq())
    request[6:8] = b"\0\2"
    with RawScu(receiver.port) as scu:
        assert scu.associate(bytes(request)) == (ASSOCIATE_RJ, bytes((0, 1, 2, 2)))


# --- how many ------------------------------------------------------------------------------------------------------


def test_more_associations_than_allowed_are_told_and_places_come_free(tmp_path: Path) -> None:
    with Receiver(tmp_path, max_associations=3) as running:
        held = [RawScu(running.port, source=f"127.0.0.{n}") for n in range(1, 4)]
        assert [scu.associate()[0] for scu in held] == [ASSOCIATE_AC] * 3
        with RawScu(running.port, source="127.0.0.9") as scu:
            assert scu.associate() == (ASSOCIATE_RJ, bytes((0, 2, 3, 2)))
        for scu in held:
            scu.socket.close()
        assert eventually(lambda: works(running))


def test_one_peer_leaves_room_for_the_others(tmp_path: Path) -> None:
    with Receiver(tmp_path, max_associations_per_peer=2) as running:
        held = [RawScu(running.port) for _ in range(2)]
        assert [scu.associate()[0] for scu in held] == [ASSOCIATE_AC] * 2
        with RawScu(running.port) as scu:
            assert scu.associate() == (ASSOCIATE_RJ, bytes((0, 2, 3, 2)))
        assert works(running, source="127.0.0.2")
        for scu in held:
            scu.socket.close()


def test_half_open_connections_take_no_association_and_end_by_themselves(tmp_path: Path) -> None:
    before = association_threads()
    with Receiver(tmp_path, max_associations=4, max_associations_per_peer=4, acse_timeout_s=4) as running:
        mute = [RawScu(running.port) for _ in range(5)]
        partial = RawScu(running.port)
        partial.send(associate_rq()[:50])
        assert works(running)
        assert running.scp.admission.open_associations() <= 1
        for scu in (*mute, partial):
            assert scu.receive()[0] in (0, ABORT)
            scu.socket.close()
        assert eventually(lambda: association_threads() <= before)


def test_a_request_that_drips_in_is_given_no_more_time(tmp_path: Path) -> None:
    with Receiver(tmp_path, acse_timeout_s=1) as running, RawScu(running.port) as scu, pytest.raises(OSError):
        for byte in associate_rq():
            scu.send(bytes([byte]))
            time.sleep(0.05)


def test_a_flood_of_mute_connections_from_one_peer_does_not_shut_out_another(tmp_path: Path) -> None:
    before = association_threads()
    with Receiver(tmp_path, max_associations_per_peer=3, acse_timeout_s=5) as running, ExitStack() as flood:
        for _ in range(40):
            flood.enter_context(RawScu(running.port))
        assert eventually(lambda: association_threads() < before + 15)
        assert works(running, source="127.0.0.2")


def test_probes_of_a_load_balancer_leave_nothing_behind(receiver: Receiver) -> None:
    before = association_threads()
    for _ in range(50):
        RawScu(receiver.port).socket.close()
    assert eventually(lambda: association_threads() <= before, timeout_s=AT_ONCE_S)
    assert works(receiver)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        pdu(4, b"early"),
        bytes(100),
        b"\x01\0\xff\xff\xff\xff",
    ],
)
def test_what_is_no_request_is_aborted_at_once(receiver: Receiver, garbage: bytes) -> None:
    with RawScu(receiver.port, timeout_s=AT_ONCE_S) as scu:
        scu.send(garbage)
        with suppress(ConnectionResetError):
            assert scu.receive()[0] in (ABORT, 0)
    assert works(receiver)


def test_a_request_of_nonsense_is_aborted_at_once(receiver: Receiver) -> None:
    with RawScu(receiver.port, timeout_s=AT_ONCE_S) as scu:
        scu.send(pdu(1, b"\0\1\0\0" + b"ICHNODE".ljust(16) + b"\xff" * 500))
        assert scu.receive()[0] == ABORT


def test_a_presentation_context_without_an_abstract_syntax_is_not_accepted(receiver: Receiver) -> None:
    proposed = item(0x20, bytes((1, 0, 0, 0)) + item(0x40, b"1.2.840.10008.1.2"))
    head = associate_rq(contexts=())
    with RawScu(receiver.port, timeout_s=AT_ONCE_S) as scu:
        scu.send(pdu(1, head[6:] + proposed))
        kind, body = scu.receive()
        assert (kind, b"\x21\0\0\x08\1\0\3\0" in body or b"\x21\0\0" in body) == (ASSOCIATE_AC, True)
    assert works(receiver)


# --- time-outs -----------------------------------------------------------------------------------------------------


@ROUTES
@pytest.mark.parametrize("where", [0.0005, 0.3], ids=["in the command", "in the dataset"])
def test_a_sender_that_stalls_within_an_instance_is_cut_off(tmp_path: Path, direct: bool, where: float) -> None:
    with Receiver(tmp_path, fast_path=direct, dimse_timeout_s=1, idle_timeout_s=600) as running:
        whole = message(b"1.2.3.4", dataset(b"1.2.3.4", pixels=bytes(400_000)))
        with RawScu(running.port, timeout_s=60) as scu:
            scu.associate()
            scu.send(whole[: int(where * len(whole))])
            assert scu.receive()[0] in (0, ABORT)
        assert eventually(lambda: running.files() == {})
        assert eventually(lambda: running.scp.admission.open_associations() == 0)
        assert works(running)


@ROUTES
def test_a_sender_that_drips_is_cut_off_although_it_is_never_silent(tmp_path: Path, direct: bool) -> None:
    with Receiver(tmp_path, fast_path=direct, dimse_timeout_s=1) as running, RawScu(running.port) as scu:
        scu.associate()
        whole = message(b"1.2.3.4", dataset(b"1.2.3.4", pixels=bytes(400_000)))
        with pytest.raises(OSError):
            for start in range(0, len(whole), 500):
                scu.send(whole[start : start + 500])
                time.sleep(0.02)


def test_a_silent_association_is_aborted(tmp_path: Path) -> None:
    with Receiver(tmp_path, idle_timeout_s=4) as running, RawScu(running.port, timeout_s=60) as scu:
        scu.associate()
        assert scu.store(b"1.2.3.4") == SUCCESS
        assert scu.receive()[0] == ABORT
        assert eventually(lambda: running.scp.admission.open_associations() == 0)


def test_an_association_that_works_is_never_idle(tmp_path: Path) -> None:
    with Receiver(tmp_path, idle_timeout_s=6) as running, RawScu(running.port) as scu:
        scu.associate()
        for n in range(4):
            assert scu.store(b"1.2.3.%d" % n) == SUCCESS
            time.sleep(2)


def test_a_sender_that_never_reads_does_not_keep_its_place(tmp_path: Path) -> None:
    with Receiver(tmp_path, dimse_timeout_s=1) as running, RawScu(running.port, timeout_s=5) as scu:
        scu.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        scu.associate()
        for association in running.scp._server.active_associations:
            association.dul.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        requests = b"".join(message(b"1.2.3.%d" % n, b"\xff" * 20) for n in range(500))
        with suppress(OSError):
            scu.send(requests)  # none of the responses is read
        assert eventually(lambda: running.scp.admission.open_associations() == 0)


# --- lengths -------------------------------------------------------------------------------------------------------


@ROUTES
@pytest.mark.parametrize("length", [1 << 21, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_pdu_of_impossible_length_ends_the_association_before_it_is_read(
    tmp_path: Path, direct: bool, length: int
) -> None:
    with Receiver(tmp_path, fast_path=direct) as running:
        with RawScu(running.port) as scu:
            scu.associate()
            scu.send(bytes((4, 0)) + length.to_bytes(4, "big") + b"\0\0\1\0\1\3")
            assert scu.receive()[0] in (0, ABORT)
        assert works(running)


def test_a_command_that_never_ends_ends_the_association(tmp_path: Path) -> None:
    with Receiver(tmp_path, fast_path=False, max_instance_mb=1) as running:
        with RawScu(running.port) as scu:
            scu.associate()
            with suppress(OSError):
                for _ in range(40):
                    scu.send(pdu(4, pdv(1, 1, bytes(1 << 16))))
            with suppress(ConnectionResetError):
                assert scu.receive()[0] in (0, ABORT)
        assert works(running)


def test_unfinished_messages_of_the_ordinary_route_share_a_limit(tmp_path: Path) -> None:
    with Receiver(tmp_path, fast_path=False, max_instance_mb=1, dimse_timeout_s=120) as running:
        body = message(b"1.2.3.4", dataset(b"1.2.3.4", pixels=bytes(900_000)))[:-5000]
        held = []
        for _ in range(3):
            scu = RawScu(running.port)
            scu.associate()
            with suppress(OSError):
                scu.send(body)
            held.append(scu)
        ended, _, _ = select.select([scu.socket for scu in held], [], [], 60)  # nobody is owed an answer
        for scu in held:
            scu.socket.close()
        assert ended
        assert eventually(lambda: works(running))


# --- the disk ------------------------------------------------------------------------------------------------------


@ROUTES
def test_below_the_watermark_instances_are_refused_until_there_is_space(
    tmp_path: Path, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(tmp_path, fast_path=direct) as running, RawScu(running.port) as scu:
        scu.associate()
        assert scu.store(b"1.2.3.1") == SUCCESS
        monkeypatch.setattr(running.spool, "_min_free_bytes", 1 << 62)
        assert scu.store(b"1.2.3.2") == NO_SPACE
        assert scu.store(b"1.2.3.3", dataset(b"1.2.3.3", pixels=bytes(3 << 20))) == NO_SPACE
        monkeypatch.setattr(running.spool, "_min_free_bytes", 1)
        assert scu.store(b"1.2.3.4") == SUCCESS
    assert set(running.datasets()) == {"1.2.3.1", "1.2.3.4"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@ROUTES
def test_a_disk_that_fills_up_within_an_instance_loses_nothing_acknowledged(small_disk: Path, direct: bool) -> None:
    sent: dict[str, bytes] = {}
    with Receiver(small_disk, fast_path=direct) as running, RawScu(running.port) as scu:
        scu.associate()
        statuses = []
        for n in range(20):
            uid = f"1.2.3.{n}"
            data = dataset(uid.encode(), pixels=os.urandom(150_000))
            statuses.append(scu.store(uid.encode(), data))
            if statuses[-1] == SUCCESS:
                sent[uid] = data
        assert NO_SPACE in statuses
        assert set(statuses) == {SUCCESS, NO_SPACE}
        assert running.datasets() == sent
        assert not [name for name in running.files() if not name.endswith(".dcm")]
        for path in list((small_disk / "incoming/1.2.3").iterdir())[:5]:
            path.unlink()
        assert scu.store(b"1.2.3.77") == SUCCESS


def test_a_disk_that_fills_up_within_a_large_instance_is_cleaned_up(small_disk: Path) -> None:
    with Receiver(small_disk) as running, RawScu(running.port) as scu:
        scu.associate()
        assert scu.store(b"1.2.3.1", dataset(b"1.2.3.1", pixels=os.urandom(5 << 20))) == NO_SPACE
        assert running.files() == {}
        assert scu.store(b"1.2.3.2") == SUCCESS


def test_results_on_a_full_disk_are_whole_or_not_there(small_disk: Path) -> None:
    spool = Spool(small_disk, 1)
    with pytest.raises(Exception, match="space"):
        spool.draft_results(1, 1, {"a.dcm": os.urandom(1 << 20), "b.dcm": os.urandom(2 << 20)})
    assert list(spool.results.iterdir()) == []
    folder, place = spool.draft_results(1, 2, {"a.dcm": b"small"})
    place()
    assert folder.is_dir()


# --- patients ------------------------------------------------------------------------------------------------------


@ROUTES
def test_no_patient_data_reaches_the_log(
    tmp_path: Path, direct: bool, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(structlog.reset_defaults)
    logs.configure(LogConfig(level="debug"), "receive")
    marked = b"MARKED^PATIENT"
    with Receiver(tmp_path, fast_path=direct, dimse_timeout_s=1) as running, RawScu(running.port) as scu:
        scu.associate()
        for uid, data in (
            (b"1.2.3.4", dataset(b"1.2.3.4", patient=marked)),
            (b"1.2.3.5", dataset(b"1.2.3.6", patient=marked)),
            (b"1.2.3.4", dataset(b"1.2.3.4", patient=marked, pixels=b"other")),
            (b"1.2.3.7", dataset(b"1.2.3.7", patient=marked, series=b"MARKED")),
            (b"1.2.3.8", dataset(b"1.2.3.8", patient=marked, study=marked)),
            (b"1.2.3.9", dataset(marked, patient=marked)),
        ):
            scu.store(uid, data)
        scu.send(message(b"1.2.3.10", dataset(b"1.2.3.10", patient=marked))[:300])
        scu.receive()
    output = "".join(capfd.readouterr())
    assert "instance_refused" in output
    assert "MARKED" not in output
