"""A fuzzer of DICOM files: of the header scan that reception and assembly rest on, and of the way to results.

    PYTHONPATH=. python tests/integration/fuzz_files.py --cases 100000 [--part header|series] [--seed N] [--first N]

Every case is made from its seed and number alone; `--first N --cases 1` repeats one. Some change elements with
knowledge of what they mean, some lengths, nesting or compressed pixels, some any byte. Whatever a file holds, the
header scan must give an identity that is safe as a path, a verdict or a reason, and a series with such files in it
must give results that can be sent, or a reason. Nothing else may be raised, no case may hang, and memory must stay
within MOST_MIB.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog
from fuzz_receive import STRANGE_UIDS, drop_log_line, mutated, tree
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ich_node.dicom import eligibility, owner, reading
from ich_node.dicom.identity import identify, is_uid
from ich_node.dicom.part10 import MOST_ITEMS, read_header, read_instance
from ich_node.domain.errors import UnidentifiableInstance, UnusableSeries
from ich_node.infer import pipeline
from ich_node.phantom import head, series
from ich_node.phantom.enhanced import build_enhanced
from ich_node.receive import completeness
from ich_node.report import build, encoding, files
from ich_node.runtime import config
from tests.density_model import DensityEngine, density_model

SYNTAXES = (
    *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian),
    *(RLELossless, JPEGLSLossless, JPEG2000Lossless),
)
PLAIN = (ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless)
"""Those whose headers are explicit VR little endian: elements can be changed in place."""
KEYWORDS = (*eligibility.KEYWORDS, *completeness.KEYWORDS, *owner.KEYWORDS)
CONFIG = config.Config(report=config.ReportConfig(multi_frame=True, parametric_map=True, presentation_state=True))
LONGEST_CASE_S = 120
MOST_MIB = {"header": 800, "series": 8000}
"""Beyond what the process held when the run began. A series may hold a GiB of HU (infer.volume.MAX_VOXELS)."""

NUMBERS = (b"0", b"-1", b"", b" ", b"nan", b"inf", b"-inf", b"1e308", b"1e-308", b"1\\2", b"9" * 16, b"1,5", b"\xff")
SIZES = (*(struct.pack("<H", n) for n in (0, 1, 2, 7, 8, 12, 16, 32, 64, 4096, 4097, 32767, 65535)), b"", b"\1")
TEXTS = (
    *(b"", b" ", b"\\", b"^", b"===", b"\0", b"\x1b$B\x1b", b"\xff\xfe\x80", b"\\\\\\\\", b"A" * 64, b"x" * 4000),
    *(b"20260230", b"99999999", b"-1D", b"2026-01-01", b"ISO_IR 192", b"ISO 2022 IR 87", b"ISO_IR 999", b"M\\F"),
)
VECTORS = (b"0\\0\\0", b"nan\\0\\0", b"1e308\\1e308\\1e308", b"0\\0\\0\\0\\0\\0", b"1\\0\\0\\1\\0\\0", b"a\\b\\c")
VALUES = {"US": SIZES, "IS": NUMBERS, "DS": (*NUMBERS, *VECTORS), "UI": STRANGE_UIDS}
"""VR → values that nobody should send; every other VR has TEXTS."""
CHANGED = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "PixelRepresentation"),
    *("PixelPaddingValue", "NumberOfFrames", "SeriesNumber", "AcquisitionNumber", "InstanceNumber"),
    *("RescaleIntercept", "RescaleSlope", "SliceThickness", "WindowCenter", "GantryDetectorTilt"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PhotometricInterpretation"),
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("SpecificCharacterSet", "ImageType", "Modality", "BodyPartExamined", "StudyDate", "AcquisitionDate"),
    *("StudyTime", "AcquisitionTime", "Manufacturer", "StudyDescription", "SeriesDescription", "PatientID"),
    *("ReferringPhysicianName", "PatientName", "AccessionNumber", "ConvolutionKernel", "StudyID"),
    *("PatientBirthDate", "PatientSex", "PatientAge", "ContrastBolusAgent"),
)


@dataclass
class FuzzFiles:
    """One run in `folder`, which it may fill and empties again."""

    folder: Path
    seed: int
    part: str
    outcomes: Counter[str] = field(default_factory=Counter)
    most_mib: int = 0
    """The most that a run took so far."""

    def __post_init__(self) -> None:
        made = head.phantom("intraparenchymal", slices=28, rows=64, columns=64, seed=1)
        self.bases = {
            syntax: [encoded(ds) for ds in series.build_series(made, seed=1, transfer_syntax=syntax)]
            for syntax in SYNTAXES
        }
        self.enhanced = {syntax: [encoded(build_enhanced(made, seed=1, transfer_syntax=syntax))] for syntax in SYNTAXES}
        self.model, self.engine = density_model(any_threshold=0.001, stat_threshold=0.001), DensityEngine()

    def run(self, first: int, count: int) -> None:
        """Cases `first` to `first + count - 1`; a case that hangs ends the process with every thread's traceback."""
        before = memory_mib("VmRSS")
        forget_peak()
        for number in range(first, first + count):
            faulthandler.dump_traceback_later(LONGEST_CASE_S, exit=True)
            r = random.Random(f"{self.seed}-{number}")
            try:
                outcome = self.header(r) if self.part == "header" else self.series(r)
            except BaseException:
                print(f"case {number} of seed {self.seed}, part {self.part}", file=sys.stderr)
                raise
            self.outcomes[outcome] += 1
        faulthandler.cancel_dump_traceback_later()
        self.most_mib = max(self.most_mib, memory_mib("VmHWM") - before)
        assert self.most_mib < MOST_MIB[self.part], f"{self.most_mib} MiB"

    def header(self, r: random.Random) -> str:
        """One file, through all that looks at headers."""
        syntax = r.choice(SYNTAXES)
        kind, data = damaged(r, r.choice(r.choice((self.bases, self.enhanced))[syntax]), syntax)
        at = 144 + int.from_bytes(data[140:144], "little")
        outcome = "identified"
        try:
            found = identify(data[at:], syntax)
            assert found is not None
            assert all(map(is_uid, (found.sop_class_uid, found.sop_instance_uid, found.study_uid, found.series_uid)))
        except UnidentifiableInstance:
            outcome = "refused"
        with suppress(UnidentifiableInstance):
            identify(data[at:][: r.randrange(len(data) + 1)], syntax)
        path = self.folder / "file.dcm"
        path.write_bytes(data)
        with suppress(UnidentifiableInstance):
            assert is_uid(read_instance(path).series_uid)
        try:
            header = read_header(path, KEYWORDS)
        except UnidentifiableInstance:
            return f"{kind}: {outcome}, not readable"
        verdict = eligibility.verdict([header] * r.choice((1, 1, 12)))
        assert isinstance(completeness.is_whole_stack([header]), bool)
        for keyword in KEYWORDS:
            assert isinstance(reading.text(header, keyword), str)
        return f"{kind}: {outcome}, {type(verdict).__name__}"

    def series(self, r: random.Random) -> str:
        """A series with damaged files in it, to results."""
        syntax = r.choice(SYNTAXES)
        whole = self.bases[syntax] if r.random() < 0.8 else self.enhanced[syntax]
        made = list(whole)
        kinds = set()
        victims = range(len(made)) if r.random() < 0.3 else r.sample(range(len(made)), min(len(made), r.choice((1, 3))))
        state = r.getstate()
        for victim in victims:
            if len(victims) > 3:
                r.setstate(state)  # the same damage to all
            kind, made[victim] = damaged(r, made[victim], syntax)
            kinds.add(kind)
        paths = [self.folder / f"{number}.dcm" for number in range(len(made))]
        for path, data in zip(paths, made, strict=True):
            path.write_bytes(data)
        outcome = self._outcome(paths)
        for path in paths:
            path.unlink()
        return f"{' + '.join(sorted(kinds)) if len(kinds) == 1 else 'several'}: {outcome}"

    def _outcome(self, paths: Sequence[Path]) -> str:
        try:
            analysis = pipeline.analyse(paths, self.model, self.engine, CONFIG)
        except UnusableSeries:
            return "nothing readable"
        results = build.results(
            analysis, options=CONFIG.report, device_name="ICHNODE", made_at=datetime.now(UTC), predecessor=None
        )
        assert len(files.encode(analysis, results)) >= 3
        return analysis.status


