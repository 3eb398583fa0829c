"""A PostgreSQL cluster of the tests' own, made by initdb, on a socket in a folder: no port, no account, no service."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

NEWEST_FIRST = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
QUICK = ("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60")
"""What tests need not prove again: PostgreSQL's own durability."""


def programs() -> Path | None:
    """The folder with initdb and pg_ctl; Debian does not put them on the path."""
    if NEWEST_FIRST:
        return NEWEST_FIRST[0]
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server. `folder` holds its data and its socket."""

    folder: Path
    account: str | None
    numbers: Iterator[int]
    settings: Sequence[str]

    def url(self) -> str:
        """A new, empty place for one ledger: a schema of its own."""
        name = f"t{next(self.numbers)}"
        self.tell(f"CREATE SCHEMA {name}")
        return f"postgresql://ich@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def tell(self, statement: str) -> str:
        """psql -c."""
        words = ("-h", str(self.folder), "-U", "ich", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-qtAc", statement)
        return self.run("psql", *words)

    def control(self, *words: str) -> None:
        """pg_ctl on the data of this cluster, waiting until it is done."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "240", "-l", str(self.folder / "log"), *words)

    @contextmanager
    def standby(self) -> Iterator[Cluster]:
        """A second server that follows this one, which waits for it with every commit; see `url_of`."""
        folder = Path(tempfile.mkdtemp(prefix="pg-"))
        if self.account:
            shutil.chown(folder, self.account)
        follows = Cluster(folder, self.account, self.numbers, self.settings)
        try:
            words = ("-h", str(self.folder), "-U", "ich", "-D", str(folder / "data"), "-R", "-c", "fast", "--no-sync")
            follows.run("pg_basebackup", *words)
            follows.start()
            self.tell("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.tell("SELECT pg_reload_conf()")
            yield follows
        finally:
            follows.kill()
            shutil.rmtree(folder, ignore_errors=True)

    def promote(self) -> None:
        """From standby to primary, which waits for nobody."""
        self.control("promote")

    def kill(self) -> None:
        """SIGKILL to every process of the server, at one moment: none of them answers once this has returned."""
        try:
            pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGSTOP)  # it starts no more of them
        except (FileNotFoundError, ProcessLookupError):
            return
        # a child that is left to itself answers until it next looks for its parent
        everybody = [
            pid,
            *(int(each.name) for each in Path("/proc").glob("[0-9]*") if _stat(int(each.name))[1] == str(pid)),
        ]
        for each in everybody:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        while any(_lives(each) for each in everybody):
            time.sleep(0.005)

    def start(self) -> None:
        """The server on its socket."""
        self.control("-o", " ".join(["-k", str(self.folder), "-c", "listen_addresses=''", *self.settings]), "start")

    def run(self, program: str, *words: str) -> str:
        """One of its programs, as its account: it refuses to run as root."""
        found = programs()
        assert found is not None
        kept = {"user": self.account, "group": _group_of(self.account)} if self.account else {}
        done = subprocess.run(
            [str(found / program), *words], check=True, stdout=subprocess.PIPE, text=True, cwd=self.folder, **kept
        )
        return done.stdout


@contextmanager
def cluster(settings: Sequence[str] = QUICK) -> Iterator[Cluster]:
    """A new cluster, running until the block ends. settings: options of its server."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path is short
    account = ("postgres" if _exists("postgres") else "nobody") if os.geteuid() == 0 else None
    if account:
        shutil.chown(folder, account)
    made = Cluster(folder, account, count(), settings)
    try:
        made.run("initdb", "-D", str(folder / "data"), "-U", "ich", "-A", "trust", "--no-sync", "-E", "UTF8")
        made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)


def url_of(servers: Sequence[Cluster], url: str) -> str:
    """The URL of one of them, for whichever takes writes."""
    hosts = ",".join(str(server.folder) for server in servers)
    return f"{url.replace(str(servers[0].folder), hosts)}&target_session_attrs=read-write"


def _lives(pid: int) -> bool:
    """Whether a process can still act: one that is gone, or dead and not yet buried, cannot."""
    return _stat(pid)[0] not in "ZX"


def _stat(pid: int) -> tuple[str, str]:
    """Of a process: its state, and the process that started it. Gone: "X" and nobody."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return "X", ""
    return state, parent


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _group_of(account: str) -> int:
    return pwd.getpwnam(account).pw_gid
