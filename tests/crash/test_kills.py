"""The short form of `make chaos`: every fault a few times, on every run."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.crash import faults, peers, powercut

pytestmark = [pytest.mark.crash, pytest.mark.interop, pytest.mark.timeout(1800)]
SEED = 20


@pytest.fixture(autouse=True)
def _dcmtk() -> None:
    if shutil.which("storescu") is None:
        if os.environ.get("ICH_NODE_REQUIRE_INTEROP") == "1":
            pytest.fail("storescu is missing")
        pytest.skip("needs DCMTK's storescu")


@pytest.fixture
def root() -> None:
    """A full disk is a small tmpfs, and only root can mount one."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")


def assert_kept(outcome: faults.Outcome, verdict: faults.Verdict) -> None:
    """Nothing lost, nothing doubled, everything ended well, and something happened at all."""
    assert verdict.acknowledged > 0
    assert verdict.owed > 0
    assert verdict.lost == ()
    assert verdict.missing == ()
    assert verdict.doubled == ()
    assert (verdict.unfinished, verdict.failed) == (0, 0)
    assert outcome.injections > 0


def test_twenty_kills_lose_and_double_nothing(tmp_path):
    outcome, verdict = faults.kill_roles(tmp_path, 20, SEED)
    assert_kept(outcome, verdict)
    assert outcome.injections >= 20


def test_a_pacs_that_comes_and_goes_gets_every_result_once_and_in_order(tmp_path):
    assert_kept(*faults.pacs_down(tmp_path, 2, SEED))


def test_a_disk_that_fills_to_the_last_byte_costs_nothing_that_was_acknowledged(tmp_path, root):
    assert_kept(*faults.disk_full(tmp_path, 2, SEED))


def test_a_deleted_database_comes_back_from_the_files_and_the_pacs_notices_nothing(tmp_path):
    outcome, verdict = faults.database_gone(tmp_path, 1, SEED)
    assert_kept(outcome, verdict)
    assert verdict.sent_again > 0  # results of before were owed once more, with the same bytes


def test_a_wall_clock_that_jumps_by_days_disturbs_nothing(tmp_path):
    assert_kept(*faults.clock_jumps(tmp_path, 2, SEED))


def test_an_instance_that_breaks_off_in_the_middle_leaves_nothing_behind(tmp_path):
    outcome = faults.abort_in_instance(tmp_path, "ich_node", 5, SEED)
    assert (outcome.lost, outcome.remark) == (0, "")
    assert outcome.acknowledged > 0


@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path, file_system):
    if missing := powercut.lacks():
        pytest.skip(f"needs {missing}")
    outcome = faults.power_cut(tmp_path, 3, SEED, file_system)
    assert outcome.acknowledged > 0
    assert outcome.lost == 0


def test_a_power_cut_of_the_whole_node_loses_and_doubles_nothing(tmp_path):
    if missing := powercut.lacks():
        pytest.skip(f"needs {missing}")
    assert_kept(*faults.power_cut_node(tmp_path, 2, SEED, "ext4"))


def test_success_is_said_only_after_the_disk_was_told(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    assert "ich_node" in peers.available()
    assert faults.sync_calls(tmp_path, "ich_node", 1) >= 1
