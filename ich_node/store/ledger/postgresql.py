"""The ledger on a PostgreSQL server, for several machines: `store.database: postgresql://…`.

The URL is libpq's (PostgreSQL documentation 34.1.1): several hosts with target_session_attrs=read-write follow a
fail-over, sslmode=verify-full proves the server, passfile or PGPASSWORD keep the secret out of the configuration.
psycopg is imported here, and this module only where such a URL is configured.

What SQLite does by one writer at a time is done by locks on rows here (`Rows._hold`, FOR UPDATE SKIP LOCKED in
`claim`), and by one index: no series has two running jobs.
"""

from __future__ import annotations

import hashlib
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import sqlalchemy as sa

CONNECT_TIMEOUT_S = 4  # a lost SYN is sent again after 1 and 3 s; a first host that is dead costs it every time
GONE_AFTER = {"keepalives_idle": 4, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""Seconds, and milliseconds: a server that vanishes without a word, as with its power or its switch, is given up after
ten seconds, a third of a lease. By TCP's own patience whoever waited for it would hang for a quarter of an hour, and
not see that another server has taken its place."""
STATEMENT_TIMEOUT_MS = 30_000  # as long as SQLite waits for a lock: only a hanging server takes this long
CLOCK_EVERY_S = 60.0  # the two clocks drift apart by less than a hundredth of a second meanwhile
CLOCK_AGAIN_S = 15.0
"""A server that is away is asked so seldom: each time whoever wants to know the time waits for CONNECT_TIMEOUT_S."""
SCHEMA_LOCK = 1_229_145_166  # "ICHN": one role at a time makes or migrates the schema


def open_engine(url: str) -> sa.Engine:
    """Connections to the server, each tried before it is used."""

    def connect() -> psycopg.Connection:
        return _connect(url, options=f"{_options_of(url)} -c statement_timeout={STATEMENT_TIMEOUT_MS}")

    return sa.create_engine("postgresql+psycopg://", creator=connect, pool_pre_ping=True)


def lock_schema(db: sa.Connection) -> None:
    """Until the end of the transaction nobody else makes or migrates the schema."""
    db.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))


def after_restore(db: sa.Connection) -> None:
    """Ids that were restored from files are not given again."""
    db.exec_driver_sql("SELECT setval(pg_get_serial_sequence('job', 'id'), (SELECT max(id) FROM job))")


class ServerClock:
    """The server's clock, Unix seconds: leases are compared between machines, so one clock gives and ends them all."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._ahead_s = 0.0
        self._known = False
        self._next_s = 0.0  # time.monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            if not self._known or time.monotonic() >= self._next_s:
                self._ask()
        return time.time() + self._ahead_s

    def _ask(self) -> None:
        again_s = CLOCK_AGAIN_S
        with suppress(sa.exc.SQLAlchemyError):  # the next statement says so; meanwhile the last answer counts
            with self._engine.connect() as db:
                before = time.time()
                now = db.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one()
                self._ahead_s = float(now) - (before + time.time()) / 2
            self._known, again_s = True, CLOCK_EVERY_S
        self._next_s = time.monotonic() + again_s


class Bell:
    """runtime.wake.Bell between machines: NOTIFY and LISTEN. A hint, never state: whoever listens polls as well."""

    def __init__(self, engine: sa.Engine, url: str, kind: str) -> None:
        self._engine = engine
        self._url = url
        self._channel = f"ich_node_{kind}_{hashlib.sha256(_options_of(url).encode()).hexdigest()[:8]}"

    def ring(self) -> None:
        """Wake everybody who listens; never fails."""
        with suppress(sa.exc.SQLAlchemyError), self._engine.begin() as db:
            db.exec_driver_sql(f"NOTIFY {self._channel}")

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Be woken from now on, until the block ends."""
        listener = Listener(self._url, self._channel)
        try:
            yield listener
        finally:
            listener.close()


class Listener:
    """A connection of its own that listens; opened again when it was lost."""

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._connection: psycopg.Connection | None = None
        self._open()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the bell rings, at most `timeout_s` seconds; True when it rang, now or since the last wait."""
        if self._connection is None:
            time.sleep(max(0.0, timeout_s))
            self._open()
            return True  # what was rung meanwhile is not known
        try:
            readable, _, _ = select.select([self._connection.fileno()], [], [], max(0.0, timeout_s))
            list(self._connection.notifies(timeout=0))
            return bool(readable)  # a farewell of the server is no bell, and a reason to look all the same
        except (psycopg.Error, OSError):
            self.close()
            return True

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> None:
        with suppress(psycopg.Error):
            connection = _connect(self._url, autocommit=True)
            connection.execute(f"LISTEN {self._channel}")
            self._connection = connection


def _connect(url: str, **more: Any) -> psycopg.Connection:
    """A connection that notices when its server is gone; what the URL says itself about that counts."""
    ours = {"connect_timeout": CONNECT_TIMEOUT_S, **GONE_AFTER, **more}
    said = psycopg.conninfo.conninfo_to_dict(url).keys() - {"options"}
    return psycopg.connect(url, **{name: value for name, value in ours.items() if name not in said})


def _options_of(url: str) -> str:
    """libpq's `options` in a URL, which a keyword of ours would otherwise replace."""
    return str(psycopg.conninfo.conninfo_to_dict(url).get("options") or "")
