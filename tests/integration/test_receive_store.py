"""C-STORE over real sockets, on both routes: what is acknowledged is on disk, byte for byte."""

from __future__ import annotations

import gc
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import raw_scu
from pydicom import Dataset
from pydicom.uid import JPEGLSLossless
from pynetdicom import AE, evt
from pynetdicom.timer import Timer
from raw_scu import CT, DEFLATED, ENHANCED_SR, EXPLICIT, IMPLICIT, RawScu, associate_rq, c_store_rq, dataset, pdu, pdv
from receive_bench import Receiver, association_threads, eventually

from ich_node.dicom import pynetdicom_3_0
from ich_node.domain.errors import IchNodeError
from ich_node.receive.fast_path import BUFFER
from ich_node.receive.scp import Extension, Scp
from ich_node.receive.transport import BoundedSocket

SUCCESS, NO_SPACE, MISMATCH, NOT_UNDERSTOOD, NOT_SUPPORTED = 0, 0xA700, 0xA900, 0xC000, 0x0122
LONG_S = 120.0


@pytest.fixture(params=[True, False], ids=["direct", "ordinary"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path, fast_path=request.param) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["direct", "ordinary"])
def patient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    """One that waits for minutes: threads of one process may hold each other up for seconds."""
    waits = {"acse_timeout_s": LONG_S, "dimse_timeout_s": LONG_S, "idle_timeout_s": LONG_S}
    with Receiver(tmp_path, fast_path=request.param, **waits) as running:
        yield running


def test_verification(receiver: Receiver) -> None:
    entity = AE("RAW")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", receiver.port, ae_title="ICHNODE")
    assert association.is_established
    assert association.send_c_echo().Status == SUCCESS
    association.release()
    assert eventually(lambda: receiver.heard.endings == [True])


def test_what_is_acknowledged_is_on_disk_byte_for_byte(receiver: Receiver) -> None:
    sent = {f"1.2.3.{n}": dataset(f"1.2.3.{n}".encode(), pixels=bytes([n]) * 40000) for n in range(1, 20)}
    with RawScu(receiver.port) as scu:
        scu.associate()
        for uid, data in sent.items():
            assert scu.store(uid.encode(), data) == SUCCESS
            assert receiver.datasets()[uid] == data
        assert scu.release() == raw_scu.RELEASE_RP
    assert receiver.datasets() == sent
    assert eventually(lambda: receiver.heard.endings == [True])
    assert receiver.heard.stored_series == [("1.2", "1.2.3")] * 19


@pytest.mark.parametrize("piece", [2, 1000, 16378, 131066])
def test_any_size_of_pdu_gives_the_same_bytes(receiver: Receiver, piece: int) -> None:
    data = dataset(b"1.2.3.4", pixels=bytes(range(256)) * (2 if piece == 2 else 2000))
    with RawScu(receiver.port) as scu:
        scu.associate()
        assert scu.store(b"1.2.3.4", data, piece=piece) == SUCCESS
    assert receiver.datasets()["1.2.3.4"] == data


