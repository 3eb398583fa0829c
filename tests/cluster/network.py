"""Hosts in network namespaces on one switch, whose lines can be cut and slowed; needs root and iproute2.

    with Network(["r1", "db1"]) as network:
        subprocess.run([*network.inside("r1"), "ping", network.address("db1")])
        network.cut("db1")

The switch is a bridge in a namespace of its own, so that nothing of the machine's own network is touched, and all of it
is gone when the namespaces are.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SUBNET = "10.77.0"
CLONE_NEWNET = 0x40000000  # sched.h
SLOW = ("tbf", "rate", "2mbit", "burst", "16kb", "latency", "400ms")
"""A line of 2 Mbit/s with a queue that is longer than patience: what a hospital's old leased line is like."""


def lacks() -> str:
    """What this machine lacks for it; empty when nothing."""
    if os.geteuid() != 0:
        return "root"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "ip and tc (Debian package iproute2)"
    tried = f"ich-{secrets.token_hex(2)}"
    if subprocess.run(["ip", "netns", "add", tried], check=False, capture_output=True).returncode:
        return "network namespaces"
    _run("ip", "netns", "del", tried)
    return ""


class Network:
    """Named hosts with an address each, all on one switch. Use it as a context manager."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._prefix = f"ich{secrets.token_hex(2)}"
        self._number = {name: number for number, name in enumerate(hosts, start=11)}
        self._switch = f"{self._prefix}-switch"

    def __enter__(self) -> Network:
        try:
            _run("ip", "netns", "add", self._switch)
            _run("ip", "-n", self._switch, "link", "add", "name", "switch", "type", "bridge")
            _run("ip", "-n", self._switch, "link", "set", "dev", "switch", "up")
            for name in self._number:
                self._plug_in(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        for name in (*self._number, "switch"):
            subprocess.run(["ip", "netns", "del", f"{self._prefix}-{name}"], check=False, capture_output=True)

    def _plug_in(self, name: str) -> None:
        space = self.namespace(name)
        _run("ip", "netns", "add", space)
        _run(
            "ip",
            "-n",
            self._switch,
            "link",
            "add",
            "name",
            name,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            space,
        )
        _run("ip", "-n", self._switch, "link", "set", "dev", name, "master", "switch", "up")
        _run("ip", "-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", space, "link", "set", "dev", device, "up")

    def namespace(self, host: str) -> str:
        """The name of its namespace."""
        return f"{self._prefix}-{host}"

    def address(self, host: str) -> str:
        """Its IPv4 address."""
        return f"{SUBNET}.{self._number[host]}"

    def inside(self, host: str) -> list[str]:
        """What to put before a command, so that it runs on this host; the command is the process that is started."""
        return ["ip", "netns", "exec", self.namespace(host)]

    @contextmanager
    def thread_inside(self, host: str) -> Iterator[None]:
        """Sockets that this thread makes within the block are this host's."""
        with (
            Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open("rb") as home,
            Path(f"/run/netns/{self.namespace(host)}").open("rb") as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def answers(self, host: str, port: int) -> bool:
        """Whether somebody listens on a TCP port of this host, as seen on it."""
        with self.thread_inside(host), socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((self.address(host), port)) == 0

    # --- harm ----------------------------------------------------------------------------------------------------

    def cut(self, host: str) -> None:
        """Nothing comes through any more, in either direction; nobody is told (no carrier is lost, no reset sent)."""
        _run("ip", "-n", self._switch, "link", "set", "dev", host, "nomaster")

    def heal(self, host: str) -> None:
        """Undo cut()."""
        _run("ip", "-n", self._switch, "link", "set", "dev", host, "master", "switch")

    def slow(self, host: str) -> None:
        """Its line is slow in both directions."""
        _run("tc", "-n", self._switch, "qdisc", "replace", "dev", host, "root", *SLOW)
        _run("tc", "-n", self.namespace(host), "qdisc", "replace", "dev", "eth0", "root", *SLOW)

    def quick(self, host: str) -> None:
        """Undo slow()."""
        _run("tc", "-n", self._switch, "qdisc", "del", "dev", host, "root")
        _run("tc", "-n", self.namespace(host), "qdisc", "del", "dev", "eth0", "root")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _enter(namespace: int) -> None:
    """setns(2) of this thread; os.setns is newer than the oldest Python that the tests run on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
