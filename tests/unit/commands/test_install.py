"""`ich-node install`: the machine is as docs/operating.md says, and nothing of the site is overwritten."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ich_node.commands.install import Installer
from ich_node.domain.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def share(tmp_path) -> Path:
    """What a wheel puts below the prefix of its environment."""
    folder = tmp_path / "prefix/share/ich_node"
    folder.mkdir(parents=True)
    for name in ("systemd", "config", "terminal"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture
def commands(monkeypatch) -> list[str]:
    """The commands that would run."""
    called: list[str] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: called.append(" ".join(command)))
    return called


def test_units_accounts_folders_and_configuration_are_put_in_place(tmp_path, share, commands):
    Installer(tmp_path / "root", share, say=lambda _: None).install()
    unit = (tmp_path / "root/etc/systemd/system/ich-node-receive.service").read_text()
    assert f"ExecStart={tmp_path}/prefix/bin/ich-node receive" in unit
    assert "state_dir: /var/lib/ich_node" in (tmp_path / "root/etc/ich_node/ich_node.yaml").read_text()
    assert (tmp_path / "root/usr/local/bin/ich-node").readlink() == tmp_path / "prefix/bin/ich-node"
    assert (tmp_path / "root/usr/local/share/man/man1/ich-node.1").is_file()
    assert commands[0] == "systemd-sysusers ich-node.conf"
    assert "systemctl enable --now ich-node" in commands


def test_a_second_time_writes_nothing_and_keeps_the_configuration(tmp_path, share, commands):
    first = Installer(tmp_path / "root", share, say=lambda _: None)
    first.install()
    configuration = tmp_path / "root/etc/ich_node/ich_node.yaml"
    configuration.write_text("ae_title: OURS\n")
    said: list[str] = []
    Installer(tmp_path / "root", share, say=said.append).install()
    assert configuration.read_text() == "ae_title: OURS\n"
    assert not [line for line in said if line.startswith("write")]


def test_a_dry_run_says_everything_and_does_nothing(tmp_path, share, commands):
    said: list[str] = []
    Installer(tmp_path / "root", share, dry_run=True, say=said.append).install()
    assert any(line.startswith("write") and line.endswith("ich_node.yaml") for line in said)
    assert not commands
    assert not (tmp_path / "root").exists()


def test_removal_keeps_data_and_configuration(tmp_path, share, commands):
    installer = Installer(tmp_path / "root", share, say=lambda _: None)
    installer.install()
    data = tmp_path / "root/var/lib/ich_node/incoming"
    data.mkdir(parents=True)
    installer.uninstall()
    assert data.is_dir()
    assert (tmp_path / "root/etc/ich_node/ich_node.yaml").is_file()
    assert not list((tmp_path / "root/etc/systemd/system").iterdir())


def test_an_environment_without_units_is_refused(tmp_path):
    with pytest.raises(ConfigError):
        Installer(tmp_path, tmp_path / "nowhere").install()
