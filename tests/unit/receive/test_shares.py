"""When room gets short: what is not analysed goes first, then who has sent most."""

from __future__ import annotations

import pytest

from ich_node.domain.dicom import AETitle, Instance, Peer, Series
from ich_node.domain.ledger import Origin
from ich_node.receive.shares import LATELY_S, LOOK_EVERY_S, MOST_SERIES, SERIES_S, Shares
from ich_node.runtime.config import ReceiveConfig
from ich_node.store.ledger.jobs import JobStore

TWO_SITES = {
    "callers": [
        {"ae_title": "*", "addresses": ["10.1.0.0/16"], "site": "north"},
        {"ae_title": "*", "addresses": ["10.2.0.0/16"], "site": "south"},
        {"ae_title": "*", "addresses": ["10.0.0.0/8"]},
    ],
    "sites": [{"name": "north", "max_gb": 1, "max_queued": 3}],
}


def peer(address: str) -> Peer:
    return Peer(AETitle("CT"), address)


def refusal(shares: Shares, address: str, series_uid: str, room: float, *, aside: bool = False, begun: bool = False):
    return shares.refusal(peer(address), series_uid, room, aside=aside, has_begun=lambda: begun)


def test_with_room_nobody_is_asked() -> None:
    shares = Shares()
    shares.took(peer("10.0.0.1"), "1.2", 1 << 40)
    shares.took(peer("10.0.0.2"), "1.2", 1)
    assert refusal(shares, "10.0.0.1", "1.2", 2.0, aside=True) == ""
    assert refusal(shares, "10.0.0.1", "1.2", 1.5, aside=False) == ""


def test_what_is_not_analysed_is_refused_before_images_are() -> None:
    shares = Shares()
    assert "not analysed" in refusal(shares, "10.0.0.1", "1.2", 1.9, aside=True)
    assert refusal(shares, "10.0.0.1", "1.2", 1.0, aside=False) == ""


def test_who_has_sent_most_waits_first_and_a_lone_sender_never_does() -> None:
    shares = Shares()
    shares.took(peer("10.0.0.1"), "1.2", 900)
    assert refusal(shares, "10.0.0.1", "1.2", 1.2, aside=False) == ""
    shares.took(peer("10.0.0.2"), "1.2", 100)
    assert "this sender" in refusal(shares, "10.0.0.1", "1.2", 1.2, aside=False)
    assert refusal(shares, "10.0.0.2", "1.2", 1.2, aside=False) == ""


def test_what_was_long_ago_does_not_count() -> None:
    now = [0.0]
    shares = Shares(clock=lambda: now[0])
    shares.took(peer("10.0.0.1"), "1.2", 900)
    now[0] = 2 * LATELY_S + 1
    shares.took(peer("10.0.0.2"), "1.2", 100)
    shares.took(peer("10.0.0.1"), "1.2", 1)
    assert refusal(shares, "10.0.0.1", "1.2", 1.2, aside=False) == ""


def test_who_begins_series_without_end_waits_and_may_finish_those_that_are_begun() -> None:
    now = [0.0]
    shares = Shares(clock=lambda: now[0])
    for number in range(MOST_SERIES):
        assert refusal(shares, "10.0.0.7", f"1.{number}", 9.0, aside=False) == ""
        shares.took(peer("10.0.0.7"), f"1.{number}", 1)
    assert "too many series" in refusal(shares, "10.0.0.7", "2.1", 9.0, aside=False)
    assert refusal(shares, "10.0.0.7", "1.17", 9.0, aside=False) == ""
    assert refusal(shares, "10.0.0.2", "2.1", 9.0, aside=False) == ""
    now[0] = SERIES_S
    assert refusal(shares, "10.0.0.7", "2.1", 9.0, aside=False) == ""


# --- sites -----------------------------------------------------------------------------------------------------------


def series(name: str) -> Series:
    return Series("1.2", name, (Instance("1.2", name, "1.1", f"{name}.1", "1.2.840", None),))


