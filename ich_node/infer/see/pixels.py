"""One DICOM file in, HU out, whatever the transfer syntax; hostile or damaged files end in a plain reason.

`open_image` reads the header and notes where Pixel Data begins; `frame_hu` reads one frame. Native pixels are read
straight from the file; encapsulated ones go through decoders in processes of their own (cage.py). Nothing is allocated
or decoded before the header, the file and, for compressed frames, the codestream itself agree on a sane size.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from scipy import ndimage

from ich_node.dicom import part10
from ich_node.dicom.decoding import decoding
from ich_node.dicom.elements import Shared
from ich_node.dicom.geometry import frame_attributes
from ich_node.dicom.identity import is_uid
from ich_node.dicom.reading import items, keep_sent_text, number, text, whole
from ich_node.domain.errors import UnidentifiableInstance, UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see import cage, codestream, fragments
from ich_node.infer.see.decoder import Question

Hu = npt.NDArray[np.int16]

AIR_HU = -1024  # what scanners write for nothing: the lowest of twelve bits
IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
SIZE_LIMITS = (64, 4096)  # chosen: CT has 256 to 2,048 rows; twice that is a mistake, a quarter shows nothing
HEADER_LIMIT = 64 << 20  # chosen: eight times the header that receiving takes (part10.HEADER_LIMIT)
UNREADABLE = Reason(Why.NOT_READABLE)
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""How a file without preamble begins: meta information, or a dataset in little or big endian."""
INFLATE_LIMIT = 1 << 30  # chosen: 1 GiB, 2,000 frames of 512 × 512; beyond it is a bomb
COARSEST_STEP_HU = 2.0  # chosen: a brain window of 80 HU must keep 40 levels
HIGHEST_HU = 32767
"""Beyond the extended CT scale, which ends at 30,710 HU: a negative value in an unsigned cell, that is, nothing."""
LOWEST_CELL = -32768  # of int16
TISSUE_HU = (-200, 2000)  # from below fat to above dense bone
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
ENCAPSULATED = (
    *(RLELossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless),
    *(JPEGLSNearLossless, JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K),
)


ONE_WALK = threading.Lock()
"""Over the fragments of a file, whichever frame needs them first."""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One readable instance. header: without pixel data. pixel_offset: of Pixel Data in the (inflated) file, bytes.

    once: what is made once for all frames: how pixels are stored, the inflated file, where compressed frames lie.
    budget: what decoding may cost, shared by the images of a series.
    """

    path: Path
    header: Dataset
    transfer_syntax: UID
    pixel_offset: int
    budget: cage.Budget
    once: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def frames(self) -> int:
        """Number of frames that the header promises; 0 when it says so, or cannot be read."""
        return 1 if not self.header.get_item("NumberOfFrames") else whole(self.header, "NumberOfFrames") or 0


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom reads what senders write without a remark on every value that is not by the book."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def open_image(path: Path, budget: cage.Budget | None = None) -> Image:
    """Read a file's header, if it costs no more than an honest one and says which image it is.

    budget: of its series, else it has one of its own. Raises UnusableSeries with the reason when it is not a readable
    DICOM image.
    """
    try:
        checked = part10.check_header(path)
    except UnidentifiableInstance as error:
        raise UnusableSeries(UNREADABLE) from error
    image = _by_the_book(path, checked, budget) or _by_pydicom(path, budget)
    try:
        with decoding(UNREADABLE):  # a value is decoded when it is asked for
            keep_sent_text(image.header)
            image.header.get("SpecificCharacterSet")  # decoded when asked for: everybody relies on it
            part10.agree(image.header, checked.identity)
    except UnidentifiableInstance as error:
        raise UnusableSeries(UNREADABLE) from error
    if image.frames < 1:
        raise UnusableSeries(UNREADABLE)
    if not all(is_uid(text(image.header, keyword)) for keyword in IDENTITY):
        raise UnusableSeries(Reason(Why.NAMELESS))
    return image


def _by_the_book(path: Path, checked: part10.Header, budget: cage.Budget | None) -> Image | None:
    read = checked.dataset()
    if read is None or checked.meta is None:
        return None
    return Image(path, read[0], UID(checked.meta.transfer_syntax_uid), read[1], budget or cage.Budget())


def _by_pydicom(path: Path, budget: cage.Budget | None) -> Image:
    with path.open("rb") as file, decoding(UNREADABLE):
        transfer_syntax = _transfer_syntax(file)
        if transfer_syntax != DeflatedExplicitVRLittleEndian:
            file.seek(0)
            header = pydicom.dcmread(file, stop_before_pixels=True, defer_size=HEADER_LIMIT, force=True)
            image = Image(path, header, transfer_syntax, file.tell(), budget or cage.Budget())
        else:
            stream = io.BytesIO(_inflate(file, HEADER_LIMIT))
            inflated = read_dataset(stream, False, True, stop_when=_at_pixel_data)
            image = Image(path, inflated, transfer_syntax, stream.tell(), budget or cage.Budget())
    return image


def open_images(paths: Sequence[Path]) -> tuple[list[Image], Counter[Reason]]:
    """The images among `paths` that can be opened, in their order, and why the others cannot."""
    images: list[Image] = []
    reasons: Counter[Reason] = Counter()
    budget, shared = cage.Budget(), Shared()
    with quiet():
        for path in paths:
            try:
                images.append(open_image(path, budget))
                shared.share(images[-1].header)
            except UnusableSeries as error:
                reasons[error.reason] += 1
    return images, reasons


def _transfer_syntax(file: BinaryIO) -> UID:
    """The transfer syntax of a file, which is left where its dataset begins.

    Preamble and File Meta Information may be missing, as in files of old archives and of DCMTK's `+F`: then the
    first element shows how it is encoded. Raises InvalidDicomError when it does not look like one.
    """
    if file.read(132)[128:] != b"DICM":
        file.seek(0)
        if file.read(2) not in FIRST_GROUPS:
            raise InvalidDicomError("neither a preamble nor a dataset")
        file.seek(0)
    meta = pydicom.filereader._read_file_meta_info(file)
    if uid := text(meta, "TransferSyntaxUID"):
        return UID(uid)
    start = file.tell()
    first = file.read(6)
    file.seek(start)
    if first[:2] == FIRST_GROUPS[-1]:
        return ExplicitVRBigEndian
    return ExplicitVRLittleEndian if first[4:].isalpha() and first[4:].isupper() else ImplicitVRLittleEndian


def _at_pixel_data(tag: Any, _vr: str | None, _length: int) -> bool:
    return bool(tag >= 0x7FE00008)


def _inflate(file: BinaryIO, limit: int) -> bytes:
    """At most `limit` bytes of what follows in a deflated file (PS3.5 A.5): a bomb costs no more than that."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), limit)


