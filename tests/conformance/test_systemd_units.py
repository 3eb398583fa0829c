"""The units as systemd itself judges them: no complaint, and little that a captured process could reach."""

from __future__ import annotations

import os
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
INSTALLED = "/opt/ich_node/bin/ich-node"
PARTS = ("ich-node-receive.service", "ich-node-infer@.service", "ich-node-deliver.service")
MOST_EXPOSURE = {"ich-node-infer@.service": 3.0}  # sees the GPU; every other unit 2.0
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The units with an executable that is there, where systemd-analyze is there too."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("ICH_NODE_REQUIRE_INTEROP") == "1":
            pytest.fail("systemd-analyze is missing")
        pytest.skip("needs systemd-analyze")
    folder = tmp_path_factory.mktemp("units")
    for path in UNITS.glob("ich-node*.*"):
        (folder / path.name).write_text(path.read_text().replace(INSTALLED, "/bin/true"))
    return folder


def analyze(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def parsed(name: str) -> ConfigParser:
    unit = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str
    unit.read(UNITS / name)
    return unit


@pytest.mark.interop
def test_systemd_has_nothing_to_say_about_the_units(installed):
    answer = analyze("verify", *(f"./{path.name}" for path in sorted(installed.iterdir())), folder=installed)
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")


@pytest.mark.interop
@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_hardly_exposed(installed, name):
    threshold = round(MOST_EXPOSURE.get(name, 2.0) * 10)
    answer = analyze("security", "--offline=true", f"--threshold={threshold}", f"./{name}", folder=installed)
    assert answer.returncode == 0, answer.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_watched_and_restarted_but_not_on_a_wrong_configuration(name):
    service = parsed(name)["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "78"
    assert int(service["WatchdogSec"]) > 0


@pytest.mark.parametrize("name", PARTS)
def test_a_part_stops_and_starts_with_the_node(name):
    assert parsed(name)["Unit"]["PartOf"] == "ich-node.service"
    assert name.replace("@.", "@0.") in parsed("ich-node.service")["Unit"]["Wants"].split()


def test_only_the_worker_sees_the_gpu():
    seeing = {name for name in SERVICES if parsed(name)["Service"].get("PrivateDevices") != "yes"}
    assert seeing == {"ich-node-infer@.service"}


def test_no_part_leaves_a_core_dump_with_patient_data():
    assert {parsed(name)["Service"].get("LimitCORE") for name in SERVICES if name != "ich-node.service"} == {"0"}


def test_every_part_has_a_bound_on_memory_and_processes():
    parts = [parsed(name)["Service"] for name in SERVICES if name != "ich-node.service"]
    assert all(part.get("MemoryMax") and part.get("TasksMax") for part in parts)


@pytest.mark.parametrize("name", ["ich-node-infer@.service", "ich-node-board.service"])
def test_a_part_that_speaks_no_tls_sees_no_key(name):
    assert parsed(name)["Service"]["InaccessiblePaths"] == "-/etc/ich_node/tls"
