"""The child process in which native decoders run: `python -m ich_node.infer.see.decoder`, asked through its stdin.

After its imports it gives up what decoding does not need: opening anything (files, sockets), writing files, more memory
than LIMIT, and on x86-64 Linux every system call but a few (seccomp). Each frame has a deadline in CPU seconds, after
which the kernel ends the process. Question: one line of JSON (see `Question`), then the frame. Answer: one line of
JSON with dtype and length, then the values; `{}` for a frame that cannot be decoded. cage.py is the other end.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from typing import Any, TypedDict

import numpy as np
import pydicom.config
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, JPEGLSLossless, JPEGLSNearLossless

from ich_node.dicom.decoding import decoding
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.runtime import caged

REFUSED = Reason(Why.PIXELS_UNDECODABLE)
LIMIT = 1 << 30
"""Bytes of address space beyond what the libraries take: openjpeg needs 0.4 GB for 4096² pixels."""

PLUGINS = {JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls"}
"""Where pydicom's first choice is not the fastest: 7 ms instead of 25 for 512²."""


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
    question: Question
    for question, stream, peer in caged.questions(LIMIT):
        frame = stream.read(question["length"])
        with caged.deadline(question["cpu_s"]):
            try:
                with decoding(REFUSED):
                    values = decode(question, frame)
                answer = json.dumps({"dtype": values.dtype.str, "shape": values.shape}).encode() + b"\n"
            except (UnusableSeries, MemoryError):
                values, answer = np.empty(0, np.uint8), b"{}\n"
        peer.sendall(answer)
        peer.sendall(values.data.cast("B") if values.size else b"")


if __name__ == "__main__":
    main()