# --- stored values -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cells:
    """How stored values lie in their cells (PS3.5 8.1.1); whole numbers, checked."""

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool


def check_pixels(image: Image) -> Cells:
    """How the pixels of a CT slice are stored; raises UnusableSeries with the reason when they cannot be one's."""
    header = image.header
    rows, columns, allocated, stored = (
        whole(header, keyword) or 0 for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored")
    )
    high_bit = whole(header, "HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    if not all(SIZE_LIMITS[0] <= value <= SIZE_LIMITS[1] for value in (rows, columns)):
        raise UnusableSeries(Reason(Why.IMAGE_SIZE, rows=rows, columns=columns))
    grey = text(header, "PhotometricInterpretation") in ("", "MONOCHROME1", "MONOCHROME2")
    if (whole(header, "SamplesPerPixel") or 1) != 1 or not grey:
        raise UnusableSeries(Reason(Why.IN_COLOUR))
    if allocated not in (8, 16, 32) or not 1 <= stored <= high_bit + 1 <= allocated:
        raise UnusableSeries(Reason(Why.BITS, stored=stored, allocated=allocated))
    if image.transfer_syntax not in (*NATIVE, *ENCAPSULATED):
        raise UnusableSeries(Reason(Why.TRANSFER_SYNTAX, uid=str(image.transfer_syntax) or "(none)"))
    cells = Cells(rows, columns, allocated, stored, high_bit, bool(whole(header, "PixelRepresentation")))
    image.once["cells"] = cells
    return cells


def frame_hu(image: Image, frame_number: int | None) -> Hu:
    """HU int16 [rows, columns] of one frame (1-based; None for a classic image); padding and less are −1024.

    Raises UnusableSeries with the reason: cut-off or undecodable pixels, no rescale to HU.
    """
    cells = image.once.get("cells") or check_pixels(image)
    slope, intercept = rescale_of(frame_attributes(image.header, frame_number))
    padding = _padding(image.header, cells)
    with image.path.open("rb") as file:
        stream: BinaryIO = file
        if image.transfer_syntax == DeflatedExplicitVRLittleEndian:
            stream = io.BytesIO(image.once.get("inflated") or _inflated(image, cells, file))
        read = _native if image.transfer_syntax in NATIVE else _encapsulated
        raw = read(image, cells, stream, (frame_number or 1) - 1)
    stored, nothing = _stored(raw, cells, padding)
    return _to_hu(stored, nothing, slope, intercept, padding)


def rescale_of(attributes: Dataset) -> tuple[float, float]:
    """Rescale slope and intercept to HU (PS3.3 C.11.1). Raises UnusableSeries when there is no such rescale."""
    if items(attributes, "ModalityLUTSequence"):
        raise UnusableSeries(Reason(Why.MODALITY_LUT))
    slope, intercept = number(attributes, "RescaleSlope"), number(attributes, "RescaleIntercept")
    if slope is None or intercept is None:
        there = all(attributes.get_item(keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
        raise UnusableSeries(Reason(Why.RESCALE_UNREADABLE if there else Why.NO_RESCALE))
    if not (0 < slope <= COARSEST_STEP_HU and abs(intercept) <= 32768):
        raise UnusableSeries(Reason(Why.RESCALE_IMPOSSIBLE, slope=slope, intercept=intercept))
    return slope, intercept


def _inflated(image: Image, cells: Cells, file: BinaryIO) -> bytes:
    needed = image.pixel_offset + 12 + image.frames * cells.rows * cells.columns * cells.allocated // 8
    with decoding(Reason(Why.PIXELS_UNDECODABLE)):
        _transfer_syntax(file)
        inflated = _inflate(file, min(needed, INFLATE_LIMIT))
    if image.frames > 1:  # once for all of them
        image.once["inflated"] = inflated
    return inflated


def _native(image: Image, cells: Cells, file: BinaryIO, index: int) -> npt.NDArray[Any]:
    """Cells of a frame that lies in the file as it is (PS3.5 8.2, A.1, A.2)."""
    little = image.transfer_syntax != ExplicitVRBigEndian
    size, at = _element(file, image, little)
    width = cells.allocated // 8
    length = cells.rows * cells.columns * width
    if size == 0xFFFFFFFF:
        raise UnusableSeries(Reason(Why.UNEXPECTEDLY_COMPRESSED))
    file.seek(at + index * length)
    data = file.read(length) if (index + 1) * length <= size else b""
    if len(data) < length:
        raise UnusableSeries(Reason(Why.PIXELS_CUT_OFF))
    if not little and _vr(file, image) == b"OW" and width == 1:
        data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    kind = f"{'<' if little else '>'}{'i' if cells.signed else 'u'}{width}"
    values = np.frombuffer(data, kind).reshape(cells.rows, cells.columns)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _element(file: BinaryIO, image: Image, little: bool) -> tuple[int, int]:
    """Length of Pixel Data and where its value begins."""
    implicit = image.transfer_syntax == ImplicitVRLittleEndian
    file.seek(image.pixel_offset)
    head = file.read(8 if implicit else 12)
    order = "<" if little else ">"
    if len(head) < (8 if implicit else 12):
        raise UnusableSeries(Reason(Why.NO_PIXELS))
    if struct.unpack_from(order + "HH", head) != (0x7FE0, 0x0010):
        raise UnusableSeries(Reason(Why.NOT_WHOLE_NUMBERS))
    return struct.unpack_from(order + "L", head, len(head) - 4)[0], image.pixel_offset + len(head)


def _vr(file: BinaryIO, image: Image) -> bytes:
    file.seek(image.pixel_offset + 4)
    return file.read(2)


def _stored(
    raw: npt.NDArray[Any], cells: Cells, padding: tuple[int, int] | None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Stored values, and where there is none.

    Bits around the stored ones may hold anything, once overlays (PS3.5 8.1.1): they are cleared, or the sign extended.
    But senders also write negative values, mostly −2000 around the round field of view, into unsigned cells: with all
    spare bits set, or as a padding value that does not fit into the stored bits.
    """
    spare, shift = cells.allocated - cells.high_bit - 1, cells.high_bit + 1 - cells.stored
    signed = raw.dtype.kind == "i"
    beyond = 1 << (cells.stored - signed)
    if shift == 0 and (spare == 0 or (-beyond * signed <= int(raw.min()) and int(raw.max()) < beyond)):
        return raw, None  # the spare bits say nothing
    if signed:
        return np.asarray((raw << spare) >> (spare + shift)), None
    nothing = np.zeros(raw.shape, np.bool_)
    if spare >= 3:  # three overlays in one place, and nowhere else, are rarer than such senders
        nothing |= raw >> (cells.high_bit + 1) == (1 << spare) - 1
    if padding is not None and padding[0] >= 1 << (cells.high_bit + 1):
        nothing |= (raw >= padding[0]) & (raw <= padding[1])
    return np.asarray((raw >> shift) & raw.dtype.type((1 << cells.stored) - 1)), nothing


def _encapsulated(image: Image, cells: Cells, file: BinaryIO, index: int) -> npt.NDArray[Any]:
    """Cells of a compressed frame (PS3.5 A.4), decoded in a process of its own (cage.py)."""
    size, at = _element(file, image, little=True)
    if size != 0xFFFFFFFF:
        raise UnusableSeries(Reason(Why.NOT_COMPRESSED))
    rows, columns = cells.rows, cells.columns
    with decoding(Reason(Why.PIXELS_UNDECODABLE)):
        with ONE_WALK:  # frames of one file are decoded side by side
            if "places" not in image.once:
                image.once["places"] = ()  # what fails once is not walked over again for every frame
                image.once["places"] = fragments.frame_places(file, at, image.frames)
        frame = fragments.joined(file, image.once["places"][index])
        claims = codestream.claims(frame)
    if claims is not None:
        if (claims.rows, claims.columns) != (rows, columns):
            raise _other_size((claims.rows, claims.columns), (rows, columns))
        if not claims.modest:
            raise UnusableSeries(Reason(Why.PIXELS_TOO_COSTLY))
        if not claims.ended:
            raise UnusableSeries(Reason(Why.PIXELS_CUT_OFF))
    question = Question(
        syntax=str(image.transfer_syntax),
        rows=rows,
        columns=columns,
        allocated=cells.allocated,
        stored=cells.stored,
        signed=cells.signed,
        length=len(frame),
        cpu_s=cage.cpu_s(frame, rows * columns),
    )
    return cage.shared().decode(question, frame, image.budget)


def _other_size(found: tuple[int, ...], described: tuple[int, int]) -> UnusableSeries:
    (rows, columns), (header_rows, header_columns) = found[:2], described
    sizes = {"rows": rows, "columns": columns, "header_rows": header_rows, "header_columns": header_columns}
    return UnusableSeries(Reason(Why.COMPRESSED_SIZE, **sizes))


# --- stored values → HU --------------------------------------------------------------------------------------------


def _to_hu(
    stored: npt.NDArray[Any],
    nothing: npt.NDArray[np.bool_] | None,
    slope: float,
    intercept: float,
    padding: tuple[int, int] | None,
) -> Hu:
    hu: npt.NDArray[Any]
    whole_step = slope == 1 and intercept == round(intercept)
    if whole_step and int(stored.min()) + intercept >= LOWEST_CELL and int(stored.max()) + intercept <= HIGHEST_HU:
        cells = stored.view(np.int16) if stored.dtype.itemsize == 2 else stored.astype(np.int16)
        hu = cells + np.array(int(intercept)).astype(np.int16)  # modulo 2¹⁶, and the sums fit
    elif whole_step:
        hu = stored.astype(np.int32 if stored.dtype.itemsize < 4 else np.int64) + int(intercept)
    else:
        hu = np.rint(stored * np.float64(slope) + intercept).astype(np.int64)
    if padding is not None:
        hu[_padded(stored, padding, slope, intercept)] = AIR_HU
    if nothing is not None:
        hu[nothing] = AIR_HU
    if hu.dtype != np.int16:
        beyond = np.greater(hu, HIGHEST_HU)
        if whole_step and stored.dtype == np.uint16:  # not −2000 alone: fat and air too may be written so
            hu[beyond] -= 1 << 16
            beyond = np.greater(hu, HIGHEST_HU)
        hu[beyond] = AIR_HU
    np.copyto(hu, AIR_HU, where=np.less(hu, AIR_HU))  # a sixth of what maximum and clip take
    return np.asarray(hu, np.int16)


def _padding(header: Dataset, cells: Cells) -> tuple[int, int] | None:
    """Lowest and highest stored value that stand for "no value here" (PS3.3 C.7.5.1.1.2)."""
    ends = [whole(header, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    values = [value for value in ends if value is not None]
    if cells.signed:
        values = [
            value - 0x10000 if 0x7FFF < value <= 0xFFFF else value for value in values
        ]  # written with the other VR
    else:
        values = [value + (1 << cells.allocated) if value < 0 else value for value in values]
    return min(values), max(values)


def _padded(
    stored: npt.NDArray[Any], padding: tuple[int, int], slope: float, intercept: float
) -> npt.NDArray[np.bool_]:
    low, high = padding
    mask = np.asarray((stored >= low) & (stored <= high), np.bool_)
    if not (low * slope + intercept < TISSUE_HU[1] and high * slope + intercept > TISSUE_HU[0]) or not mask.any():
        return mask
    # A padding value that tissue has too (0 HU is water) is believed only where it touches the edge of the image.
    labels, _ = ndimage.label(mask)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.asarray(np.isin(labels, edge[edge > 0]), np.bool_)
