"""The size that a compressed frame claims for itself, read from its first bytes, before a decoder believes it.

JPEG and JPEG-LS: the start-of-frame marker (ITU-T T.81 B.2.2, T.87 C.2.2). JPEG 2000 and HTJ2K: the SIZ marker segment
(ITU-T T.800 A.5.1). RLE has no size of its own.
"""

from __future__ import annotations

import struct

SOI, SOC, SIZ = b"\xff\xd8", b"\xff\x4f", b"\xff\x51"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
# SOF0 to SOF15 without DHT (C4), JPG (C8), DAC (CC); SOF55 of JPEG-LS
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame; None where the frame does not say.

    Raises ValueError or struct.error when the frame begins like one of these and then breaks off.
    """
    if frame.startswith(SOI):
        return _jpeg(frame)
    if frame.startswith(JP2_SIGNATURE):
        start = frame.find(SOC + SIZ)
        return _jpeg_2000(frame[start:]) if start > 0 else None
    if frame.startswith(SOC + SIZ):
        return _jpeg_2000(frame)
    return None


def _jpeg(frame: bytes) -> tuple[int, int]:
    at = 2
    while True:
        marker, code = struct.unpack_from("BB", frame, at)
        if marker != 0xFF:
            raise ValueError("no marker where one must be")
        if code == 0xFF or code in STANDALONE:
            at += 1 if code == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", frame, at + 2)
        if code in START_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", frame, at + 5)
            return rows, columns
        if length < 2:
            raise ValueError("a marker segment without a length")
        at += 2 + length


def _jpeg_2000(frame: bytes) -> tuple[int, int]:
    width, height, left, top = struct.unpack_from(">4L", frame, 8)
    return height - top, width - left
