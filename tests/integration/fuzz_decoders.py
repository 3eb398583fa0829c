"""A mutation fuzzer of the caged decoders and of what stands before them: claims, fragments, inflating.

    PYTHONPATH=. python tests/integration/fuzz_decoders.py --cases 100000 [--kind NAME] [--seed N] [--first N]

Every case is made from its seed and number alone. An image of 64 × 64 pixels in a compressed transfer syntax is
damaged: any byte, a marker segment doubled, moved or cut, a size that is a lie (now and then the header tells the same
one), a fragment too many. It goes the way of every image. What must come back are values of the size that the header
says, or a reason; no decoder takes more CPU seconds than its frame may cost, none more memory than its limit, and this
process takes none at all.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import re
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
from fuzz_receive import mutated
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from ich_node.domain.errors import UnusableSeries
from ich_node.infer.see import cage, decoder, pixels
from ich_node.phantom import head, series
from ich_node.report import encoding

EDGE, LARGEST = 64, 4096
LONGEST_CASE_S = 120
SLACK_S = 0.1
"""CPU seconds beyond a frame's deadline: the kernel looks at the clock a hundred times a second."""
MOST_MIB = 100
"""Of growth of this process over a whole run; an image of the largest size has 32."""

Encoder = Callable[[np.ndarray], bytes]
ENCODERS: dict[UID, Encoder] = {
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEGLSNearLossless: lambda image: imagecodecs.jpegls_encode(image, level=2),
    JPEG2000Lossless: lambda image: imagecodecs.jpeg2k_encode(image, codecformat="j2k", level=0, reversible=True),
    JPEG2000: lambda image: imagecodecs.jpeg2k_encode(image, codecformat="j2k", level=60),
    HTJ2KLossless: lambda image: imagecodecs.htj2k_encode(image, reversible=True),
    HTJ2K: imagecodecs.htj2k_encode,
    JPEGLosslessSV1: imagecodecs.ljpeg_encode,
    JPEGBaseline8Bit: lambda image: imagecodecs.jpeg8_encode((image >> 4).astype(np.uint8)),
    JPEGExtended12Bit: lambda image: imagecodecs.jpeg_encode(image, bitspersample=12),
}
KINDS = {str(UID(syntax).keyword): syntax for syntax in (*ENCODERS, RLELossless, DeflatedExplicitVRLittleEndian)}
"""Name of a transfer syntax → its UID."""