def encoded(dataset: Dataset) -> bytes:
    """The bytes of a file."""
    return encoding.part10(dataset)


def memory_mib(name: str) -> int:
    """VmRSS: what this process holds; VmHWM: the most it held since `forget_peak` (proc_pid_status(5))."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) >> 10


def forget_peak() -> None:
    """What ran in this process before does not count (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5")


# --- damage --------------------------------------------------------------------------------------------------------


def damaged(r: random.Random, data: bytes, syntax: str) -> tuple[str, bytes]:
    """(kind of damage, the damaged file)."""
    kinds: list[Callable[[random.Random, bytes, str], bytes]] = [any_bytes, header_bytes, cut, meta, noise]
    if syntax in PLAIN:
        kinds += [elements, elements, elements, elements, no_element, nested, flood]
    if syntax in PLAIN[1:]:
        kinds += [pixels, pixels]
    if syntax == DeflatedExplicitVRLittleEndian:
        kinds += [deflated, deflated]
    kind = r.choice(kinds)
    return kind.__name__, kind(r, data, syntax)


def any_bytes(r: random.Random, data: bytes, syntax: str) -> bytes:
    return mutated(r, data)


def header_bytes(r: random.Random, data: bytes, syntax: str) -> bytes:
    end = data.find(b"\xe0\x7f\x10\x00") if syntax in PLAIN else 1500
    return data[:132] + mutated(r, data[132:end]) + data[end:]


def cut(r: random.Random, data: bytes, syntax: str) -> bytes:
    return data[: r.randrange(len(data) + 1)]


def meta(r: random.Random, data: bytes, syntax: str) -> bytes:
    """File meta information: another transfer syntax, or changed bytes."""
    end = 144 + int.from_bytes(data[140:144], "little")
    other = r.choice([*SYNTAXES, "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.100", "1.2.3"]).encode()
    if r.random() < 0.5:
        return mutated(r, data[:end]) + data[end:]
    return data[:end].replace(syntax.encode(), other.ljust(len(syntax), b"\0")[: len(syntax)]) + data[end:]


def noise(r: random.Random, data: bytes, syntax: str) -> bytes:
    size = r.choice((0, 1, 200, 5000))
    return r.choice((r.randbytes(size), data[:400] + r.randbytes(size), bytes(size), data[:132] + r.randbytes(size)))


def elements(r: random.Random, data: bytes, syntax: str) -> bytes:
    """Elements with values that nobody should send."""
    for _ in range(r.choice((1, 1, 2, 5))):
        keyword = r.choice(CHANGED)
        vr = dictionary_VR(keyword)[:2]
        data = replaced(data, keyword, r.choice(VALUES.get(vr, TEXTS)))
    return data


def no_element(r: random.Random, data: bytes, syntax: str) -> bytes:
    for _ in range(r.choice((1, 3))):
        data = replaced(data, r.choice(CHANGED), None)
    return data


def nested(r: random.Random, data: bytes, syntax: str) -> bytes:
    """Sequences in sequences before Patient's Name, as deep as you like, whole or not."""
    at = data.find(b"\x10\0\x10\0PN")
    start = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    depth = r.choice((1, 10, 70, 1000, 20_000))
    deep = r.choice((tree(r, r.choice((1, 5, 60))), start * depth + end * depth, start * depth))
    return data[:at] + deep + data[at:]


def flood(r: random.Random, data: bytes, syntax: str) -> bytes:
    """Thousands of empty items or elements before Patient's Name."""
    at = data.find(b"\x10\0\x10\0PN")
    count = r.choice((10, 100, 1000, 1000, 1000, 1000, 20_000, MOST_ITEMS + 1))
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * count
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    group = r.choice((9, 0x5200))
    number = 0x9230 if group == 0x5200 else 0x1010
    many = r.choice(
        (
            struct.pack("<HH2sHI", group, number, b"SQ", 0, len(items)) + items,
            struct.pack("<HH2sHI", group, number, b"SQ", 0, 0xFFFFFFFF) + items + end,
            struct.pack("<HH2sH", 9, 0x1010, b"LO", 0) * count,
        )
    )
    return data[:at] + many + data[at:]


def pixels(r: random.Random, data: bytes, syntax: str) -> bytes:
    """Compressed pixels: changed bytes, or a codestream that claims to be enormous."""
    at = data.find(b"\xe0\x7f\x10\x00")
    head_, body = data[:at], data[at:]
    if r.random() < 0.5:
        return head_ + body[:12] + mutated(r, body[12:])
    huge = struct.pack(">HH", r.choice((64, 4096, 65535)), r.choice((64, 4096, 65535)))
    found = body.find(b"\xff\xf7") if syntax == JPEGLSLossless else body.find(b"\xff\x51")
    if syntax == JPEGLSLossless and found > 0:
        body = body[: found + 5] + huge + body[found + 9 :]
    elif found > 0:
        wide = struct.pack(">II", *struct.unpack(">HH", huge))
        body = body[: found + 6] + wide + body[found + 14 :]
    if r.random() < 0.7:  # the header tells the same lie
        rows, columns = struct.unpack(">HH", huge)
        head_ = replaced(head_, "Rows", struct.pack("<H", rows))
        head_ = replaced(head_, "Columns", struct.pack("<H", columns))
    return head_ + body


def deflated(r: random.Random, data: bytes, syntax: str) -> bytes:
    """A damaged dataset that is deflated in order, or a bomb."""
    at = 144 + int.from_bytes(data[140:144], "little")
    plain = zlib.decompress(data[at:], wbits=-zlib.MAX_WBITS)
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    if r.random() < 0.05:
        start = plain[: r.randrange(len(plain) + 1)] + struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, 0x7FFFFFF0)
        blocks: Iterator[bytes] = (packer.compress(bytes(1 << 20)) for _ in range(r.choice((3, 100))))
        return data[:at] + packer.compress(start) + b"".join(blocks) + packer.flush()
    return data[:at] + packer.compress(mutated(r, plain)) + packer.flush()


