"""`ich-node check`: is this node fit to run? One line per check, in the order in which an administrator would look."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ich_node.deliver.dicom import scu
from ich_node.domain.errors import IchNodeError
from ich_node.infer import bundle
from ich_node.infer.engine.ort import Engine
from ich_node.runtime.config import Config
from ich_node.store.ledger import database

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"})


@dataclass(frozen=True, slots=True)
class Line:
    """One check: its subject, whether it passed, and what was found."""

    subject: str
    passed: bool
    detail: str


def lines(config: Config) -> Iterator[Line]:
    """Every check, as it is made."""
    yield Line("configuration", True, "valid")
    yield _spool(config)
    yield _database(config)
    yield from _model(config)
    for destination in config.deliver.destinations:
        answer = scu.echo(config.ae_title, destination, config.deliver)
        yield Line(f"destination {destination.name}", answer.ok, f"{answer.cause} ({answer.seconds * 1000:.0f} ms)")
    if not config.deliver.destinations:
        yield Line("destinations", False, "none configured: results would stay on this machine")


def _spool(config: Config) -> Line:
    folder = config.state_dir
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        return Line("spool", False, f"{folder}: {error.strerror}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Line("spool", False, f"{folder}: not writable by this account")
    kind = file_system_of(folder, Path("/proc/self/mounts"))
    free_gb = shutil.disk_usage(folder).free / 1e9
    detail = f"{folder}: {kind}, {free_gb:.1f} GB free, instances are refused below {config.store.min_free_gb:g} GB"
    if kind in NETWORK_FILE_SYSTEMS:
        return Line("spool", False, f"{detail}; a network file system does not keep what was acknowledged")
    return Line("spool", free_gb > config.store.min_free_gb, detail)


def file_system_of(folder: Path, mounts: Path) -> str:
    """The file system type under `folder`, by the longest mount point in `mounts` (proc(5)); "unknown" without it."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    over = [(len(row[1]), row[2]) for row in rows if resolved.is_relative_to(row[1].replace("\\040", " "))]
    return max(over, default=(0, "unknown"))[1]


def _database(config: Config) -> Line:
    try:
        database.open_database(config.state_dir).dispose()
    except IchNodeError as error:
        return Line("database", False, str(error))
    return Line("database", True, "intact, schema up to date")


def _model(config: Config) -> Iterator[Line]:
    try:
        loaded = bundle.load(config.bundle_dir)
    except IchNodeError as error:
        yield Line("model bundle", False, str(error))
        return
    card = loaded.card
    yield Line("model bundle", True, f"{card.id} {card.version}, sha256 {card.sha256[:12]}… matches")
    try:
        engine = Engine(loaded, provider=config.infer.provider, threads=config.infer.threads)
        engine.self_test()
    except IchNodeError as error:
        yield Line("inference", False, str(error))
        return
    yield Line("inference", True, f"self-test passed on {engine.provider} (asked for {config.infer.provider})")