def test_a_site_is_a_group_of_callers_and_everybody_else_an_address() -> None:
    shares = Shares(ReceiveConfig.model_validate(TWO_SITES))
    assert [shares.site_of(peer(address)) for address in ("10.1.2.3", "10.2.0.1", "10.3.0.1")] == [
        "north",
        "south",
        "10.3.0.1",
    ]
    assert shares.site_of(None) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": [{"name": "west"}]}, "no caller is of site west"),
        ({"sites": [{"name": "north"}, {"name": "north"}]}, "same name"),
        ({"sites": [{"name": "north", "max_gb": 0}]}, "greater than 0"),
    ],
)
def test_a_quota_is_for_a_site_that_there_is(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReceiveConfig.model_validate(TWO_SITES | changes)


def test_a_site_that_has_sent_its_share_begins_nothing_more_and_may_finish_what_it_has_begun() -> None:
    shares = Shares(ReceiveConfig.model_validate(TWO_SITES))
    shares.took(peer("10.1.0.1"), "1.2", 600_000_000)
    shares.took(peer("10.1.0.2"), "1.3", 400_000_000)
    assert "as much as it may" in refusal(shares, "10.1.0.3", "1.4", 99.0)
    assert refusal(shares, "10.1.0.3", "1.3", 99.0, begun=True) == ""
    assert refusal(shares, "10.2.0.1", "1.4", 99.0) == ""
    assert refusal(shares, "10.3.0.1", "1.4", 99.0) == ""
    shares.took(peer("10.1.0.1"), "1.3", 100_000_000)
    assert "as much as it may" in refusal(shares, "10.1.0.3", "1.3", 99.0, begun=True), "a series without end"


def test_when_room_gets_short_the_site_waits_that_sent_most_whichever_of_its_scanners_did() -> None:
    shares = Shares(ReceiveConfig.model_validate(TWO_SITES))
    for number in range(1, 4):
        shares.took(peer(f"10.1.0.{number}"), "1.2", 300)
    shares.took(peer("10.2.0.1"), "1.3", 400)
    assert "this sender" in refusal(shares, "10.1.0.9", "1.2", 1.2)
    assert refusal(shares, "10.2.0.1", "1.3", 1.2) == ""


def test_as_many_jobs_of_a_site_wait_as_may(tmp_path, ledger_url) -> None:
    ledger = JobStore.open(tmp_path, url=ledger_url)
    now = [0.0]
    shares = Shares(ReceiveConfig.model_validate(TWO_SITES), clock=lambda: now[0])
    for number in range(3):
        ledger.enqueue(series(f"1.{number}"), origin=Origin("CT", "10.1.0.1", site="north"))
        ledger.enqueue(series(f"2.{number}"), origin=Origin("CT", "10.3.0.1"))
    assert ledger.queued_by_site() == {"north": 3, "10.3.0.1": 3}
    shares.look(ledger, None)
    assert "wait as may" in refusal(shares, "10.1.0.1", "1.9", 99.0)
    assert refusal(shares, "10.1.0.1", "1.2", 99.0, begun=True) == ""
    assert refusal(shares, "10.3.0.1", "1.9", 99.0) == ""
    ledger.claim("w")
    now[0] += LOOK_EVERY_S
    shares.look(ledger, None)
    assert refusal(shares, "10.1.0.1", "1.9", 99.0) == ""
    ledger.close()


def test_what_a_site_sent_to_another_receiver_counts(tmp_path, ledger_url) -> None:
    now = [1000.0]
    ledger = JobStore.open(tmp_path, clock=lambda: now[0], url=ledger_url)
    here, there = (Shares(ReceiveConfig.model_validate(TWO_SITES), clock=lambda: now[0]) for _ in range(2))
    here.took(peer("10.1.0.1"), "1.2", 700_000_000)
    there.took(peer("10.1.0.2"), "1.3", 700_000_000)
    assert refusal(here, "10.1.0.1", "1.9", 99.0) == ""
    for _ in range(2):
        there.look(ledger, "b")
        here.look(ledger, "a")
        now[0] += LOOK_EVERY_S
    for shares in (here, there):
        assert "as much as it may" in refusal(shares, "10.1.0.1", "1.9", 99.0)
    now[0] += LATELY_S
    here.look(ledger, "a")
    assert refusal(here, "10.1.0.1", "1.9", 99.0) == ""
    ledger.close()


def test_without_quotas_and_others_the_ledger_is_not_asked() -> None:
    Shares().look(None, None)  # type: ignore[arg-type]
