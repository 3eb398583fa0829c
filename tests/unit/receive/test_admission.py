"""Who may come in, and how many."""

from __future__ import annotations

from typing import Any

import pytest

from ich_node.receive.admission import (
    STOPPING,
    TOO_MANY,
    TOO_MANY_OF_PEER,
    UNKNOWN_CALLED,
    UNKNOWN_CALLER,
    Admission,
    Slot,
    plain_address,
)
from ich_node.runtime.config import CallerConfig, ReceiveConfig


def admission(*callers: CallerConfig, **changes: Any) -> Admission:
    if callers:
        changes["callers"] = callers
    return Admission(ReceiveConfig(**changes), "ICHNODE")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_by_default_anybody_on_this_machine_may_come(address: str) -> None:
    assert isinstance(admission().admit("ANY", "ICHNODE", address), Slot)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.7", "fe80::1", "2001:db8::1"])
def test_by_default_nobody_else_may(address: str) -> None:
    assert admission().admit("ANY", "ICHNODE", address) == UNKNOWN_CALLER


def test_title_and_address_must_be_allowed_together() -> None:
    door = admission(
        CallerConfig(ae_title="CT1", addresses=("10.1.0.0/16",)), CallerConfig(ae_title="CT2", addresses=("10.2.0.7",))
    )
    assert isinstance(door.admit("CT1", "ICHNODE", "10.1.2.3"), Slot)
    assert isinstance(door.admit("CT2", "ICHNODE", "10.2.0.7"), Slot)
    assert door.admit("CT2", "ICHNODE", "10.1.2.3") == UNKNOWN_CALLER
    assert door.admit("CT1", "ICHNODE", "10.2.0.7") == UNKNOWN_CALLER


def test_an_ipv4_caller_on_an_ipv6_socket_is_recognised() -> None:
    assert plain_address("::ffff:10.1.2.3") == "10.1.2.3"
    assert plain_address("fe80::1%eth0") == "fe80::1"
    door = admission(CallerConfig(ae_title="*", addresses=("10.1.0.0/16",)))
    assert isinstance(door.admit("CT1", "ICHNODE", "::ffff:10.1.2.3"), Slot)


def test_the_called_title_is_checked_unless_that_is_switched_off() -> None:
    assert admission().admit("CT1", "OTHER", "127.0.0.1") == UNKNOWN_CALLED
    assert isinstance(admission(check_called_ae_title=False).admit("CT1", "OTHER", "127.0.0.1"), Slot)


def test_there_is_a_largest_number_of_associations_and_slots_come_free() -> None:
    door = admission(max_associations=2)
    slots = [door.admit("CT1", "ICHNODE", f"127.0.0.{n}") for n in (1, 2)]
    assert door.admit("CT1", "ICHNODE", "127.0.0.3") == TOO_MANY
    assert isinstance(slots[0], Slot)
    slots[0].alive = lambda: False
    assert door.open_associations() == 1
    assert isinstance(door.admit("CT1", "ICHNODE", "127.0.0.3"), Slot)


def test_one_peer_can_not_take_all_slots() -> None:
    door = admission(max_associations=10, max_associations_per_peer=2)
    for _ in range(2):
        assert isinstance(door.admit("CT1", "ICHNODE", "127.0.0.1"), Slot)
    assert door.admit("CT1", "ICHNODE", "127.0.0.1") == TOO_MANY_OF_PEER
    assert isinstance(door.admit("CT1", "ICHNODE", "127.0.0.2"), Slot)


def test_connections_that_ask_for_nothing_are_limited_per_peer_and_forgotten() -> None:
    door = admission(max_associations_per_peer=2)
    assert [door.arrived("127.0.0.1") for _ in range(5)] == [True, True, True, True, False]
    assert door.arrived("127.0.0.2")
    door.decided("127.0.0.1")
    assert door.arrived("127.0.0.1")


def test_a_stopping_node_admits_nobody() -> None:
    door = admission()
    door.stopping = True
    assert door.admit("CT1", "ICHNODE", "127.0.0.1") == STOPPING


def test_a_rejection_is_a_pdu() -> None:
    assert UNKNOWN_CALLER.pdu() == bytes.fromhex("03000000000400010103")
