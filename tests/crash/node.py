"""A whole node: its three roles, each under a supervisor."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.crash.supervised import Supervised
from tests.ports import free_port

ROLES = ("receive", "infer", "deliver")
QUICK: Mapping[str, Mapping[str, Any]] = {
    "receive": {"grace_s": 0.3, "quiet_period_s": 1.5},
    "infer": {"provider": "cpu", "threads": 1, "max_attempts": 1000, "retry_base_s": 0.2},
    "deliver": {"retry_base_s": 0.2, "retry_max_s": 1, "connect_timeout_s": 3, "linger_s": 0.5},
    "store": {"min_free_gb": 0.01},
    "log": {"level": "info"},
}
"""Waits short enough to see much in little time. max_attempts: a job that is killed at every attempt is no failure of
the job here; its default of 3 would answer such a series with "not analysed"."""


class Node:
    """Runs receive, infer and deliver on `folder`; use it as a context manager.

    changes: sections that override QUICK. environment: additional variables for every role.
    """

    def __init__(
        self,
        folder: Path,
        pacs_port: int | None,
        *,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        settings = {
            name: {**QUICK.get(name, {}), **(changes or {}).get(name, {})} for name in {*QUICK, *(changes or {})}
        }
        settings["receive"]["port"] = self.port
        settings["store"].setdefault("state_dir", str(folder / "state"))
        if pacs_port is not None:
            pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs_port}
            settings["deliver"].setdefault("destinations", [pacs])
        self.state_dir = Path(settings["store"]["state_dir"])
        self.config = folder / "ich_node.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.roles = {
            name: Supervised(
                name,
                [sys.executable, "-m", "ich_node", name, "--config", str(self.config)],
                folder,
                {**os.environ, **(environment or {})},
            )
            for name in ROLES
        }

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every role and wait until all are ready."""
        for role in self.roles.values():
            role.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when every role is ready."""
        for role in self.roles.values():
            role.wait_ready()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End every role by a signal; none is started again."""
        for role in self.roles.values():
            role.stop(how)

    def kill_all(self) -> None:
        """SIGKILL every role: what the processes see of a power cut."""
        for role in self.roles.values():
            role.kill()

    @property
    def kills(self) -> int:
        """How many SIGKILLs hit a running process."""
        return sum(role.kills for role in self.roles.values())

    @property
    def recovery_s(self) -> list[float]:
        """Seconds from a kill until its role was ready again."""
        return [seconds for role in self.roles.values() for seconds in role.recovery_s]

    @property
    def unexpected(self) -> dict[str, list[int]]:
        """Exit codes of roles that ended by themselves."""
        return {name: role.unexpected for name, role in self.roles.items() if role.unexpected}