@pytest.mark.parametrize("size", [BUFFER - 200, BUFFER, BUFFER + 1, 5 * BUFFER + 12345])
def test_instances_around_and_beyond_the_buffer_are_whole(receiver: Receiver, size: int) -> None:
    data = dataset(b"1.2.3.4", pixels=(b"%07d " % size) * (size // 8 + 1))
    with RawScu(receiver.port) as scu:
        scu.associate()
        assert scu.store(b"1.2.3.4", data) == SUCCESS
        assert scu.store(b"1.2.3.5") == SUCCESS
    assert receiver.datasets()["1.2.3.4"] == data


def test_bytes_that_trickle_in_are_put_together(receiver: Receiver) -> None:
    data = dataset(b"1.2.3.4", pixels=bytes(64))
    with RawScu(receiver.port) as scu:
        scu.associate()
        for byte in raw_scu.message(b"1.2.3.4", data, piece=100):
            scu.send(bytes([byte]))
        assert scu.status() == SUCCESS
    assert receiver.datasets()["1.2.3.4"] == data


def test_requests_that_do_not_wait_for_responses_are_all_served(receiver: Receiver) -> None:
    uids = [f"1.2.3.{n}".encode() for n in range(1, 30)]
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(b"".join(raw_scu.message(uid, dataset(uid)) for uid in uids))
        assert [scu.status() for _ in uids] == [SUCCESS] * len(uids)
        assert scu.release() == raw_scu.RELEASE_RP
    assert set(receiver.datasets()) == {uid.decode() for uid in uids}


def test_command_and_dataset_in_one_pdu_are_understood(receiver: Receiver) -> None:
    data = dataset(b"1.2.3.4")
    body = pdv(1, 3, c_store_rq(b"1.2.3.4")) + pdv(1, 0, data[:100]) + pdv(1, 0, b"") + pdv(1, 2, data[100:])
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(pdu(4, body))
        assert scu.status() == SUCCESS
    assert receiver.datasets()["1.2.3.4"] == data


def test_a_command_in_several_fragments_is_understood(receiver: Receiver) -> None:
    data, command = dataset(b"1.2.3.4"), c_store_rq(b"1.2.3.4")
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(pdu(4, pdv(1, 1, command[:40])) + pdu(4, pdv(1, 3, command[40:])) + pdu(4, pdv(1, 2, data)))
        assert scu.status() == SUCCESS
        assert scu.store(b"1.2.3.5") == SUCCESS
    assert receiver.datasets()["1.2.3.4"] == data


def test_both_routes_write_identical_files(tmp_path: Path) -> None:
    written = []
    for direct in (True, False):
        with Receiver(tmp_path / str(direct), fast_path=direct) as running, RawScu(running.port) as scu:
            scu.associate(associate_rq([(CT, (EXPLICIT,)), (ENHANCED_SR, (EXPLICIT,))]))
            for n in range(5):
                scu.store(b"1.2.3.%d" % n, dataset(b"1.2.3.%d" % n, pixels=bytes([n]) * 50_000 * n))
            sr = dataset(b"1.9.1", series=b"1.9", sop_class=ENHANCED_SR)
            scu.store(b"1.9.1", sr, sop_class=ENHANCED_SR, context=3)
            scu.store(b"1.2.3.77", dataset(b"1.2.3.78"))
            written.append(running.files())
    assert written[0] == written[1]
    assert len(written[0]) == 6


def test_the_first_instance_of_an_association_takes_the_direct_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scp, "_on_c_store", lambda *_: pytest.fail("took the ordinary route"))
    with Receiver(tmp_path) as running:
        for n in range(40):
            with RawScu(running.port) as scu:
                scu.associate()
                assert scu.store(b"1.2.3.%d" % n) == SUCCESS
    assert len(running.datasets()) == 40


def test_a_pynetdicom_that_lacks_what_we_touch_is_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pynetdicom_3_0.lacks() == []
    monkeypatch.setattr(pynetdicom_3_0, "PRIVATE", ((Timer, ("restart", "hibernate")),))
    with pytest.raises(IchNodeError, match=r"it lacks Timer\.hibernate$"):
        Receiver(tmp_path)


def test_an_idle_echo_between_instances_is_answered(receiver: Receiver) -> None:
    echo = b"".join(
        (raw_scu.command_element(0x0002, b"1.2.840.10008.1.1"), raw_scu.command_element(0x0100, b"\x30\0"),
         raw_scu.command_element(0x0110, b"\7\0"), raw_scu.command_element(0x0800, b"\1\1"))
    )  # fmt: skip
    echo = raw_scu.command_element(0, len(echo).to_bytes(4, "little")) + echo
    with RawScu(receiver.port) as scu:
        scu.associate(associate_rq([(CT, (EXPLICIT,)), (b"1.2.840.10008.1.1", (IMPLICIT,))]))
        for n in range(3):
            assert scu.store(b"1.2.3.%d" % n) == SUCCESS
            scu.send(pdu(4, pdv(3, 3, echo)))
            assert scu.status() == SUCCESS


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("uid", "data", "status"),
    [
        (b"1.2.3.4", dataset(b"1.2.3.5"), MISMATCH),
        (b"1.2.3.4", dataset(b"1.2.3.4", sop_class=ENHANCED_SR), MISMATCH),
        (b"1.2.3.4", dataset(b"1.2.3.4", series=b""), NOT_UNDERSTOOD),
        (b"1.2.3.4", dataset(b"1.2.3.4", series=b"../../../tmp/x"), NOT_UNDERSTOOD),
        (b"1.2.3.4", dataset(b"1.2.3.4", series=b".."), NOT_UNDERSTOOD),
        (b"1.2.3.4", dataset(b"1.2.3.4", study=b"1/2"), NOT_UNDERSTOOD),
        (b"../1.2.3", dataset(b"../1.2.3"), NOT_UNDERSTOOD),
        (b"/etc/passwd", dataset(b"/etc/passwd"), NOT_UNDERSTOOD),
        (b"1..2", dataset(b"1..2"), NOT_UNDERSTOOD),
        (b"1.2.3.4", b"\xff" * 300, NOT_UNDERSTOOD),
        (b"1.2.3.4", dataset(b"1.2.3.4")[:50], NOT_UNDERSTOOD),
        (b"1.2.3.4", b"", NOT_UNDERSTOOD),
    ],
)
def test_what_can_not_be_stored_is_refused_and_the_next_instance_is_taken(
    receiver: Receiver, uid: bytes, data: bytes, status: int
) -> None:
    with RawScu(receiver.port) as scu:
        scu.associate()
        assert scu.store(uid, data) == status
        assert scu.store(b"1.2.3.99") == SUCCESS
    assert set(receiver.files()) == {"incoming/1.2.3/1.2.3.99.dcm"}


