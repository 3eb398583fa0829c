"""The verbs: help, exit codes, plain errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pydicom
import pytest
from ledger_builder import publish_job, say_sent

from ich_node.board.drift import Alarm, Drift
from ich_node.commands import check, cli
from ich_node.domain.dicom import Instance, Series
from ich_node.domain.ledger import Origin, hashed
from ich_node.runtime import audit
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


def test_jobs_are_listed_by_what_an_operator_knows_and_shown_without_what_a_terminal_obeys(
    tmp_path, config_file, capsys
):
    store = JobStore.open(tmp_path / "state")
    for number in (1, 2):
        name = f"1.2.{number}"
        instances = (Instance("1.2", name, "c", f"{name}.1", "t", tmp_path),)
        origin = Origin(f"CT{number}", "192.0.2.7", hashed(f"PID-{number}"), hashed(f"ACC-{number}"))
        store.set_ineligible(Series(f"1.{number}", name, instances), "so [red]they[/red] say \x1b[31m", origin=origin)
    store.close()

    def listed(*options):
        assert cli.main(["jobs", *options, "--config", str(config_file)]) == 0
        said = capsys.readouterr().out
        return [name for name in ("CT1", "CT2") if name in said], said

    assert listed()[0] == ["CT1", "CT2"]
    for options in (["--patient", "PID-1"], ["--accession", "ACC-1"], ["--caller", "CT1"], ["--study", "1.1"]):
        assert listed(*options)[0] == ["CT1"]
    assert listed("--since", "2020-01-01T00:00")[0] == listed("--state", "ineligible")[0] == ["CT1", "CT2"]
    assert listed("--until", "2020-01-01")[0] == []
    assert cli.main(["jobs", "show", "1", "--config", str(config_file)]) == 0
    said = capsys.readouterr().out
    assert "so [red]they[/red] say ?[31m" in said
    assert "CT1 at 192.0.2.7" in said
    assert cli.main(["jobs", "--since", "yesterday", "--config", str(config_file)]) == 78


@pytest.fixture
def delivered(tmp_path):
    """A configuration with two destinations, and a finished job that only the first of them has the results of."""
    config = tmp_path / "two.yaml"
    config.write_text(
        "store: {state_dir: state, min_free_gb: 0.001}\n"
        "deliver: {destinations: [{name: pacs, ae_title: A, host: h}, {name: archive, ae_title: B, host: h}]}\n"
    )
    store = JobStore.open(tmp_path / "state")
    job, files = publish_job(store, tmp_path / "state", ["pacs"])
    listed = [{"sop_class_uid": f.sop_class_uid, "sop_instance_uid": f.sop_instance_uid} for f in files]
    (files[0].path.parent / "result.json").write_text(json.dumps({"objects": listed}))
    say_sent(store, *store.due("pacs"))
    yield config, store, job
    store.close()


def test_an_operator_sends_again_hurries_and_makes_anew(delivered, capsys):
    config, store, _ = delivered
    assert cli.main(["jobs", "resend", "1", "--to", "archive", "--config", str(config)]) == 0
    assert "3 items of job 1 go out again" in capsys.readouterr().out
    due = store.due("archive")
    store.postpone(due[0], None, "no answer", time.time() + 900)
    assert cli.main(["jobs", "hurry", "--to", "archive", "--config", str(config)]) == 0
    assert "3 items wait for archive: they go now" in capsys.readouterr().out
    assert [item.item for item in store.due("archive")] == [item.item for item in due]
    assert cli.main(["jobs", "redo", "1", "--config", str(config)]) == 0
    assert "job 2 makes the results of job 1 anew" in capsys.readouterr().out
    assert cli.main(["jobs", "show", "1", "--config", str(config)]) == 0
    assert "Basic Text SR" in capsys.readouterr().out


def test_what_cannot_be_sent_again_says_what_to_do(delivered, capsys):
    config, store, job = delivered
    assert cli.main(["jobs", "resend", "1", "--to", "nobody", "--config", str(config)]) == 78
    assert "configured: pacs, archive" in capsys.readouterr().err
    shutil.rmtree(store.deliveries(job.id)[0].path.parent)
    assert cli.main(["jobs", "resend", "1", "--config", str(config)]) == 1
    assert "jobs redo 1" in capsys.readouterr().err


def test_decisions_go_to_the_audit_trail(delivered, monkeypatch, capsys):
    config, _, _ = delivered
    said = []

    class Listening(audit.Trail):
        def decided(self, person, decision, action, studies):
            said.append((decision, action, [one.study_uid for one in studies]))

    monkeypatch.setattr(audit, "_current", Listening())
    for words in (["resend", "1"], ["hurry"], ["drop", "1"], ["retry", "1"], ["redo", "1"]):
        assert cli.main(["jobs", *words, "--config", str(config)]) == 0
    assert [(decision, action) for decision, action, _ in said] == [
        ("jobs resend 1", "R"),
        ("jobs hurry to pacs, archive", "R"),
        ("jobs drop 1", "U"),
        ("jobs retry 1", "U"),
        ("jobs redo 1", "C"),
    ]
    assert all(studies == ["1.2.3"] for _, _, studies in said)


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


def test_status_names_what_has_moved_and_writes_nothing(config_file, tmp_path, monkeypatch, capsys):
    cli.main(["status", "--config", str(config_file)])  # its exit code depends on what else runs on this machine
    assert "drift\tthe reference has 0 of 500 studies" in capsys.readouterr().out
    assert not (tmp_path / "state" / "board").exists()
    alarm = Alarm(time.time(), "brain_hu_above", "38.6", 0.05, 0.8)
    monkeypatch.setattr(Drift, "standing", lambda *_: (alarm,))
    assert cli.main(["status", "--json", "--config", str(config_file)]) == 1
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert parts["drift"] == {"well": False, "detail": "brain denser than 38.6 HU: 80%"}


def test_a_reader_of_the_output_that_has_seen_enough_gets_no_traceback():
    command = [sys.executable, "-m", "ich_node", "model", "info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
