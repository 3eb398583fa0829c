"""What strangers, and allowed peers gone bad, can do to the port; an honest scanner beside them hardly notices.

The short form runs with every test run; `make attack` runs the long one, which also measures the scanner's rate.
"""

from __future__ import annotations

import gc
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import structlog
from attack_form import form
from raw_scu import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    CT,
    EXPLICIT,
    IMPLICIT,
    RawScu,
    associate_rq,
    c_store_rq,
    command_element,
    dataset,
    element,
    item,
    message,
    pdu,
    pdv,
)
from receive_bench import Receiver, association_threads, eventually

from ich_node.runtime import logs
from ich_node.runtime.config import CallerConfig, LogConfig

SCANNER = "127.0.0.9"
SECONDS = form(short=1, long=3)  # six times so long: at a disk's full speed, 9 GB


def scanner_sends(port: int, seconds: float) -> float:
    """Images of 512 KB that the honest scanner stores in a second, ten to an association; raises when it cannot."""
    pixels, count, began = bytes(512 << 10), 0, time.monotonic()
    while time.monotonic() - began < seconds:
        with RawScu(port, source=SCANNER) as scu:
            assert scu.associate(associate_rq(calling=b"CT1"))[0] == ASSOCIATE_AC
            for _ in range(10):
                count += 1
                uid = b"1.2.9.%d.%d" % (time.monotonic_ns(), count)
                assert scu.store(uid, dataset(uid, pixels=pixels)) == 0
            scu.release()
    return count / (time.monotonic() - began)


