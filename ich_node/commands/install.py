"""`ich-node install`: account, units, folders, configuration and what a terminal wants, on a machine with systemd.

`ich-node uninstall` takes the units away and keeps the data.

Idempotent: each step looks whether it has been done and changes only what differs; a configuration that is there is
never touched. --dry-run says what would be done. Works from the environment that it is called from (`sys.prefix`),
which must be readable by the service accounts: not below /root or /home.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ich_node.domain.errors import ConfigError, IchNodeError
from ich_node.runtime import service

PACKAGED_PREFIX = "/opt/ich_node"  # what the units that ship say
HIDDEN_FROM_UNITS = ("/root", "/home", "/run/user", "/tmp")  # noqa: S108 — ProtectHome= and PrivateTmp= of the units
COMMAND_WITHIN_S = 300  # chosen: apt or systemctl on a slow machine; then it hangs


class InstallError(IchNodeError):
    """A step failed."""


@dataclass(slots=True)
class Installer:
    """Steps on the machine below `root` ("/" but for tests). Says each change before it makes it."""

    root: Path = Path("/")
    share: Path = field(default_factory=lambda: Path(sys.prefix) / "share/ich_node")
    dry_run: bool = False
    say: Callable[[str], None] = print

    def install(self, *, start: bool = True) -> None:
        """Everything that docs/operating.md lists, then the start."""
        self._fit()
        for source, target in self._files():
            self._copy(source, target)
        self._link(self.share.parent.parent / "bin/ich-node", self.root / "usr/local/bin/ich-node")
        self._run("systemd-sysusers", "ich-node.conf")
        configuration = self.root / "etc/ich_node/ich_node.yaml"
        if configuration.exists():
            self.say(f"keep {configuration}")
        else:
            text = (self.share / "config/ich_node.yaml").read_text(encoding="utf-8")
            self._write(configuration, text.replace("  state_dir:", "  state_dir: /var/lib/ich_node", 1))
        self._run("systemd-tmpfiles", "--create", "ich-node.conf")
        self._run("systemctl", "daemon-reload")
        if start:
            self._run("systemctl", "enable", "--now", "ich-node")
            self._run("systemctl", "try-restart", "ich-node")  # an upgrade: what ran before is the old program

    def uninstall(self) -> None:
        """Stop, and remove the units; /etc/ich_node, /var/lib/ich_node and the accounts stay."""
        if (self.root / "etc/systemd/system/ich-node.service").exists():
            self._run("systemctl", "disable", "--now", "ich-node")
            self._run("systemctl", "stop", "ich-node*")
        link = self.root / "usr/local/bin/ich-node"
        for target in [*(target for _, target in self._files()), *([link] if link.is_symlink() else [])]:
            if target.exists() or target.is_symlink():
                self.say(f"remove {target}")
                if not self.dry_run:
                    target.unlink()
        self._run("systemctl", "daemon-reload")
        self.say("kept: /etc/ich_node, /var/lib/ich_node and the accounts")

    def _fit(self) -> None:
        prefix = self.share.parent.parent
        if not (self.share / "systemd/ich-node.service").is_file():
            raise ConfigError(
                [f"{self.share}: no units there; install the wheel into an environment and call its ich-node"]
            )
        if self.root == Path("/") and str(prefix).startswith(HIDDEN_FROM_UNITS):
            raise ConfigError(
                [f"{prefix}: the units cannot see this folder; use an environment such as {PACKAGED_PREFIX}"]
            )
        if self.root == Path("/") and os.geteuid() != 0 and not self.dry_run:
            raise ConfigError(["run it as root: sudo ich-node install"])

    def _files(self) -> Iterator[tuple[Path, Path]]:
        """(source, target) of everything that is copied."""
        units = self.share / "systemd"
        for path in sorted(units.glob("ich-node*")):
            yield path, self.root / "etc/systemd/system" / path.name
        terminal, local = self.share / "terminal", self.root / "usr/local/share"
        yield terminal / "ich-node.1", local / "man/man1/ich-node.1"
        yield terminal / "ich-node", local / "bash-completion/completions/ich-node"
        yield terminal / "_ich-node", local / "zsh/site-functions/_ich-node"
        yield units / "sysusers.d/ich-node.conf", self.root / "etc/sysusers.d/ich-node.conf"
        yield units / "tmpfiles.d/ich-node.conf", self.root / "etc/tmpfiles.d/ich-node.conf"

    def _copy(self, source: Path, target: Path) -> None:
        prefix = str(self.share.parent.parent)
        self._write(target, source.read_text(encoding="utf-8").replace(f"{PACKAGED_PREFIX}/", f"{prefix}/"))

    def _write(self, target: Path, text: str) -> None:
        if target.exists() and target.read_text(encoding="utf-8") == text:
            return
        self.say(f"write {target}")
        if self.dry_run:
            return
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        beside.write_text(text, encoding="utf-8")
        beside.chmod(0o644)
        beside.replace(target)

    def _link(self, source: Path, target: Path) -> None:
        """So that people type `ich-node`; what is there and no link of ours is left alone."""
        if (target.exists() and not target.is_symlink()) or (target.is_symlink() and target.readlink() == source):
            return
        self.say(f"link {target}")
        if not self.dry_run:
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(source)

    def _run(self, *command: str) -> None:
        self.say(f"run {' '.join(command)}")
        if self.dry_run:
            return
        try:
            subprocess.run(command, check=True, timeout=COMMAND_WITHIN_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise InstallError(f"{command[0]} failed: {error}") from error


def run(installer: Installer, *, remove: bool, start: bool) -> int:
    """Carry out `ich-node install` or `ich-node uninstall`."""
    if remove:
        installer.uninstall()
    else:
        installer.install(start=start)
    return service.EXIT_OK