class Watched(cage.Child):
    """A decoder process that is watched: what its frames cost, and the most that it took."""

    worst_s, worst_mib, lost = 0.0, 0.0, 0
    """CPU seconds beyond the deadline of a frame, MiB of address space beyond its libraries, children lost."""

    def __init__(self) -> None:
        super().__init__()
        self._taken_mib = self._peak_mib()

    def ask(self, question: decoder.Question, frame: bytes) -> np.ndarray | None:
        before_s = self.cpu_s
        try:
            return super().ask(question, frame)
        finally:
            with suppress(OSError):  # gone already
                Watched.worst_s = max(Watched.worst_s, self.cpu_s - before_s - question["cpu_s"])
            with suppress(OSError, TypeError):
                Watched.worst_mib = max(Watched.worst_mib, self._peak_mib() - self._taken_mib)

    def end(self) -> None:
        Watched.lost += 1
        super().end()

    def _peak_mib(self) -> float:
        found = re.search(r"^VmPeak:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) / 1024  # type: ignore[index]


@dataclass
class FuzzDecoders:
    """One run in `folder`, which it may fill and empties again. edge: pixels. noise: of stored values."""

    folder: Path
    seed: int
    kinds: tuple[str, ...] = tuple(KINDS)
    edge: int = EDGE
    noise: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    grown_mib: float = 0.0
    headers: dict[tuple[UID, int, int], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        volume = head.phantom("intraparenchymal", slices=1, rows=self.edge, columns=self.edge, seed=1)
        made = series.build_series(volume, seed=1)
        self.plain = made[0]
        stored = np.frombuffer(self.plain.PixelData, "<u2").reshape(self.edge, self.edge)
        grain = np.random.default_rng(0).normal(0, self.noise, stored.shape)
        image = np.clip(stored + grain, 0, 4095).astype(np.uint16)
        self.frames = {str(syntax): encode(image) for syntax, encode in ENCODERS.items()}
        rle = series.encoded(deepcopy(made[0]), RLELossless)
        self.meta, self.frames[RLELossless] = rle.file_meta, next(generate_frames(rle.PixelData, number_of_frames=1))

    def run(self, first: int, count: int) -> None:
        """Cases `first` to `first + count - 1`; a case that hangs ends the process with every thread's traceback."""
        before = resident_mib()
        for number in range(first, first + count):
            faulthandler.dump_traceback_later(LONGEST_CASE_S, exit=True)
            try:
                self.outcomes[self.case(random.Random(f"decoders-{self.seed}-{number}"))] += 1
                assert Watched.worst_s < SLACK_S, f"{Watched.worst_s} s beyond the deadline"
                assert Watched.worst_mib <= decoder.LIMIT >> 20, f"{Watched.worst_mib} MiB"
            except BaseException:
                print(f"case {number} of seed {self.seed}", file=sys.stderr)
                raise
        faulthandler.cancel_dump_traceback_later()
        self.grown_mib = max(self.grown_mib, resident_mib() - before)
        assert self.grown_mib < MOST_MIB, f"{self.grown_mib} MiB"

    def case(self, r: random.Random) -> str:
        """One image, the way that every image goes."""
        kind = r.choice(self.kinds)
        path = self.folder / "image.dcm"
        path.write_bytes(self.file(r, KINDS[kind]))
        try:
            image = pixels.open_image(path)
            cells = pixels.check_pixels(image)
            hu = pixels.frame_hu(image, None)
        except UnusableSeries as error:
            return f"{kind}: {error.reason.code}"
        assert (hu.shape, hu.dtype) == ((cells.rows, cells.columns), np.int16)
        return f"{kind}: decoded"

    @staticmethod
    def bits(syntax: str) -> int:
        """How many a pixel has in a transfer syntax."""
        return 8 if syntax == JPEGBaseline8Bit else 12 if syntax == JPEGExtended12Bit else 16

    def file(self, r: random.Random, syntax: UID) -> bytes:
        """The damaged image as a file."""
        if syntax == DeflatedExplicitVRLittleEndian:
            return inflatable(r, self.header(syntax, EDGE, EDGE))
        frame, rows, columns = self.frames[syntax], self.edge, self.edge
        for _ in range(r.choice((0, 1, 1, 1, 2))):
            frame = r.choice((mutated, segments, segments, lie, cut))(r, frame)
        if r.random() < 0.05:
            rows, columns = r.choice((1, EDGE, LARGEST)), r.choice((1, EDGE, LARGEST))
            frame = told(frame, rows, columns)
        start = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        return self.header(syntax, rows, columns) + start + fragmented(r, frame) + end

    def header(self, syntax: UID, rows: int, columns: int) -> bytes:
        """A file up to its pixels; all of it when it is deflated. Written once: that takes longer than a case."""
        if (known := self.headers.get((syntax, rows, columns))) is not None:
            return known
        ds = deepcopy(self.plain)
        bits = self.bits(syntax)
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = (8 if bits == 8 else 16), bits, bits - 1
        ds.Rows, ds.Columns = rows, columns
        if syntax == DeflatedExplicitVRLittleEndian:
            ds = series.encoded(ds, syntax)
        else:
            del ds.PixelData
            ds.file_meta = deepcopy(self.meta)
            ds.file_meta.TransferSyntaxUID = syntax
        made = self.headers[syntax, rows, columns] = encoding.part10(ds)
        return made


def resident_mib() -> float:
    """What this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)


# --- damage --------------------------------------------------------------------------------------------------------


def segments(r: random.Random, frame: bytes) -> bytes:
    """Marker segments doubled, moved, left out or of another length."""
    marks = [m.start() for m in re.finditer(b"\xff[\x01-\xfe]", frame)] or [0]
    parts = [frame[a:b] for a, b in zip([0, *marks], [*marks, len(frame)], strict=True)]
    at = r.randrange(len(parts))
    match r.randrange(5):
        case 0:
            parts[at:at] = [parts[at]] * r.choice((1, 2, 16, 300))
        case 1:
            del parts[at]
        case 2:
            other = r.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case 3 if len(parts[at]) >= 4:
            parts[at] = parts[at][:2] + struct.pack(">H", r.choice((0, 1, 2, 3, 8, 255, 65535))) + parts[at][4:]
        case _:
            parts[at] = mutated(r, parts[at])
    return b"".join(parts)


def lie(r: random.Random, frame: bytes) -> bytes:
    """Numbers of a header segment replaced by strange ones of their width."""
    end = min(len(frame), 200)
    out = bytearray(frame)
    for _ in range(r.choice((1, 2))):
        at = r.randrange(2, max(3, end - 4))
        value = r.choice((0, 1, 2, 63, 64, 65, 255, 256, 4096, 32767, 65535, 0x7FFFFFFF, 0xFFFFFFFF))
        form = r.choice((">H", ">I", "<I", "B"))
        size = struct.calcsize(form)
        out[at : at + size] = struct.pack(form, value & ((1 << 8 * size) - 1))
    return bytes(out)


def cut(r: random.Random, frame: bytes) -> bytes:
    """The end is missing, or stands where it must not."""
    at = r.randrange(len(frame) + 1)
    return r.choice((frame[:at], frame[:at] + b"\xff\xd9", frame[:at] + bytes(r.choice((1, 16, 5000))) + frame[at:]))


def told(frame: bytes, rows: int, columns: int) -> bytes:
    """The codestream says the size that the header says."""
    short = struct.pack(">HH", rows, columns)
    wide = struct.pack(">II", columns, rows)
    frame = re.sub(rb"(\xff[\xc0-\xc3\xf7]..[\x08-\x10])....", lambda m: m[1] + short, frame, flags=re.DOTALL)
    return re.sub(rb"(\xff\x51....).{8}(.{8})", lambda m: m[1] + wide + m[2], frame, flags=re.DOTALL)


def fragmented(r: random.Random, frame: bytes) -> bytes:
    """Pixel Data of one frame, in fragments that are mostly by the book."""
    frame = (frame + b"\0" * (len(frame) % 2)) or bytes(2)
    data = encapsulate(
        [frame], fragments_per_frame=min(r.choice((1, 1, 1, 2, 7)), len(frame) // 2), has_bot=r.random() < 0.5
    )
    return mutated(r, data[:40]) + data[40:] if r.random() < 0.05 else data


def inflatable(r: random.Random, data: bytes) -> bytes:
    """A deflated file: its stream damaged, or what is in it, or a bomb."""
    at = 144 + int.from_bytes(data[140:144], "little")
    start, stream = data[:at], data[at:]
    if r.random() < 0.6:
        return start + r.choice((mutated, cut))(r, stream)
    plain = zlib.decompress(stream, wbits=-zlib.MAX_WBITS)
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(r.choice((1, 64)))) if r.random() < 0.02 else b""
    return start + packer.compress(mutated(r, plain)) + bomb + packer.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--kind", choices=KINDS, help="one transfer syntax alone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")  # as logs.configure does in a role
    began = time.monotonic()
    watch()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = FuzzDecoders(Path(folder), options.seed, (options.kind,) if options.kind else tuple(KINDS))
        for first in range(options.first, options.first + options.cases, 1000):
            fuzz.run(first, min(1000, options.first + options.cases - first))
            print(f"{sum(fuzz.outcomes.values())} cases, {Watched.lost} decoders lost", file=sys.stderr, flush=True)
    for outcome, number in sorted(fuzz.outcomes.items()):
        print(f"{number:8} {outcome}")
    print(
        f"{options.cases} cases in {time.monotonic() - began:.0f} s: {Watched.lost} decoders lost, at most "
        f"{Watched.worst_s:.2f} CPU s beyond a deadline and {Watched.worst_mib:.0f} MiB; "
        f"this process grew by {fuzz.grown_mib:.0f} MiB"
    )


def watch() -> None:
    """Have decoders watched from now on, one at a time."""
    cage.Child = Watched  # type: ignore[misc]
    one = cage.Cage(1)
    cage.shared = lambda: one  # type: ignore[assignment]


if __name__ == "__main__":
    main()
