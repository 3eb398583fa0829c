"""Who may look: users with argon2 hashes, or a reverse proxy that has signed them in; sessions; a brake on guessing.

Two roles. A reader sees studies and patient names and gives feedback; an operator may also analyse and send again.
Without users and without a proxy the board shows everybody who reaches it what it shows without names.

Invariants: a session's token is made at sign-in and never taken from a request; a wrong name costs as long as a wrong
password; a proxy's headers count only together with its secret.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import argon2

from ich_node.domain.errors import ConfigError

Role = Literal["reader", "operator"]
SESSION_S = 12 * 3600  # a night shift
IDLE_S = 2 * 3600  # chosen: a page that is left open asks every few seconds, a closed one does not
FREE_ATTEMPTS = 5  # chosen: a tired person mistypes
FIRST_WAIT_S = 2.0  # doubles with each further failure
LONGEST_WAIT_S = 900.0  # chosen: a quarter of an hour: guessing is hopeless, and a reader is back the same night
REMEMBERED = 10_000  # names and addresses that failed, and sessions: more are forgotten oldest first
NAME_LENGTH = 64  # chosen: longer is no name; it goes into every log line
PASSWORD_LENGTH = 1024  # argon2 hashes what it is given: no more than this
SECRET_HEADER = "x-ich-node-proxy-secret"  # noqa: S105 — the header's name


@dataclass(frozen=True, slots=True)
class Person:
    """Who is looking."""

    name: str
    role: Role


@dataclass(slots=True)
class Session:
    """A signed-in person. csrf: what every form must carry."""

    person: Person
    csrf: str
    began_s: float
    last_s: float


@dataclass(slots=True)
class Sessions:
    """Sessions in memory: a restart of the board signs everybody out."""

    clock: Callable[[], float]
    _open: OrderedDict[str, Session] = field(default_factory=OrderedDict)
    _vouched: OrderedDict[Person, str] = field(default_factory=OrderedDict)

    def begin(self, person: Person) -> str:
        """A new session's token."""
        token, now = secrets.token_urlsafe(32), self.clock()
        self._open[token] = Session(person, secrets.token_urlsafe(32), now, now)
        while len(self._open) > REMEMBERED:
            self._open.popitem(last=False)
        return token

    def find(self, token: str | None) -> Session | None:
        """The session of a token, if it is one of ours and still good."""
        session = self._open.get(token or "")
        if session is None:
            return None
        now = self.clock()
        if now - session.began_s > SESSION_S or now - session.last_s > IDLE_S:
            self.end(token)
            return None
        session.last_s = now
        return session

    def vouched(self, person: Person) -> Session:
        """The one session of a person whom a proxy names with every request: no cookie goes out, its token is ours."""
        session = self.find(self._vouched.get(person))
        if session is None:
            token = self._vouched[person] = self.begin(person)
            session = self._open[token]
        while len(self._vouched) > REMEMBERED:
            self._vouched.popitem(last=False)
        return session

    def end(self, token: str | None) -> None:
        """Sign out."""
        self._open.pop(token or "", None)


@dataclass(slots=True)
class Brake:
    """Slows guessing down: after FREE_ATTEMPTS failures of a name or an address, each further one doubles its wait."""

    clock: Callable[[], float]
    _failures: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)

    def wait_s(self, *keys: str) -> float:
        """How long none of `keys` may try, in seconds; 0 when all may."""
        now = self.clock()
        return max(0.0, *(self._until(key) - now for key in keys))

    def failed(self, *keys: str) -> None:
        """Another failure of each of `keys`."""
        for key in keys:
            count, _ = self._failures.pop(key, (0, 0.0))
            self._failures[key] = (count + 1, self.clock())
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def passed(self, *keys: str) -> None:
        """A success: forgotten."""
        for key in keys:
            self._failures.pop(key, None)

    def _until(self, key: str) -> float:
        count, last_s = self._failures.get(key, (0, 0.0))
        if count < FREE_ATTEMPTS:
            return 0.0
        return last_s + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(count - FREE_ATTEMPTS, 20))


class Users:
    """The file of users: one `name:role:hash` a line, hashes as argon2 writes them; # begins a comment."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises ConfigError with the line that is wrong."""
        self._hasher = argon2.PasswordHasher()
        self._users: dict[str, tuple[Role, str]] = {}
        self._dummy = self._hasher.hash(secrets.token_urlsafe(16))
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"board.users: {path}: {error}"]) from error
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, rest = line.strip().partition(":")
            role, _, encoded = rest.partition(":")
            if not name or role not in ("reader", "operator") or not encoded.startswith("$argon2"):
                raise ConfigError([f"board.users: {path}, line {number}: not name:reader|operator:hash"])
            self._users[name] = ("operator" if role == "operator" else "reader", encoded)

    def verify(self, name: str, password: str) -> Person | None:
        """The person, if name and password fit."""
        role, encoded = self._users.get(name, ("reader", self._dummy))
        try:
            self._hasher.verify(encoded, password[:PASSWORD_LENGTH])
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return None
        return Person(name, role) if name in self._users else None


def line_for(name: str, role: Role, password: str) -> str:
    """A line for the file of users. ValueError for a name that the file cannot hold."""
    if not name or len(name) > NAME_LENGTH or ":" in name or not name.isprintable() or name.startswith("#"):
        raise ValueError(f"a user's name has 1 to {NAME_LENGTH} printable characters and no colon")
    if not password or len(password) > PASSWORD_LENGTH:
        raise ValueError(f"a password has 1 to {PASSWORD_LENGTH} characters")
    return f"{name}:{role}:{argon2.PasswordHasher().hash(password)}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A reverse proxy that signs people in: the header with the name, the header with the role, and its secret."""

    name_header: str
    role_header: str
    secret: str

    def person(self, headers: Mapping[str, str]) -> Person | None:
        """Whom the proxy vouches for; None without its secret, whatever the other headers say."""
        if not hmac.compare_digest(headers.get(SECRET_HEADER, "").encode(), self.secret.encode()):
            return None
        name = headers.get(self.name_header.lower(), "").strip()[:NAME_LENGTH]
        role: Role = "operator" if headers.get(self.role_header.lower(), "") == "operator" else "reader"
        return Person(name, role) if name and name.isprintable() else None
