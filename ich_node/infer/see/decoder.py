"""The child process in which native decoders run: `python -m ich_node.infer.see.decoder`, asked through its stdin.

After its imports it gives up what decoding does not need: opening anything (files, sockets), writing files, more memory
than LIMIT, and on x86-64 Linux every system call but a few (seccomp). Each frame has a deadline in CPU seconds, after
which the kernel ends the process. Question: one line of JSON (see `Question`), then the frame. Answer: one line of
JSON with dtype and length, then the values; `{}` for a frame that cannot be decoded. cage.py is the other end.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import platform
import resource
import signal
import socket
import struct
import sys
import warnings
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pydicom.config
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, JPEGLSLossless, JPEGLSNearLossless

from ich_node.dicom.decoding import decoding
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why

REFUSED = Reason(Why.PIXELS_UNDECODABLE)
LIMIT = 1 << 30
"""Bytes of address space beyond what the libraries take: openjpeg needs 0.4 GB for 4096² pixels."""

PLUGINS = {JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls"}
"""Where pydicom's first choice is not the fastest: 7 ms instead of 25 for 512²."""

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
AUDIT_ARCH_X86_64, ALLOW, ERRNO_EPERM = 0xC000003E, 0x7FFF0000, 0x00050001  # linux/audit.h, linux/seccomp.h
ALLOWED = {
    **{"read": 0, "write": 1, "close": 3, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12},
    **{"rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28},
    **{"setitimer": 38, "getpid": 39, "sendto": 44, "recvfrom": 45, "exit": 60, "gettimeofday": 96, "getrusage": 98},
    **{"sigaltstack": 131, "futex": 202, "clock_gettime": 228, "exit_group": 231, "getrandom": 318, "gettid": 186},
    **{"tgkill": 234, "poll": 7, "rseq": 334},
}
"""System calls of a decoder by their number on x86-64; all others answer EPERM."""


class Question(TypedDict):
    """A frame and how its pixels are described; length: of the frame in bytes; cpu_s: what it may cost."""

    syntax: str
    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool
    length: int
    cpu_s: float


def decode(question: Question, frame: bytes) -> np.ndarray[Any, Any]:
    """Stored values [rows, columns] of a frame; raises whatever the decoders raise."""
    syntax = UID(question["syntax"])
    description: dict[str, Any] = {
        "rows": question["rows"],
        "columns": question["columns"],
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": question["allocated"],
        "bits_stored": question["stored"],
        "pixel_representation": int(question["signed"]),
        "pixel_keyword": "PixelData",
        "transfer_syntax_uid": syntax,
    }
    decoder = get_decoder(syntax)
    values, _ = decoder.as_array(encapsulate([frame]), raw=True, decoding_plugin=PLUGINS.get(syntax, ""), **description)
    return np.ascontiguousarray(values)


def _give_up_rights() -> None:
    """Nothing can be opened, created or reached from here on."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_AS, taken + LIMIT),
    ):
        resource.setrlimit(limit, (value, value))
    if sys.platform == "linux" and platform.machine() == "x86_64":
        _filter_system_calls()


def _filter_system_calls() -> None:
    """Seccomp as a classic BPF programme (seccomp(2)); a kernel without it leaves the limits above."""
    load, equal, answer = 0x20, 0x15, 0x06
    code = [struct.pack("HBBI", load, 0, 0, 4), struct.pack("HBBI", equal, 1, 0, AUDIT_ARCH_X86_64)]
    code += [struct.pack("HBBI", answer, 0, 0, ERRNO_EPERM), struct.pack("HBBI", load, 0, 0, 0)]
    numbers = sorted(ALLOWED.values())
    code += [struct.pack("HBBI", equal, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    code += [struct.pack("HBBI", answer, 0, 0, ERRNO_EPERM), struct.pack("HBBI", answer, 0, 0, ALLOW)]
    programme = ctypes.create_string_buffer(b"".join(code))
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(programme))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0)


def _warm() -> None:
    """Load every decoder while files may still be opened: they are imported when they are first used."""
    import jpeg_ls  # noqa: F401, PLC0415 — pyjpegls
    import libjpeg  # noqa: F401, PLC0415 — pylibjpeg-libjpeg
    import openjpeg  # noqa: F401, PLC0415 — pylibjpeg-openjpeg
    import rle  # noqa: F401, PLC0415 — pylibjpeg-rle
    from PIL import Image  # noqa: PLC0415

    Image.init()
    frame = bytes(np.array([2, 64, 64 + 128, *[0] * 13], "<u4").tobytes()) + b"\x81\0" * 128
    rows = {"rows": 128, "columns": 128, "allocated": 16, "stored": 16, "signed": False, "cpu_s": 1.0}
    for syntax in ("1.2.840.10008.1.2.5", *map(str, PLUGINS), "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50"):
        with contextlib.suppress(UnusableSeries), decoding(REFUSED):  # a frame for one of them; all are imported
            decode({"syntax": syntax, "length": len(frame), **rows}, frame)  # type: ignore[typeddict-item]


def main() -> None:
    """Answer until stdin ends."""
    warnings.simplefilter("ignore")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    _warm()
    peer = socket.socket(fileno=0)
    stream = peer.makefile("rb", buffering=1 << 20)
    _give_up_rights()
    peer.sendall(b"{}\n")
    while line := stream.readline(4096):
        question: Question = json.loads(line)
        frame = stream.read(question["length"])
        signal.setitimer(signal.ITIMER_PROF, question["cpu_s"])
        try:
            with decoding(REFUSED):
                values = decode(question, frame)
            answer = json.dumps({"dtype": values.dtype.str, "shape": values.shape}).encode() + b"\n"
        except (UnusableSeries, MemoryError):
            values, answer = np.empty(0, np.uint8), b"{}\n"
        signal.setitimer(signal.ITIMER_PROF, 0)
        peer.sendall(answer)
        peer.sendall(values.data.cast("B") if values.size else b"")


if __name__ == "__main__":
    main()