def test_a_sop_class_of_another_context_is_not_supported(receiver: Receiver) -> None:
    with RawScu(receiver.port) as scu:
        scu.associate()
        assert scu.store(b"1.9.1", dataset(b"1.9.1", sop_class=ENHANCED_SR), sop_class=ENHANCED_SR) == NOT_SUPPORTED
    assert receiver.files() == {}


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "ordinary"])
def test_an_instance_larger_than_allowed_is_refused_and_the_next_one_taken(tmp_path: Path, direct: bool) -> None:
    with Receiver(tmp_path, max_instance_mb=1, fast_path=direct) as running, RawScu(running.port) as scu:
        scu.associate()
        for _ in range(3):
            assert scu.store(b"1.2.3.4", dataset(b"1.2.3.4", pixels=bytes(6 << 20))) == NOT_UNDERSTOOD
        assert scu.store(b"1.2.3.5") == SUCCESS
    assert set(running.datasets()) == {"1.2.3.5"}


def test_what_a_pacs_rule_drags_along_is_set_aside(receiver: Receiver) -> None:
    with RawScu(receiver.port) as scu:
        scu.associate(associate_rq([(ENHANCED_SR, (EXPLICIT,))]))
        assert scu.store(b"1.9.1", dataset(b"1.9.1", series=b"1.9", sop_class=ENHANCED_SR), sop_class=ENHANCED_SR) == 0
    assert set(receiver.files()) == {"set_aside/1.9/1.9.1.dcm"}
    assert receiver.heard.stored_series == []


def test_a_deflated_dataset_is_stored_as_received(receiver: Receiver) -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(dataset(b"1.2.3.4")) + deflater.flush()
    data += b"\0" * (len(data) % 2)
    with RawScu(receiver.port) as scu:
        scu.associate(associate_rq([(CT, (DEFLATED,))]))
        assert scu.store(b"1.2.3.4", data) == SUCCESS
    assert receiver.datasets()["1.2.3.4"] == data


