"""Who may come in, and how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ich_node.receive.admission import (
    NOT_ITS_CERTIFICATE,
    STOPPING,
    TOO_MANY,
    TOO_MANY_OF_PEER,
    UNKNOWN_CALLED,
    UNKNOWN_CALLER,
    Admission,
    Slot,
    Told,
    plain_address,
)
from ich_node.runtime.config import CallerConfig, ReceiveConfig, TlsConfig


def admission(*callers: CallerConfig, **changes: Any) -> Admission:
    if callers:
        changes["callers"] = callers
    return Admission(ReceiveConfig(**changes), "ICHNODE")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_by_default_anybody_on_this_machine_may_come(address: str) -> None:
    assert isinstance(admission().caller("ANY", "ICHNODE", address), CallerConfig)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.7", "fe80::1", "2001:db8::1"])
def test_by_default_nobody_else_may(address: str) -> None:
    assert admission().caller("ANY", "ICHNODE", address) == UNKNOWN_CALLER


def test_title_and_address_must_be_allowed_together() -> None:
    door = admission(
        CallerConfig(ae_title="CT1", addresses=("10.1.0.0/16",)), CallerConfig(ae_title="CT2", addresses=("10.2.0.7",))
    )
    assert isinstance(door.caller("CT1", "ICHNODE", "10.1.2.3"), CallerConfig)
    assert isinstance(door.caller("CT2", "ICHNODE", "10.2.0.7"), CallerConfig)
    assert door.caller("CT2", "ICHNODE", "10.1.2.3") == UNKNOWN_CALLER
    assert door.caller("CT1", "ICHNODE", "10.2.0.7") == UNKNOWN_CALLER


def test_an_ipv4_caller_on_an_ipv6_socket_is_recognised() -> None:
    assert plain_address("::ffff:10.1.2.3") == "10.1.2.3"
    assert plain_address("fe80::1%eth0") == "fe80::1"
    door = admission(CallerConfig(ae_title="*", addresses=("10.1.0.0/16",)))
    assert isinstance(door.caller("CT1", "ICHNODE", "::ffff:10.1.2.3"), CallerConfig)


def test_the_called_title_is_checked_unless_that_is_switched_off() -> None:
    assert admission().caller("CT1", "OTHER", "127.0.0.1") == UNKNOWN_CALLED
    assert isinstance(admission(also_called=["OTHER"]).caller("CT1", "OTHER", "127.0.0.1"), CallerConfig)
    assert isinstance(admission(check_called_ae_title=False).caller("CT1", "OTHER", "127.0.0.1"), CallerConfig)


def test_titles_may_be_patterns() -> None:
    door = admission(CallerConfig(ae_title="CT*"), CallerConfig(ae_title="MR_?"))
    assert isinstance(door.caller("CT_ER", "ICHNODE", "127.0.0.1"), CallerConfig)
    assert isinstance(door.caller("MR_1", "ICHNODE", "127.0.0.1"), CallerConfig)
    for title in ("MR_12", "XCT", "ct_er", ""):
        assert door.caller(title, "ICHNODE", "127.0.0.1") == UNKNOWN_CALLER


def test_addresses_outside_every_network_are_not_known() -> None:
    door = admission(CallerConfig(ae_title="CT1", addresses=("10.1.0.0/16", "2001:db8::/32")))
    assert [door.knows(a) for a in ("10.1.9.9", "10.2.0.1", "::ffff:10.1.0.1", "2001:db8::7", "::1")] == [
        True, False, True, True, False,
    ]  # fmt: skip


def test_a_caller_that_is_bound_to_a_certificate_must_show_it() -> None:
    door = admission(
        CallerConfig(ae_title="CT1", certificate="ct1.hospital"), CallerConfig(ae_title="CT2"),
        tls=TlsConfig(certificate=Path("c"), private_key=Path("k"), ca=Path("a")),
    )  # fmt: skip
    assert isinstance(door.caller("CT1", "ICHNODE", "127.0.0.1", frozenset({"ct1.hospital"})), CallerConfig)
    assert door.caller("CT1", "ICHNODE", "127.0.0.1", frozenset({"coffee"})) == NOT_ITS_CERTIFICATE
    assert isinstance(door.caller("CT2", "ICHNODE", "127.0.0.1", frozenset({"coffee"})), CallerConfig)


def test_there_is_a_largest_number_of_associations_and_slots_come_free() -> None:
    door = admission(max_associations=2)
    slots = [door.admit(f"127.0.0.{n}") for n in (1, 2)]
    assert door.admit("127.0.0.3") == TOO_MANY
    assert isinstance(slots[0], Slot)
    slots[0].alive = lambda: False
    assert door.open_associations() == 1
    assert isinstance(door.admit("127.0.0.3"), Slot)


def test_one_peer_can_not_take_all_slots() -> None:
    door = admission(max_associations=10, max_associations_per_peer=2)
    for _ in range(2):
        assert isinstance(door.admit("127.0.0.1"), Slot)
    assert door.admit("127.0.0.1") == TOO_MANY_OF_PEER
    assert isinstance(door.admit("127.0.0.2"), Slot)


def test_the_last_quarter_of_the_slots_is_for_peers_that_have_none() -> None:
    door = admission(max_associations=8, max_associations_per_peer=8)
    taken = [door.admit(f"127.0.0.{n % 2}") for n in range(8)]
    assert [isinstance(slot, Slot) for slot in taken] == [True] * 6 + [False] * 2
    assert isinstance(door.admit("127.0.0.7"), Slot)


def test_who_holds_most_pending_places_loses_the_oldest_to_a_newcomer() -> None:
    door = admission(max_associations=2, max_associations_per_peer=3)
    closed: list[int] = []
    for key in range(4):
        door.arrived("127.0.0.1", key, lambda key=key: closed.append(key))
    assert closed == []
    door.arrived("127.0.0.2", 7, lambda: closed.append(7))
    assert closed == [0]
    door.decided("127.0.0.1", 1)
    door.arrived("127.0.0.3", 8, lambda: closed.append(8))
    assert closed == [0]
    assert door.pending() == 4


def test_one_address_holds_so_many_pending_places_and_no_more() -> None:
    door = admission(max_associations_per_peer=2)
    closed: list[int] = []
    for key in range(6):
        door.arrived("127.0.0.1", key, lambda key=key: closed.append(key))
    assert closed == [0, 1]
    for key in range(6):
        door.decided("127.0.0.1", key)
    assert door.pending() == 0


def test_trouble_is_one_line_a_minute_and_counted() -> None:
    now = [0.0]
    told = Told(clock=lambda: now[0])
    assert [told("a") for _ in range(5)] == [1, 0, 0, 0, 0]
    assert told("b") == 1
    now[0] = 61.0
    assert told("a") == 5
    assert [told(("peer", n)) > 0 for n in range(3000)].count(True) <= 1025


def test_a_stopping_node_admits_nobody() -> None:
    door = admission()
    door.stopping = True
    assert door.admit("127.0.0.1") == STOPPING


def test_a_rejection_is_a_pdu() -> None:
    assert UNKNOWN_CALLER.pdu() == bytes.fromhex("03000000000400010103")