@contextmanager
def meanwhile(threads: int, work: Callable[[int], None]) -> Iterator[None]:
    """work(number) again and again in so many threads."""
    stop = threading.Event()

    def again(number: int) -> None:
        while not stop.is_set():
            try:
                work(number)
            except OSError:
                time.sleep(0.02)

    running = [threading.Thread(target=again, args=(number,), daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join(60)


def only_the_scanner(*more: CallerConfig) -> tuple[CallerConfig, ...]:
    return (CallerConfig(ae_title="CT1", addresses=(SCANNER,)), *more)


def compared(receiver: Receiver, attack: Callable[[], object]) -> None:
    """The scanner's rate under `attack` against its rate alone, three times in turn; the long form judges it."""
    alone, under = [], []
    for _ in range(3):
        alone.append(scanner_sends(receiver.port, SECONDS))
        with attack():  # type: ignore[attr-defined]
            under.append(scanner_sends(receiver.port, SECONDS))
    print(f"images/s alone {max(alone):.0f}, under attack {max(under):.0f}: {max(under) / max(alone):.0%}")
    if form(short=0, long=1):
        assert max(under) >= 0.9 * max(alone)


# --- strangers -----------------------------------------------------------------------------------------------------


def test_strangers_that_say_nothing_take_no_thread_and_no_place_and_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ich_node.receive.door.STRANGER_S", 0.2)
    with Receiver(tmp_path, callers=only_the_scanner()) as receiver:
        before = association_threads()
        held = []
        for number in range(128):
            with suppress(OSError):
                held.append(RawScu(receiver.port, source=f"127.0.0.{10 + number // 32}"))
        assert association_threads() == before
        assert receiver.scp.admission.pending() == 0
        for scu in held:
            with suppress(ConnectionResetError):
                assert scu.socket.recv(1) == b""
            scu.socket.close()


def test_strangers_are_one_counted_line_for_each_address_and_minute(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(structlog.reset_defaults)
    logs.configure(LogConfig(), "receive")
    with Receiver(tmp_path, callers=only_the_scanner()) as receiver:
        for number in range(60):
            RawScu(receiver.port, source=f"127.0.0.{10 + number % 3}").socket.close()
        with RawScu(receiver.port, source=SCANNER) as scu:  # accepted behind all of them
            assert scu.associate(associate_rq(calling=b"CT1"))[0] == ASSOCIATE_AC
    lines = [line for line in "".join(capfd.readouterr()).splitlines() if "association_rejected" in line]
    assert len(lines) == 3
    assert all("receive.callers" in line for line in lines)


def test_strangers_do_not_make_the_interpreter_look_for_garbage(tmp_path: Path) -> None:
    """pynetdicom does so every 60 connections, which stops the scanner for a tenth of a second each time."""
    looks: list[str] = []

    def note(phase: str, _info: dict[str, int]) -> None:
        if threading.current_thread().name == "accept":
            looks.append(phase)

    with Receiver(tmp_path, callers=only_the_scanner()) as receiver:
        gc.disable()  # what is left is what somebody asks for
        gc.callbacks.append(note)
        try:
            for _ in range(150):
                RawScu(receiver.port, source="127.0.0.10").socket.close()
            with RawScu(receiver.port, source=SCANNER) as scu:  # accepted behind all of them
                assert scu.associate(associate_rq(calling=b"CT1"))[0] == ASSOCIATE_AC
        finally:
            gc.callbacks.remove(note)
            gc.enable()
    assert not looks


def test_the_scanner_keeps_its_rate_under_128_silent_strangers(tmp_path: Path) -> None:
    def silent(number: int, port: int) -> None:
        with RawScu(port, source=f"127.0.0.{10 + number // 32}", timeout_s=15) as scu:
            scu.socket.recv(1)
            time.sleep(0.05)

    with Receiver(tmp_path, callers=only_the_scanner(), acse_timeout_s=20, dimse_timeout_s=20) as receiver:
        compared(receiver, lambda: meanwhile(form(short=16, long=128), lambda n: silent(n, receiver.port)))


@pytest.mark.parametrize("listed", [False, True], ids=["strangers", "another title at a listed address"])
def test_the_scanner_keeps_its_rate_under_a_flood_of_large_requests(tmp_path: Path, listed: bool) -> None:
    related = item(0x57, b"\0\x011\0\x011\0\0") * 5000
    body = associate_rq(contexts=(), calling=b"RED")[6:] + item(0x50, item(0x51, b"\0\0\x40\0") + related)
    request = pdu(1, body[:65000])

    def ask(_number: int, port: int) -> None:
        with RawScu(port, source="127.0.0.3", timeout_s=15) as scu:
            scu.send(request)
            scu.socket.recv(100)
            time.sleep(0.25)  # 0.25 MB/s

    callers = only_the_scanner(CallerConfig(ae_title="CT3", addresses=("127.0.0.3",))) if listed else only_the_scanner()
    with Receiver(tmp_path, callers=callers, acse_timeout_s=20, dimse_timeout_s=20) as receiver:
        compared(receiver, lambda: meanwhile(1, lambda n: ask(n, receiver.port)))


def test_listed_addresses_that_say_nothing_do_not_keep_the_scanner_out(tmp_path: Path) -> None:
    callers = (CallerConfig(ae_title="*", addresses=("127.0.0.0/24",)),)
    with Receiver(tmp_path, callers=callers, max_associations=8, max_associations_per_peer=4) as receiver:
        held = [RawScu(receiver.port, source=f"127.0.0.{10 + number // 8}") for number in range(32)]
        assert eventually(lambda: receiver.scp.admission.pending() == 16)
        assert scanner_sends(receiver.port, 0.1) > 0
        for scu in held:
            scu.socket.close()
        assert eventually(lambda: receiver.scp.admission.pending() == 0)


def test_the_titles_decide_before_the_items_have_come(tmp_path: Path) -> None:
    with Receiver(tmp_path, acse_timeout_s=2) as receiver, RawScu(receiver.port) as scu:
        request = associate_rq(called=b"OTHER", contexts=((CT, (EXPLICIT,)),) * 100)
        scu.send(request[:-1])
        assert receiver.scp.admission.open_associations() == 0
        scu.send(request[-1:])
        assert scu.receive()[0] == ASSOCIATE_RJ


def test_a_request_of_more_than_64_kib_is_not_read(tmp_path: Path) -> None:
    with Receiver(tmp_path) as receiver, RawScu(receiver.port) as scu:
        scu.send(struct.pack(">BxI", 1, (1 << 16) + 1))
        assert scu.receive()[0] in (0, 7)


# --- allowed peers gone bad ----------------------------------------------------------------------------------------

COMMITMENT, WELL_KNOWN = b"1.2.840.10008.1.20.1", b"1.2.840.10008.1.20.1.1"


def n_action(data: bytes, context: int = 3) -> bytes:
    """An N-ACTION-RQ of Storage Commitment, as PDUs."""
    body = (
        command_element(0x0003, COMMITMENT)
        + command_element(0x0100, b"\x30\x01")
        + command_element(0x0110, b"\1\0")
        + command_element(0x0800, b"\1\0")
        + command_element(0x1001, WELL_KNOWN)
        + command_element(0x1008, b"\1\0")
    )
    command = command_element(0, struct.pack("<I", len(body))) + body
    pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    fragments = [pdu(4, pdv(context, 2 if n == len(pieces) - 1 else 0, piece)) for n, piece in enumerate(pieces)]
    return pdu(4, pdv(context, 3, command)) + b"".join(fragments)


def test_a_command_beyond_64_kib_ends_the_association_before_it_is_decoded(tmp_path: Path) -> None:
    with Receiver(tmp_path) as receiver, RawScu(receiver.port) as scu:
        scu.associate()
        padded = c_store_rq(b"1.2.3") + command_element(0x5110, b"x" * (1 << 16))
        with suppress(OSError):
            scu.send(pdu(4, pdv(1, 3, padded)))
            assert scu.receive()[0] in (0, 7)


def test_pipelined_messages_of_the_ordinary_route_wait_outside(tmp_path: Path) -> None:
    """One message at a time: what follows stays in the sender's memory until the response is out."""
    with Receiver(tmp_path, fast_path=False) as receiver, RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(b"".join(message(b"1.2.3.%d" % n, dataset(b"1.2.3.%d" % n)) for n in range(20)))
        assert [scu.status() for _ in range(20)] == [0] * 20
        held = receiver.scp._server.active_associations[0].dul.socket
        assert eventually(lambda: held._memory._held == 0)


def test_an_unknown_storage_class_is_set_aside_or_not_accepted(tmp_path: Path) -> None:
    private = b"1.2.826.0.1.3680043.9.9999.1"
    for setting, kept in ((True, 1), (False, 0)):
        for direct in (True, False):
            folder = tmp_path / f"{setting}-{direct}"
            with (
                Receiver(folder, any_storage_class=setting, fast_path=direct) as receiver,
                RawScu(receiver.port) as scu,
            ):
                assert scu.associate(associate_rq(((private, (EXPLICIT,)), (CT, (EXPLICIT,)))))[0] == ASSOCIATE_AC
                if kept:
                    data = dataset(b"1.2.3.4", sop_class=private)
                    assert scu.store(b"1.2.3.4", data, sop_class=private) == 0
                assert scu.store(b"1.2.3.5", context=3) == 0
                assert sum(name.startswith("set_aside/") for name in receiver.files()) == kept


def test_a_caller_may_do_what_its_services_say(tmp_path: Path) -> None:
    callers = (CallerConfig(ae_title="PROBE", services=("echo",)), CallerConfig(ae_title="CT*", services=("store",)))
    contexts = ((CT, (EXPLICIT,)), (b"1.2.840.10008.1.1", (IMPLICIT,)))
    with Receiver(tmp_path, callers=callers) as receiver:
        for title, results in ((b"PROBE", (3, 0)), (b"CT7", (0, 3))):
            with RawScu(receiver.port) as scu:
                kind, body = scu.associate(associate_rq(contexts, calling=title))
                assert kind == ASSOCIATE_AC
                assert context_results(body) == results


def context_results(body: bytes) -> tuple[int, ...]:
    """The results of the presentation contexts in an A-ASSOCIATE-AC, in the order of their IDs."""
    found, offset = {}, 68
    while offset < len(body):
        kind, length = body[offset], int.from_bytes(body[offset + 2 : offset + 4], "big")
        if kind == 0x21:
            found[body[offset + 4]] = body[offset + 6]
        offset += 4 + length
    return tuple(found[number] for number in sorted(found))


# --- words of strangers --------------------------------------------------------------------------------------------


def test_no_words_of_a_stranger_reach_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(structlog.reset_defaults)
    logs.configure(LogConfig(level="debug"), "receive")
    with Receiver(tmp_path) as receiver:
        for title in (b'EV\x1b[2J\nx{"e":"x', b"\xff\xfe\x00WORD", "KÖLN".encode(), b"[red]A[/red]"):
            for called in (b"ICHNODE", title):
                with RawScu(receiver.port) as scu, suppress(OSError):
                    scu.associate(associate_rq(calling=title, called=called))
        with RawScu(receiver.port) as scu:
            scu.associate(associate_rq(((b"MUELLER^ANNA", (EXPLICIT,)), (CT, (EXPLICIT,)))))
            scu.store(b"DOE^JOHN", dataset(b"DOE^JOHN"), context=3)
            scu.store(b"1.2.3.4", dataset(b"1.2.3.4") + element(0x0010, 0x0020, b"LO", b"DOE^JOHN"), context=3)
    output = "".join(capfd.readouterr())
    assert "association" in output
    for word in ("\x1b", "WORD", "MUELLER", "DOE", "ö", "Ö", "\xff"):
        assert word not in output
    assert all(line.startswith("{") for line in output.splitlines() if line)