def test_the_same_image_again_changes_nothing_and_another_one_is_kept_beside_it(receiver: Receiver) -> None:
    first, second = dataset(b"1.2.3.4", pixels=b"first!"), dataset(b"1.2.3.4", pixels=b"second")
    with RawScu(receiver.port) as scu:
        scu.associate()
        assert scu.store(b"1.2.3.4", first) == SUCCESS
        assert scu.store(b"1.2.3.4", first) == SUCCESS
        assert scu.store(b"1.2.3.4", second) == SUCCESS
    assert receiver.datasets() == {"1.2.3.4": first, "1.2.3.4~2": second}


@pytest.mark.parametrize("where", [0.02, 0.5, 0.99])
def test_an_abort_in_the_middle_of_an_instance_leaves_nothing(receiver: Receiver, where: float) -> None:
    whole = raw_scu.message(b"1.2.3.4", dataset(b"1.2.3.4", pixels=bytes(3 << 20)))
    boundary = int(where * len(whole)) // 16390 * 16390 if where > 0.1 else len(raw_scu.message(b"1.2.3.4", b"")) - 12
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(whole[:boundary] + pdu(7, bytes(4)))
    assert eventually(lambda: receiver.heard.endings == [False])
    assert receiver.files() == {}


@pytest.mark.parametrize("where", [0.02, 0.5, 0.99])
def test_a_lost_connection_in_the_middle_of_an_instance_leaves_nothing(receiver: Receiver, where: float) -> None:
    whole = raw_scu.message(b"1.2.3.4", dataset(b"1.2.3.4", pixels=bytes(3 << 20)))
    with RawScu(receiver.port) as scu:
        scu.associate()
        assert scu.store(b"1.2.3.3") == SUCCESS
        scu.send(whole[: int(where * len(whole))])
    assert eventually(lambda: receiver.heard.endings == [False])
    assert set(receiver.files()) == {"incoming/1.2.3/1.2.3.3.dcm"}


@pytest.mark.parametrize(
    "wrong",
    [
        pdu(4, pdv(1, 3, c_store_rq(b"1.2.3.9"))),  # a command within a dataset
        pdu(4, pdv(3, 0, b"other context")),
        pdu(4, struct_overflow := b"\0\0\1\0\1\0" + b"too short"),
        pdu(4, b""),
        pdu(9, b"unknown type"),
        pdu(5, bytes(4)),  # a release within a dataset
    ],
    ids=["command", "context", "length", "empty", "unknown", "release"],
)
def test_a_protocol_error_within_an_instance_ends_the_association(receiver: Receiver, wrong: bytes) -> None:
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(pdu(4, pdv(1, 3, c_store_rq(b"1.2.3.4"))) + pdu(4, pdv(1, 0, dataset(b"1.2.3.4"))) + wrong)
        scu.send(pdu(4, pdv(1, 2, b"end")) * 3)
        try:
            answers = [scu.receive()]
        except OSError:
            answers = []
        assert all(raw_scu.status_of(body) != SUCCESS for kind, body in answers if kind == 4)
    assert eventually(lambda: not [name for name in receiver.files() if name.endswith(".part")])
    with RawScu(receiver.port) as scu:
        scu.associate()
        assert scu.store(b"1.2.3.10") == SUCCESS


