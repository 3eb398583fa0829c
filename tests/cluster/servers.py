"""Two PostgreSQL servers, one following the other, each on a host of its own; made by initdb, gone with their folder.

The primary waits for its standby with every commit (synchronous_standby_names), so a fail-over loses no transaction.
Who promotes is the test, as a manager of the fail-over would be: it first makes sure that the old primary is dead.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.cluster.network import Network
from tests.postgresql import programs

ACCOUNT = "postgres"  # it refuses to run as root
PORT = 5432
DATABASE = "postgres"
WITHIN_S = 60
SETTINGS = """
listen_addresses = '*'
unix_socket_directories = '{folder}'
shared_buffers = 16MB
max_connections = 80
wal_level = replica
hot_standby = on
wal_keep_size = 256MB
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_retrieve_retry_interval = 500ms
tcp_keepalives_idle = 3
tcp_keepalives_interval = 2
tcp_keepalives_count = 3
tcp_user_timeout = 8s
"""
"""fsync stays on: a server that is killed comes back with what it has committed. Timeouts end what a cut line left."""


class Server:
    """One server on its host."""

    def __init__(self, network: Network, host: str, folder: Path) -> None:
        self.host = host
        self.data = folder / "data"
        self._network, self._folder = network, folder
        folder.mkdir(parents=True)
        shutil.chown(folder, ACCOUNT)

    def make(self) -> None:
        """An empty database, for whoever can reach it: the network is the test's own."""
        self.run("initdb", "-D", str(self.data), "-U", "ich", "-A", "trust", "-E", "UTF8", "--no-sync")
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(folder=self._folder))

    def follow(self, primary: Server) -> None:
        """Become the standby of `primary`, with a copy of its data."""
        shutil.rmtree(self.data, ignore_errors=True)
        at = f"host={self._network.address(primary.host)} port={PORT} user=ich application_name={self.host}"
        self.run("pg_basebackup", "-D", str(self.data), "-d", at, "-R", "-c", "fast", "-X", "stream", "--no-sync")
        settings = self.data / "postgresql.conf"
        settings.write_text(settings.read_text() + f"\nunix_socket_directories = '{self._folder}'\n")
        self.start()

    def start(self) -> None:
        """Start, or start again after kill(): its shared memory may be held for a moment by children that are dying."""
        end = time.monotonic() + WITHIN_S
        while True:
            with suppress(subprocess.CalledProcessError):
                self.run("pg_ctl", "-D", str(self.data), "-w", "-t", "30", "-l", str(self._folder / "log"), "start")
                return
            if time.monotonic() > end:
                raise RuntimeError(f"{self.host}: PostgreSQL does not start, see {self._folder / 'log'}")
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to the postmaster; its children end when they see it."""
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)

    def promote(self) -> None:
        """From standby to primary."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def tell(self, statement: str) -> str:
        """psql -c, by the socket in its folder: no line of the network is needed."""
        words = ("-h", str(self._folder), "-U", "ich", "-d", DATABASE, "-v", "ON_ERROR_STOP=1", "-qtAc", statement)
        return self.run("psql", *words).strip()

    def run(self, program: str, *words: str) -> str:
        """One of PostgreSQL's programs on this host, as the account."""
        found = programs()
        assert found is not None
        prefix = [
            *self._network.inside(self.host),
            "setpriv",
            f"--reuid={ACCOUNT}",
            f"--regid={ACCOUNT}",
            "--clear-groups",
        ]
        done = subprocess.run(
            [*prefix, str(found / program), *words],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if program == "pg_ctl" else None,
            text=True,
            cwd=self._folder,
            timeout=WITHIN_S,
        )
        return done.stdout


class Pair:
    """A primary and its standby."""

    def __init__(self, network: Network, hosts: tuple[str, str], folder: Path) -> None:
        self.primary, self.standby = (Server(network, host, folder / host) for host in hosts)
        self._addresses = [network.address(host) for host in hosts]

    @property
    def url(self) -> str:
        """For store.database: whichever of the two takes writes."""
        hosts = ",".join(f"{address}:{PORT}" for address in self._addresses)
        return f"postgresql://ich@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def start(self) -> None:
        """Both, in step."""
        self.primary.make()
        self.primary.start()
        self.standby.follow(self.primary)
        self.in_step()

    def in_step(self) -> None:
        """Wait until the standby follows; from then on every commit waits for it."""
        end = time.monotonic() + WITHIN_S
        while self.primary.tell("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") != "1":
            if time.monotonic() > end:
                raise RuntimeError("the standby does not follow")
            time.sleep(0.1)
        self._wait_for_standby("*")

    def restart(self) -> None:
        """The primary dies and comes back."""
        self.primary.kill()
        self.primary.start()

    def fail_over(self) -> None:
        """The primary dies for good and the standby takes its place."""
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        self._wait_for_standby("")  # there is none; a second death now would lose what is committed meanwhile

    def repair(self) -> None:
        """The one that died follows the other one."""
        self.standby.kill()
        self.standby.follow(self.primary)
        self.in_step()

    def stop(self) -> None:
        """Kill both."""
        for server in (self.primary, self.standby):
            server.kill()

    def in_charge(self) -> list[str]:
        """The hosts whose server takes writes: one, or the brain is split."""
        servers = (self.primary, self.standby)
        return [server.host for server in servers if server.tell("SELECT pg_is_in_recovery()") == "f"]

    def _wait_for_standby(self, names: str) -> None:
        self.primary.tell(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.primary.tell("SELECT pg_reload_conf()")
