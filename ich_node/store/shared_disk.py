"""Is the state directory on a file system that several machines may share? Asked by every role when it starts.

Two questions: is it a kind, mounted so, that is known to keep what was acknowledged and to show every machine the same
names (docs/cluster.md says why, and what stands against others)? And does it do here what the spool relies on? What is
not known to be safe is refused. What a machine cannot see of the server (how NFS is exported) stands in the document.
"""

from __future__ import annotations

import errno
import fcntl
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ich_node.domain.errors import IchNodeError
from ich_node.store import durable
from ich_node.store.ledger.protocols import Leases

LOCAL = frozenset({"ext4", "xfs", "btrfs"})
"""Disks of one machine: several containers on it may share them, other machines cannot reach them."""
LONGEST_CACHE_S = 1.0
"""How long NFS may keep a listing before it asks the server: what `receive.grace_s` waits by default."""
STATE_MARK = "shared.id"
FOREVER_S = 100 * 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo (proc(5)): file system type, and options with their values ("" for none)."""

    kind: str
    options: dict[str, str]


def mount_of(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> Mount:
    """The mount that a folder lies on: the last one of the longest mount point above it. Raises OSError."""
    resolved, found, longest = folder.resolve(), Mount("unknown", {}), -1
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])  # a blank is \040
        kind, _, options = after.split(" ", 2)
        if resolved.is_relative_to(point) and len(point) >= longest:
            longest = len(point)
            given = ",".join([before.split()[5], options]).split(",")
            found = Mount(kind, {name: value for name, _, value in (one.partition("=") for one in given)})
    return found


def unsafe(mount: Mount) -> str:
    """Why this kind of mount is not known to be safe; empty when it is."""
    if mount.kind in LOCAL:
        return "it is mounted with barriers off" if {"nobarrier", "barrier=0"} & mount.options.keys() else ""
    judge: dict[str, Callable[[dict[str, str]], str]] = {"nfs4": _nfs, "ceph": _ceph, "lustre": _lustre}
    if mount.kind not in judge:
        return f"{mount.kind} is not known to be safe; nfs4, ceph and lustre are"
    return judge[mount.kind](mount.options)


def _nfs(options: dict[str, str]) -> str:
    """By nfs(5)."""
    if "hard" not in options:
        return "NFS must be mounted hard: soft loses writes when the server is away"
    if options.get("local_lock", "none") != "none":
        return "NFS must not be mounted with local_lock"
    if options.get("lookupcache", "all") not in ("none", "pos", "positive"):
        return "NFS must be mounted with lookupcache=none or positive: names of other machines would be seen late"
    if "noac" not in options and not _seconds(options.get("acdirmax", "60")) <= LONGEST_CACHE_S:
        return "NFS must be mounted with acdirmax=1 (actimeo=1) or noac: listings would be up to a minute old"
    return ""


def _ceph(options: dict[str, str]) -> str:
    """By mount.ceph(8)."""
    return "CephFS must not be mounted with nowsync" if "nowsync" in options else ""


def _lustre(options: dict[str, str]) -> str:
    """By mount.lustre(8)."""
    if "flock" not in options:
        return "Lustre must be mounted with flock: a lock would hold on one machine only"
    return ""


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() else float("inf")


def trouble(folder: Path) -> str:
    """What a folder does not do that the spool relies on; empty when it does all of it. Leaves nothing behind."""
    place = folder / f"probe-{secrets.token_hex(4)}"
    try:
        place.mkdir(mode=durable.DIRECTORY_MODE)
        for what in _lacking(place):
            return what
    except OSError as error:
        return f"{errno.errorcode.get(error.errno or 0, '?')} in {folder}: {error.strerror}"
    finally:
        with suppress(OSError):
            for path in place.iterdir():
                path.unlink()
            place.rmdir()
    return ""


def _lacking(place: Path) -> Iterator[str]:
    first, second, link = place / "a.part", place / "b.part", place / "a"
    durable.write_file(first, [b"first"])  # O_EXCL, fdatasync
    try:
        durable.write_file(first, [b"other"])
        yield "a file that is there can be made again (O_EXCL does nothing)"
    except FileExistsError:
        pass
    durable.write_file(second, [b"second"])
    link.hardlink_to(first)
    with suppress(FileExistsError):
        link.hardlink_to(second)
        yield "a link replaces a file"
    second.replace(first)
    durable.sync_directory(place)
    if link.read_bytes() != b"first" or first.read_bytes() != b"second":
        yield "a rename changes what is linked elsewhere"
    if sorted(path.name for path in place.iterdir()) != ["a", "a.part"]:
        yield "a listing does not show what was just made"
    with first.open("a") as holder, first.open("a") as other:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield "two may hold one lock (flock)"
        except BlockingIOError:
            pass


def require(folder: Path, ledger: Leases) -> None:
    """Raises IchNodeError when the state directory cannot be shared, or is not the one that belongs to the ledger.

    A machine on which the shared file system is not mounted would else go on beside the others in an empty folder.
    """
    if why := unsafe(mount_of(folder)) or trouble(folder):
        raise IchNodeError(f"store.shared: {folder}: {why} (docs/cluster.md)")
    mark = folder / STATE_MARK
    known = ledger.holders("state")
    if not known and not mark.exists():
        with suppress(FileExistsError):
            durable.write_file(mark, [secrets.token_hex(16).encode()])
            durable.sync_directory(folder)
    try:
        own = mark.read_text(encoding="ascii").strip()
    except OSError:
        own = ""
    if not own or not ledger.take("state", own, FOREVER_S):
        raise IchNodeError(
            f"store.shared: {folder} is not the state directory of this ledger: is the file system mounted?"
        )
