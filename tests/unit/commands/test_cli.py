"""The verbs: help, exit codes, plain errors."""

from __future__ import annotations

import subprocess
import sys

import pydicom
import pytest

from ich_node.commands import check, cli
from ich_node.domain.dicom import Instance, Series
from ich_node.store.ledger.jobs import JobStore


@pytest.fixture
def config_file(tmp_path):
    file = tmp_path / "node.yaml"
    file.write_text("store: {state_dir: state, min_free_gb: 0.001}\n")
    return file


def test_a_configuration_error_ends_with_78_and_names_the_key(tmp_path, capsys):
    file = tmp_path / "bad.yaml"
    file.write_text("receive: {prot: 1}\n")
    assert cli.main(["run", "--config", str(file)]) == 78
    assert "receive.prot: unknown key; did you mean port?" in capsys.readouterr().err


def test_a_missing_configuration_ends_with_78(tmp_path, capsys):
    assert cli.main(["jobs", "--config", str(tmp_path / "none.yaml")]) == 78
    assert "none.yaml" in capsys.readouterr().err


def test_an_unknown_destination_is_a_configuration_error(config_file, capsys):
    assert cli.main(["echo", "pacs", "--config", str(config_file)]) == 78
    assert "no destination 'pacs'" in capsys.readouterr().err


def queue_one(tmp_path) -> None:
    store = JobStore.open(tmp_path / "state")
    store.enqueue(Series("1.2", "1.2.3", (Instance("1.2", "1.2.3", "c", "1.2.3.4", "t", tmp_path),)))
    store.close()


def test_jobs_lists_what_the_node_has(config_file, tmp_path, capsys):
    queue_one(tmp_path)
    assert cli.main(["jobs", "--config", str(config_file)]) == 0
    assert "queued" in capsys.readouterr().out


def test_jobs_show_tells_all_about_one(config_file, tmp_path, capsys):
    queue_one(tmp_path)
    assert cli.main(["jobs", "show", "1", "--config", str(config_file)]) == 0
    assert "1.2.3" in capsys.readouterr().out


def test_jobs_drop_ends_a_job_and_retry_brings_it_back(config_file, tmp_path, capsys):
    queue_one(tmp_path)
    assert cli.main(["jobs", "drop", "1", "--config", str(config_file)]) == 0
    assert cli.main(["jobs", "retry", "1", "--config", str(config_file)]) == 0
    assert "job 1 is queued again" in capsys.readouterr().out


def test_jobs_of_an_unknown_number_fail_plainly(config_file, capsys):
    assert cli.main(["jobs", "retry", "9", "--config", str(config_file)]) == 1
    assert "there is no job 9" in capsys.readouterr().err


def test_jobs_show_without_a_number_is_an_error(config_file, capsys):
    assert cli.main(["jobs", "show", "--config", str(config_file)]) == 78


@pytest.mark.parametrize("verb", ["run", "receive", "infer", "deliver", "demo", "analyse", "check", "jobs", "echo"])
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert "usage: ich-node" in capsys.readouterr().out


def test_the_module_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "ich_node", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("ich-node ")


def test_the_file_system_is_that_of_the_longest_mount_point(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    assert check.file_system_of(tmp_path / "state", mounts) == "nfs4"
    assert check.file_system_of(tmp_path.parent, mounts) == "ext4"


def test_without_a_list_of_mounts_the_file_system_is_unknown(tmp_path):
    assert check.file_system_of(tmp_path, tmp_path / "none") == "unknown"


def test_phantoms_that_differ_are_different_studies(tmp_path):
    studies = set()
    for kind in ("subdural", "epidural"):
        assert cli.main(["phantom", str(tmp_path / kind), "--type", kind, "--slices", "10", "--seed", "5"]) == 0
        first = next((tmp_path / kind).glob("*.dcm"))
        studies.add(pydicom.dcmread(first, stop_before_pixels=True).StudyInstanceUID)
    assert len(studies) == 2
