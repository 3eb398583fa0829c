"""Root in the state directory: it goes on as the account of the node, so that no part stumbles over files of root."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ich_node.runtime import account


@pytest.fixture
def done(monkeypatch) -> list[tuple]:
    """What would be done, by root."""
    deeds: list[tuple] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("initgroups", "setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda *values, name=name: deeds.append((name, *values)))
    return deeds


def owned(uid: int, gid: int = 7):
    return SimpleNamespace(stat=lambda: SimpleNamespace(st_uid=uid, st_gid=gid))


def test_root_becomes_the_owner_groups_first(done, monkeypatch):
    monkeypatch.setattr(account.pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="ich-node"))
    account.become_owner(owned(995))
    assert done == [("initgroups", "ich-node", 7), ("setgid", 7), ("setuid", 995)]


def test_an_owner_without_a_name_is_an_owner_too(done, monkeypatch):
    def unknown(_):
        raise KeyError

    monkeypatch.setattr(account.pwd, "getpwuid", unknown)
    account.become_owner(owned(12345))
    assert done == [("setgroups", [7]), ("setgid", 7), ("setuid", 12345)]


def test_nothing_happens_to_who_is_not_root_or_where_root_is_the_owner(done, monkeypatch, tmp_path):
    account.become_owner(owned(0))
    account.become_owner(tmp_path / "not there")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    account.become_owner(owned(995))
    assert done == []