def test_eight_senders_at_a_time_lose_nothing(patient: Receiver) -> None:
    acknowledged: list[str] = []

    def send(number: int) -> None:
        with RawScu(patient.port, LONG_S) as scu:
            scu.associate()
            for n in range(15):
                uid = f"1.{number}.{n}"
                data = dataset(uid.encode(), series=b"1.%d" % (number // 2), pixels=bytes(60_000))
                if scu.store(uid.encode(), data) == SUCCESS:
                    acknowledged.append(uid)
            scu.release()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(acknowledged) == 120
    assert set(patient.datasets()) == set(acknowledged)
    assert eventually(lambda: patient.heard.endings == [True] * 8, LONG_S)


def test_every_association_gives_back_its_threads_and_its_buffer(receiver: Receiver) -> None:
    def sockets() -> int:
        gc.collect()
        return sum(issubclass(type(each), BoundedSocket) for each in gc.get_objects())

    before, held = association_threads(), sockets()
    for n in range(10):
        with RawScu(receiver.port) as scu:
            scu.associate()
            scu.store(b"1.2.3.%d" % n)
            if n % 2:
                scu.release()
    assert eventually(lambda: association_threads() <= before and receiver.scp.admission.open_associations() == 0)
    assert eventually(lambda: sockets() <= held)


def test_the_senders_first_choice_of_transfer_syntax_is_taken(receiver: Receiver) -> None:
    entity = AE("RAW")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", [JPEGLSLossless, "1.2.840.10008.1.2.1"])
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2.1", ["1.2.840.10008.1.2.2"])
    association = entity.associate("127.0.0.1", receiver.port, ae_title="ICHNODE")
    accepted = {
        str(context.abstract_syntax): str(context.transfer_syntax[0]) for context in association.accepted_contexts
    }
    association.release()
    assert accepted == {
        "1.2.840.10008.5.1.4.1.1.2": JPEGLSLossless,
        "1.2.840.10008.5.1.4.1.1.4": "1.2.840.10008.1.2.1",  # implicit VR only when nothing else is offered
    }


def test_a_service_beside_storage_gets_its_requests(tmp_path: Path) -> None:
    asked = []

    def on_n_action(event: evt.Event) -> tuple[int, Dataset | None]:
        asked.append(str(event.request.RequestedSOPInstanceUID))
        return 0x0000, None

    extension = Extension(("1.2.840.10008.1.20.1",), ((evt.EVT_N_ACTION, on_n_action),))
    with Receiver(tmp_path, extension=extension) as bench:
        entity = AE("RAW")
        entity.add_requested_context("1.2.840.10008.1.20.1")
        association = entity.associate("127.0.0.1", bench.port, ae_title="ICHNODE")
        information = Dataset()
        information.TransactionUID = "1.2.3"
        status, _ = association.send_n_action(information, 1, "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1")
        association.release()
    assert status.Status == SUCCESS
    assert asked == ["1.2.840.10008.1.20.1.1"]


def test_an_orderly_stop_finishes_the_instance_under_way(receiver: Receiver) -> None:
    whole = raw_scu.message(b"1.2.3.4", dataset(b"1.2.3.4", pixels=bytes(200_000)))
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(whole[:100_000])
        assert eventually(
            lambda: any(getattr(a.dul.socket, "busy", False) for a in receiver.scp._server.active_associations)
        )
        stopper = threading.Thread(target=receiver.scp.stop)
        stopper.start()
        assert eventually(lambda: receiver.scp.admission.stopping)
        with RawScu(receiver.port) as other:
            assert other.associate() == (raw_scu.ASSOCIATE_RJ, bytes((0, 2, 3, 1)))
        scu.send(whole[100_000:])
        assert scu.status() == SUCCESS
        assert scu.receive()[0] in (raw_scu.ABORT, 0)
        stopper.join(60)
    assert set(receiver.datasets()) == {"1.2.3.4"}
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", receiver.port), 1):
        pass


def test_idle_associations_cost_next_to_no_cpu(receiver: Receiver) -> None:
    scus = [RawScu(receiver.port) for _ in range(10)]
    for scu in scus:
        scu.associate()
    time.sleep(0.5)
    before = time.process_time()
    time.sleep(1)
    spent = time.process_time() - before
    for scu in scus:
        scu.socket.close()
    assert spent < 0.5  # pynetdicom's own loops take more than a second for these ten
