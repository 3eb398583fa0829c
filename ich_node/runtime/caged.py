"""A child process that handles what strangers sent, and both ends of the line to it: it cannot hurt its parent.

The child (`confine`) can create, write, remove and reach nothing, has its memory limited, and a deadline in CPU seconds
for each question, after which the kernel ends it. The parent (`Child`) asks with a line of JSON and only ever reads
numbers and words from it; a child that dies or does not answer is ended, and another one takes its place.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from io import IOBase
from pathlib import Path
from typing import Any

READY = b"{}\n"
"""What a child says once, when it has loaded what it needs and given up the rest."""
START_S = 60.0
"""Wall seconds for a child to load its libraries on a busy machine."""
CPU_TO_WALL = 20.0
"""A busy machine may give a child a twentieth of a core; after that it hangs."""
ANSWERING_S = 5.0
"""Wall seconds beyond the deadline: for the way to and fro."""

PIECE = 1 << 18  # bytes, chosen: about what a socket holds

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
AUDIT_ARCH_X86_64, ALLOW, ERRNO_EPERM = 0xC000003E, 0x7FFF0000, 0x00050001  # linux/audit.h, linux/seccomp.h
LOAD, EQUAL, ANY_BIT, ANSWER = 0x20, 0x15, 0x45, 0x06  # linux/bpf_common.h: ld abs, jeq, jset, ret
NUMBER, ARCHITECTURE, THIRD_ARGUMENT = 0, 4, 32  # offsets in struct seccomp_data, linux/seccomp.h
COMPUTING = {
    **{"read": 0, "write": 1, "close": 3, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12},
    **{"rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28},
    **{"setitimer": 38, "getpid": 39, "sendto": 44, "recvfrom": 45, "exit": 60, "gettimeofday": 96, "getrusage": 98},
    **{"sigaltstack": 131, "futex": 202, "clock_gettime": 228, "exit_group": 231, "getrandom": 318, "gettid": 186},
    **{"tgkill": 234, "poll": 7, "rseq": 334},
}
"""System calls by their number on x86-64 of who computes on what it was handed; all others answer EPERM."""
READING = {"stat": 4, "fstat": 5, "lstat": 6, "getdents64": 217, "newfstatat": 262, "statx": 332, "readlink": 89}
"""And of who reads files as well, together with OPENAT without a flag of WRITES."""
OPENAT, WRITES = 257, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OPEN_FILES, FIRST_TO_GO = 32, b"1000"
"""Files that a reader may hold open at a time; and its place when the kernel runs out of memory (proc(5))."""


class Child:
    """The parent's end of a process that runs `module`."""

    def __init__(self, module: str) -> None:
        """Start it, without waiting for it; raises OSError when there can be no other process."""
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": package_path()}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        self._socket = ours
        self._stream = ours.makefile("rb")

    def wait_until_ready(self) -> None:
        """Raises EOFError or OSError when it does not start."""
        self._socket.settimeout(START_S)
        if self._stream.readline(len(READY)) != READY:
            raise EOFError("the process does not start")

    def send(self, question: Any, data: bytes, cpu_s: float) -> None:
        """Ask something that may cost `cpu_s`; raises OSError when nobody listens."""
        self._socket.settimeout(ANSWERING_S + CPU_TO_WALL * cpu_s)
        self._socket.sendall(json.dumps(question).encode() + b"\n" + data)

    def some(self) -> bytes:
        """What has come of its answer, when `fileno` can be read; empty when it has ended. Raises OSError."""
        return self._socket.recv(PIECE)

    def line(self, most: int) -> Any:
        """A line of JSON, of `most` bytes at most. Raises EOFError, OSError or ValueError."""
        line = self._stream.readline(most)
        if not line.endswith(b"\n"):
            raise EOFError("the process ended, or says too much")
        return json.loads(line)

    def data(self, count: int) -> bytes:
        """So many bytes that follow the line; raises EOFError or OSError."""
        data = self._stream.read(count)
        if len(data) < count:
            raise EOFError("the process ended")
        return data

    def fileno(self) -> int:
        """What can be waited for until there is something to read."""
        return self._socket.fileno()

    @property
    def cpu_s(self) -> float:
        """CPU seconds that the process has taken so far, by the kernel's account of it (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._stream.close()
            self._socket.close()


def questions(memory: int, *, reads: bool = False) -> Iterator[tuple[Any, IOBase, socket.socket]]:
    """The child's end, of which stdin is the line: what is asked, where more of it comes from, where answers go.

    Gives up all rights first. memory: bytes of address space beyond what the libraries take by then. reads: files may
    be opened for reading.
    """
    peer = socket.socket(fileno=0)
    stream = peer.makefile("rb", buffering=1 << 20)
    confine(memory, reads=reads)
    peer.sendall(READY)
    while line := stream.readline():
        yield json.loads(line), stream, peer


@contextlib.contextmanager
def deadline(cpu_s: float) -> Iterator[None]:
    """The kernel ends this process after so many CPU seconds within."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def confine(memory: int, *, reads: bool = False) -> None:
    """Nothing can be created, written, removed or reached from here on, and nothing opened unless `reads`."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with contextlib.suppress(OSError):  # not in every container
        Path("/proc/self/oom_score_adj").write_bytes(FIRST_TO_GO)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES if reads else 3),
        (resource.RLIMIT_AS, taken + memory),
    ):
        resource.setrlimit(limit, (value, value))
    if sys.platform == "linux" and platform.machine() == "x86_64":
        _filter_system_calls(COMPUTING | READING if reads else COMPUTING, opens=reads)


def _filter_system_calls(allowed: dict[str, int], *, opens: bool) -> None:
    """Seccomp as a classic BPF programme (seccomp(2)); a kernel without it leaves the limits above."""
    code = [_step(LOAD, ARCHITECTURE), _step(EQUAL, AUDIT_ARCH_X86_64, 1, 0), _step(ANSWER, ERRNO_EPERM)]
    code += [_step(LOAD, NUMBER)]
    numbers = sorted(allowed.values())
    reading = 3 if opens else 0  # steps behind the list
    code += [_step(EQUAL, number, len(numbers) - at + reading, 0) for at, number in enumerate(numbers)]
    if opens:  # openat(folder, name, flags)
        code += [_step(EQUAL, OPENAT, 0, 2), _step(LOAD, THIRD_ARGUMENT), _step(ANY_BIT, WRITES, 0, 1)]
    code += [_step(ANSWER, ERRNO_EPERM), _step(ANSWER, ALLOW)]
    programme = ctypes.create_string_buffer(b"".join(code))
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(programme))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def package_path() -> str:
    """PYTHONPATH for a child: where this package lies comes first, also when it is not installed."""
    root = Path(__file__).resolve().parents[2]
    return os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
