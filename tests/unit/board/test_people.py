"""Signing in: who may, how often, and what a request cannot claim."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ich_node.board import people
from ich_node.board.people import Brake, Person, Proxy, Sessions, Users
from ich_node.domain.errors import ConfigError


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_name_and_password_must_fit(tmp_path):
    file = tmp_path / "users"
    file.write_text("# the night shift\n" + people.line_for("ada", "operator", "correct horse") + "\n")
    users = Users(file)
    assert users.verify("ada", "correct horse") == Person("ada", "operator")
    assert users.verify("ada", "wrong") is None
    assert users.verify("nobody", "correct horse") is None


def test_the_file_holds_no_password(tmp_path):
    assert "correct horse" not in people.line_for("ada", "reader", "correct horse")


@pytest.mark.parametrize(
    "line", ["ada", "ada:reader", "ada:king:$argon2id$x", ":reader:$argon2id$x", "ada:reader:secret"]
)
def test_a_line_that_is_none_stops_the_board(tmp_path, line):
    file = tmp_path / "users"
    file.write_text(line + "\n")
    with pytest.raises(ConfigError, match="line 1"):
        Users(file)


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "#a", "x" * 65])
def test_a_name_that_the_file_cannot_hold_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        people.line_for(name, "reader", "secret")


def test_a_session_ends_by_itself(clock):
    sessions = Sessions(clock)
    token = sessions.begin(Person("ada", "reader"))
    clock.now += people.IDLE_S - 1
    assert sessions.find(token) is not None
    clock.now += people.IDLE_S + 1
    assert sessions.find(token) is None


def test_a_session_that_is_used_ends_after_a_shift(clock):
    sessions = Sessions(clock)
    token = sessions.begin(Person("ada", "reader"))
    for _ in range(int(people.SESSION_S / people.IDLE_S * 2) + 1):
        clock.now += people.IDLE_S / 2
        found = sessions.find(token)
    assert found is None


def test_a_token_that_was_not_given_out_opens_nothing(clock):
    sessions = Sessions(clock)
    sessions.begin(Person("ada", "reader"))
    assert sessions.find("made-up") is None
    assert sessions.find(None) is None
    assert sessions.find("") is None


def test_guessing_gets_slower_and_slower(clock):
    brake = Brake(clock)
    for _ in range(people.FREE_ATTEMPTS):
        assert brake.wait_s("name:ada") == 0
        brake.failed("name:ada")
    waits = []
    for _ in range(12):
        waits.append(brake.wait_s("name:ada"))
        clock.now += waits[-1]
        brake.failed("name:ada")
    assert waits == sorted(waits)
    assert waits[0] == people.FIRST_WAIT_S
    assert waits[-1] == people.LONGEST_WAIT_S


def test_one_address_with_many_names_is_slowed_down_too(clock):
    brake = Brake(clock)
    for number in range(people.FREE_ATTEMPTS):
        brake.failed(f"name:{number}", "address:192.0.2.1")
    assert brake.wait_s("name:another", "address:192.0.2.1") > 0
    assert brake.wait_s("name:another", "address:192.0.2.2") == 0


def test_the_brake_does_not_remember_without_bound(clock, monkeypatch):
    monkeypatch.setattr(people, "REMEMBERED", 10)
    brake = Brake(clock)
    for number in range(100):
        brake.failed(f"name:{number}")
    assert len(brake._failures) == 10


def test_a_proxy_counts_only_with_its_secret():
    proxy = Proxy("X-Remote-User", "X-Remote-Role", "s" * 32)
    headers = {"x-remote-user": "ada", "x-remote-role": "operator"}
    assert proxy.person(headers) is None
    assert proxy.person({**headers, people.SECRET_HEADER: "guess"}) is None
    assert proxy.person({**headers, people.SECRET_HEADER: "s" * 32}) == Person("ada", "operator")
    assert proxy.person({people.SECRET_HEADER: "s" * 32}) is None