def replaced(data: bytes, keyword: str, value: bytes | None) -> bytes:
    """The file with another value of its first element of this name, without it (None), or unchanged when it has none.

    The odd lengths of odd values are left as they are.
    """
    tag = tag_for_keyword(keyword)
    assert tag is not None
    start = data.find(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132)
    if start < 0 or not data[start + 4 : start + 6].isalpha():
        return data
    end = start + 8 + int.from_bytes(data[start + 6 : start + 8], "little")
    if value is None:
        return data[:start] + data[end:]
    return data[: start + 6] + struct.pack("<H", len(value)) + value + data[end:]


def main() -> None:
    """The long form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--part", choices=tuple(MOST_MIB), default="header")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    structlog.configure(processors=[drop_log_line])
    faulthandler.enable()  # a decoder that crashes says where
    warnings.simplefilter("ignore")  # as logs.configure does in a role
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        fuzz = FuzzFiles(Path(folder), arguments.seed, arguments.part)
        for done in range(0, arguments.cases, 1000):
            fuzz.run(arguments.first + done, min(1000, arguments.cases - done))
            so_far, seconds = min(done + 1000, arguments.cases), time.monotonic() - began
            print(f"{arguments.part}: {so_far} cases, {fuzz.most_mib} MiB, {seconds:.0f} s", flush=True)
    for outcome, count in sorted(fuzz.outcomes.items()):
        print(f"{count:7d} {outcome}")


if __name__ == "__main__":
    sys.exit(main())
