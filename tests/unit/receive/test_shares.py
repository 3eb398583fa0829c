"""When room gets short: what is not analysed goes first, then who has sent most."""

from __future__ import annotations

from ich_node.receive.shares import LATELY_S, MOST_SERIES, SERIES_S, Shares


def test_with_room_nobody_is_asked() -> None:
    shares = Shares()
    shares.took("10.0.0.1", "1.2", 1 << 40)
    shares.took("10.0.0.2", "1.2", 1)
    assert shares.refusal("10.0.0.1", "1.2", 2.0, aside=True) == ""
    assert shares.refusal("10.0.0.1", "1.2", 1.5, aside=False) == ""


def test_what_is_not_analysed_is_refused_before_images_are() -> None:
    shares = Shares()
    assert "not analysed" in shares.refusal("10.0.0.1", "1.2", 1.9, aside=True)
    assert shares.refusal("10.0.0.1", "1.2", 1.0, aside=False) == ""


def test_who_has_sent_most_waits_first_and_a_lone_sender_never_does() -> None:
    shares = Shares()
    shares.took("10.0.0.1", "1.2", 900)
    assert shares.refusal("10.0.0.1", "1.2", 1.2, aside=False) == ""
    shares.took("10.0.0.2", "1.2", 100)
    assert "this sender" in shares.refusal("10.0.0.1", "1.2", 1.2, aside=False)
    assert shares.refusal("10.0.0.2", "1.2", 1.2, aside=False) == ""


def test_what_was_long_ago_does_not_count() -> None:
    now = [0.0]
    shares = Shares(lambda: now[0])
    shares.took("10.0.0.1", "1.2", 900)
    now[0] = 2 * LATELY_S + 1
    shares.took("10.0.0.2", "1.2", 100)
    shares.took("10.0.0.1", "1.2", 1)
    assert shares.refusal("10.0.0.1", "1.2", 1.2, aside=False) == ""


def test_who_begins_series_without_end_waits_and_may_finish_those_that_are_begun() -> None:
    now = [0.0]
    shares = Shares(lambda: now[0])
    for number in range(MOST_SERIES):
        assert shares.refusal("10.0.0.7", f"1.{number}", 9.0, aside=False) == ""
        shares.took("10.0.0.7", f"1.{number}", 1)
    assert "too many series" in shares.refusal("10.0.0.7", "2.1", 9.0, aside=False)
    assert shares.refusal("10.0.0.7", "1.17", 9.0, aside=False) == ""
    assert shares.refusal("10.0.0.2", "2.1", 9.0, aside=False) == ""
    now[0] = SERIES_S
    assert shares.refusal("10.0.0.7", "2.1", 9.0, aside=False) == ""
