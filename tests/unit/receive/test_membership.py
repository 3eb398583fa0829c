"""One receiver of a state directory, or several by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ich_node.domain.errors import ConfigError, IchNodeError
from ich_node.receive.commitment import Commitments, Request
from ich_node.receive.membership import member
from ich_node.runtime import config, host
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool

TITLE = {
    "series_uid": "1.2",
    "sop_instance_uid": "1.2.3",
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
    "transfer_syntax_uid": "1.2.840.10008.1.2.1",
}


def configured(root: Path, **store: Any) -> config.Config:
    return config.parse({"store": {"state_dir": str(root), **store}}, root)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda name: monkeypatch.setenv(host.HOST_VARIABLE, name)


def test_a_file_serves_one_machine(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="several machines need one ledger"):
        configured(tmp_path, shared=True)


def test_a_second_receiver_is_refused_with_a_word_on_how_there_may_be_several(tmp_path: Path) -> None:
    alone, ledger = configured(tmp_path), JobStore.open(tmp_path)
    with member(alone, ledger) as name:
        assert name is None
        with pytest.raises(IchNodeError, match=r"store\.shared.*store\.database"), member(alone, ledger):
            pass
    with member(alone, ledger):
        pass
    ledger.close()


def test_receivers_of_several_hosts_are_members_and_one_of_the_same_host_is_not(tmp_path, ledger_url, named) -> None:
    shared, ledgers = (
        configured(tmp_path, shared=True, database="postgresql://x"),
        [JobStore.open(tmp_path, url=ledger_url) for _ in range(3)],
    )
    named("a")
    with member(shared, ledgers[0]) as first:
        with pytest.raises(IchNodeError, match=host.HOST_VARIABLE), member(shared, ledgers[1]):
            pass
        named("b")
        with member(shared, ledgers[1]) as second:
            assert ledgers[2].receivers() == {first, second}
        assert ledgers[2].receivers() == {first}
    assert ledgers[2].receivers() == set()
    for ledger in ledgers:
        ledger.close()


def test_a_receiver_that_comes_back_ends_what_it_was_before(tmp_path, ledger_url, named) -> None:
    shared = configured(tmp_path, shared=True, database="postgresql://x")
    died, ledger = (JobStore.open(tmp_path, url=ledger_url) for _ in range(2))
    named("a")
    died.join("a/1")
    died.acquire({"1.5"})
    other = JobStore.open(tmp_path, url=ledger_url)
    other.join("b/1")
    with member(shared, ledger) as name:
        assert ledger.receivers() == {name, "b/1"}
        assert ledger.orphans() == {"1.5"}
    for each in (died, ledger, other):
        each.close()


@pytest.mark.parametrize("name", ["a/b", "..", "", "x" * 65, "a b"])
def test_a_host_has_a_name_that_fits_into_a_path(named, name: str) -> None:
    named(name)
    if name:
        with pytest.raises(ConfigError):
            host.name()
    else:
        assert host.name()


def test_two_receivers_never_write_the_same_half_file(tmp_path: Path) -> None:
    """In containers every process has the number 1, and its threads the same ones."""
    writers = [Spool(tmp_path, 1, shared=True).writer(**TITLE) for _ in range(2)]
    for writer, data in zip(writers, (b"\x08\x00" * 100, b"\x08\x00" * 100), strict=True):
        writer.write([data])
    assert len(list((tmp_path / "incoming" / "1.2").glob("*.part"))) == 2
    for writer in writers:
        assert writer.commit().name == "1.2.3.dcm"
    assert [path.name for path in (tmp_path / "incoming" / "1.2").iterdir()] == ["1.2.3.dcm"]


def test_a_folder_that_another_machine_has_made_again_is_made_durable_again(tmp_path, monkeypatch) -> None:
    spool = Spool(tmp_path, 1, shared=True)
    spool.put(**TITLE, parts=[b"\x08\x00" * 100])
    synced: list[Path] = []
    real = spool._sync
    monkeypatch.setattr(spool, "_sync", lambda folder: (synced.append(folder), real(folder))[1])
    spool.put(**{**TITLE, "sop_instance_uid": "1.2.4"}, parts=[b"\x08\x00" * 100])
    assert tmp_path / "incoming" in synced


def test_a_request_for_commitment_is_reported_on_by_who_was_asked_or_by_one_other(tmp_path, ledger_url) -> None:
    now = 1000.0
    settings = configured(tmp_path)
    ledgers = [JobStore.open(tmp_path, clock=lambda: now, url=ledger_url) for _ in range(3)]
    all_of_them = []
    for name, ledger in zip(("a/1", "b/1", "c/1"), ledgers, strict=True):
        ledger.join(name)
        all_of_them.append(Commitments(settings, ledger, lambda: now, receiver=name))
    all_of_them[0]._keep(Request("1.2.3", "CT", "10.0.0.1", now, (("1.2", "1.3"),), "a/1"))
    assert [len(list(each.pending())) for each in all_of_them] == [1, 0, 0]
    now += 20  # nothing was heard of any of them; b and c are heard of again
    ledgers[1].stay()
    ledgers[2].stay()
    assert [len(list(each.pending())) for each in all_of_them[1:]] == [1, 0]
    for ledger in ledgers:
        ledger.close()
