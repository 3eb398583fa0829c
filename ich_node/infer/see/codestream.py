"""What a compressed frame claims about itself, read from its markers before a decoder believes it.

JPEG and JPEG-LS: the markers before the first scan (ITU-T T.81 B.2, T.87 C.2). JPEG 2000 and HTJ2K: the main header
(ITU-T T.800 A.4 to A.6). RLE has no header of that kind. A decoder's work grows with what is claimed, not with the
bytes: 70 bytes may promise 255 components, 16 million tiles or 65,535 layers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
SOC, SIZ = b"\xff\x4f", b"\xff\x51"
COD, SOT = 0x52, 0x90  # second bytes of JPEG 2000 markers, T.800 A
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
# SOF0 to SOF15 without DHT (C4), JPG (C8), DAC (CC); SOF55 of JPEG-LS
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0 to RST7 and SOI, which have no length, T.81 B.1.1.3

MOST_SCANS = 16
"""A progressive image of one component has about ten (T.81 G.1.1); each scan walks over the whole image."""

MOST_LAYERS = 64
"""Quality layers of JPEG 2000; encoders write 1 to 20."""

SMALLEST_TILE = 64
"""Edge in pixels; encoders write 128 and more, and each tile costs a decoder's set-up."""

PADDING = 16
"""The end marker may be followed by bytes that make the length even, or a multiple of a sender's buffer."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Size in pixels, components, and how often a decoder has to begin anew. ended: the end marker is there."""

    rows: int
    columns: int
    components: int
    scans: int
    tiles: int
    layers: int
    ended: bool

    @property
    def modest(self) -> bool:
        """Whether an encoder of one grey image may have written this."""
        fewest_tiles = -(-self.rows // SMALLEST_TILE) * -(-self.columns // SMALLEST_TILE)
        few = self.scans <= MOST_SCANS and self.layers <= MOST_LAYERS and self.tiles <= fewest_tiles
        return self.components == 1 and few


def claims(frame: bytes) -> Claims | None:
    """The claims of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame; None where it begins like none of these.

    Raises ValueError or struct.error when the frame begins like one of these and then breaks off.
    """
    ended = EOI in frame[-PADDING - 2 :]  # JPEG 2000's end of codestream has the same code
    if frame.startswith(SOI):
        return _jpeg(frame, ended)
    if frame.startswith(JP2_SIGNATURE):
        start = frame.find(SOC + SIZ)
        return _jpeg_2000(frame[start:], ended) if start > 0 else None
    return _jpeg_2000(frame, ended) if frame.startswith(SOC + SIZ) else None


def _jpeg(frame: bytes, ended: bool) -> Claims:
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
            rows, columns, components = struct.unpack_from(">HHB", frame, at + 5)
            return Claims(rows, columns, components, frame.count(SOS), 1, 1, ended)
        if length < 2:
            raise ValueError("a marker segment without a length")
        at += 2 + length


def _jpeg_2000(frame: bytes, ended: bool) -> Claims:
    width, height, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
        ">8LH", frame, 8
    )
    if not (tile_width and tile_height):
        raise ValueError("tiles without a size")
    tiles = -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height)
    return Claims(height - top, width - left, components, 1, tiles, _layers(frame), ended)


def _layers(frame: bytes) -> int:
    """Quality layers by the COD segment of the main header."""
    at = 2
    while True:
        marker, code, length = struct.unpack_from(">BBH", frame, at)
        if marker != 0xFF or code == SOT or length < 2:
            raise ValueError("a main header without coding style")
        if code == COD:
            return int(struct.unpack_from(">H", frame, at + 6)[0])
        at += 2 + length
