"""The judging child with flaws as they are not known yet, which images name by their Patient ID."""

from __future__ import annotations

import ctypes
from typing import Any

from ich_node.receive import judge, reading

SPIN, EAT, CRASH = "SPIN", "EAT", "CRASH"
LATER = "^LATER"  # behind one of them: when the images are judged, not when they are read


def hurt(kind: str) -> None:
    """Do what cannot be survived."""
    if kind == SPIN:
        while True:
            pass
    if kind == EAT:
        held = []
        while True:
            held.append(bytearray(1 << 24))
    if kind == CRASH:
        ctypes.string_at(0)


def flawed_reading(real: Any) -> Any:
    """Read a header, and stumble over some."""

    def read_header(path: Any, keywords: Any, checked: Any) -> Any:
        header = real(path, keywords, checked)
        hurt(str(header.get("PatientID", "")))
        return header

    return read_header


def flawed_parting(real: Any) -> Any:
    """Part images by owner, and stumble over some."""

    def parted(images: Any, same: Any) -> Any:
        for image in images:
            hurt(str(image.header.get("PatientID", "")).removesuffix(LATER))
        return real(images, same)

    return parted


if __name__ == "__main__":
    reading.read_header = flawed_reading(reading.read_header)
    judge.parted = flawed_parting(judge.parted)
    judge.main()
