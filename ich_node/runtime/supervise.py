"""`ich-node run`: the same roles that systemd starts, as child processes of a terminal, a container or the demo.

It stops as a whole: when one child ends, the others are stopped and its exit code is passed on; whatever started
this process restarts the node. Nothing is lost by that: everything that matters is on disk.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from ich_node.runtime import logs, service

ROLES = ("receive", "infer", "deliver")
RETENTION_EVERY_S = 3600  # chosen: as often as ich-node-retention.timer
STOP_WITHIN_S = 60  # chosen: a worker finishes the job at hand; what remains is killed, which the ledger bears

log = logs.get()


def run(config_path: Path, stop: service.Stop) -> int:
    """Run every role until `stop` is set or one of them ends; returns the exit code."""
    children = {role: _start(role, config_path) for role in ROLES}
    log.info("role_started", children={role: child.pid for role, child in children.items()})
    code = service.EXIT_OK
    next_retention = time.monotonic() + RETENTION_EVERY_S
    while not stop.wait(0.2):
        ended = {role: child.returncode for role, child in children.items() if child.poll() is not None}
        if ended:
            role, returned = next(iter(ended.items()))
            log.error("child_ended", child=role, exit_code=returned)
            code = returned if returned > 0 else service.EXIT_FAILURE
            break
        if time.monotonic() > next_retention:
            next_retention = time.monotonic() + RETENTION_EVERY_S
            subprocess.run(_command("retention", config_path), check=False)
    _stop_all(list(children.values()))
    return code


def _command(verb: str, config_path: Path) -> list[str]:
    return [sys.executable, "-m", "ich_node", verb, "--config", str(config_path)]


def _start(role: str, config_path: Path) -> subprocess.Popen[bytes]:
    # a session of its own: Ctrl-C in the terminal reaches us alone, and we stop the children in order
    return subprocess.Popen(_command(role, config_path), start_new_session=True)


def _stop_all(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + STOP_WITHIN_S
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
