"""One DICOM file in, HU out, whatever the transfer syntax; hostile or damaged files end in a plain reason.

`open_image` reads the header and notes where Pixel Data begins; `frame_hu` reads one frame. Native pixels are read
straight from the file; encapsulated ones go through pydicom's decoders. Nothing is allocated or decoded before the
header, the file and, for compressed frames, the codestream itself agree on a sane size.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
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
from ich_node.dicom.geometry import BROKEN, frame_attributes
from ich_node.dicom.identity import is_uid
from ich_node.dicom.vocabulary import keep_sent_text, text
from ich_node.domain.errors import UnidentifiableInstance, UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see.codestream import codestream_size

Hu = npt.NDArray[np.int16]

AIR_HU = -1024
IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
SIZE_LIMITS = (64, 4096)
HEADER_LIMIT = 64 << 20
INFLATE_LIMIT = 1 << 30
COARSEST_STEP_HU = 2.0
TISSUE_HU = (-200, 2000)
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
ENCAPSULATED = (
    *(RLELossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless),
    *(JPEGLSNearLossless, JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K),
)
PLUGINS = {JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls"}
"""Where pydicom's first choice is not the fastest: 7 ms instead of 25 for 512²."""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One readable instance. header: without pixel data. pixel_offset: of Pixel Data in the (inflated) file, bytes."""

    path: Path
    header: Dataset
    transfer_syntax: UID
    pixel_offset: int

    @property
    def frames(self) -> int:
        """Number of frames that the header promises."""
        return int(self.header.get("NumberOfFrames") or 1)


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom reads what senders write without a remark on every value that is not by the book."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def open_image(path: Path) -> Image:
    """Read a file's header, if it costs no more than an honest one and says which image it is.

    Raises UnusableSeries with the reason when it is not a readable DICOM image.
    """
    try:
        identity = part10.check_header(path)
        with path.open("rb") as file:
            meta = (
                pydicom.filereader._read_file_meta_info(file) if pydicom.filereader.read_preamble(file, False) else None
            )
            transfer_syntax = UID(str(meta.TransferSyntaxUID)) if meta is not None else UID("")
            if transfer_syntax != DeflatedExplicitVRLittleEndian:
                file.seek(0)
                header = pydicom.dcmread(file, stop_before_pixels=True, defer_size=HEADER_LIMIT)
                part10.agree(header, identity)
                return _checked(Image(path, header, transfer_syntax, file.tell()))
            stream = io.BytesIO(_inflate(file, HEADER_LIMIT))
        inflated = read_dataset(stream, False, True, stop_when=_at_pixel_data)
        part10.agree(inflated, identity)
        return _checked(Image(path, inflated, transfer_syntax, stream.tell()))
    except (*BROKEN, UnidentifiableInstance) as error:
        raise UnusableSeries(Reason(Why.NOT_READABLE)) from error


def _checked(image: Image) -> Image:
    """Values are decoded when they are asked for: ask now for those that everybody relies on."""
    keep_sent_text(image.header)
    image.header.get("SpecificCharacterSet")
    if image.frames < 1:
        raise ValueError("an image has at least one frame")
    if not all(is_uid(text(image.header, keyword)) for keyword in IDENTITY):
        raise UnusableSeries(Reason(Why.NAMELESS))
    return image


def _at_pixel_data(tag: Any, _vr: str | None, _length: int) -> bool:
    return bool(tag >= 0x7FE00008)


def _inflate(file: BinaryIO, limit: int) -> bytes:
    """At most `limit` bytes of what follows in a deflated file (PS3.5 A.5): a bomb costs no more than that."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), limit)


# --- stored values -------------------------------------------------------------------------------------------------


def check_pixels(image: Image) -> None:
    """Raise UnusableSeries with the reason when the header describes pixels that can not be a CT slice."""
    header = image.header
    try:
        rows, columns, bits, stored = (
            int(header.get(keyword) or 0) for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored")
        )
        samples, high_bit = int(header.get("SamplesPerPixel") or 1), int(header.get("HighBit") or stored - 1)
        photometric = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    except BROKEN as error:
        raise UnusableSeries(Reason(Why.PIXELS_UNDESCRIBED)) from error
    if not all(SIZE_LIMITS[0] <= value <= SIZE_LIMITS[1] for value in (rows, columns)):
        raise UnusableSeries(Reason(Why.IMAGE_SIZE, rows=rows, columns=columns))
    if samples != 1 or photometric not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise UnusableSeries(Reason(Why.IN_COLOUR))
    if bits not in (8, 16) or not 1 <= stored <= bits or high_bit != stored - 1:
        raise UnusableSeries(Reason(Why.BITS, stored=stored, allocated=bits))
    if image.transfer_syntax not in (*NATIVE, *ENCAPSULATED):
        raise UnusableSeries(Reason(Why.TRANSFER_SYNTAX, uid=str(image.transfer_syntax) or "(none)"))


def frame_hu(image: Image, frame_number: int | None) -> Hu:
    """HU int16 [rows, columns] of one frame (1-based; None for a classic image); padding and less are −1024.

    Raises UnusableSeries with the reason: cut-off or undecodable pixels, no rescale to HU.
    """
    check_pixels(image)
    try:
        slope, intercept = rescale_of(frame_attributes(image.header, frame_number))
        padding = _padding(image.header)
        with image.path.open("rb") as file:
            stream: BinaryIO = file
            if image.transfer_syntax == DeflatedExplicitVRLittleEndian:
                stream = io.BytesIO(_inflated(image, file))
            read = _native if image.transfer_syntax in NATIVE else _encapsulated
            stored = read(image, stream, (frame_number or 1) - 1)
    except BROKEN as error:
        raise UnusableSeries(Reason(Why.PIXELS_UNDECODABLE)) from error
    except BaseException as error:  # a panic in a decoder written in Rust is no Exception in Python
        if type(error).__name__ != "PanicException":
            raise
        raise UnusableSeries(Reason(Why.PIXELS_UNDECODABLE)) from error
    return _to_hu(stored, slope, intercept, padding)


def rescale_of(attributes: Dataset) -> tuple[float, float]:
    """Rescale slope and intercept to HU (PS3.3 C.11.1). Raises UnusableSeries when there is no such rescale."""
    if attributes.get("ModalityLUTSequence"):
        raise UnusableSeries(Reason(Why.MODALITY_LUT))
    slope, intercept = attributes.get("RescaleSlope"), attributes.get("RescaleIntercept")
    if slope is None or intercept is None:
        raise UnusableSeries(Reason(Why.NO_RESCALE))
    try:
        slope, intercept = float(slope), float(intercept)
    except (TypeError, ValueError) as error:
        raise UnusableSeries(Reason(Why.RESCALE_UNREADABLE)) from error
    if not (0 < slope <= COARSEST_STEP_HU and abs(intercept) <= 32768):
        raise UnusableSeries(Reason(Why.RESCALE_IMPOSSIBLE, slope=slope, intercept=intercept))
    return slope, intercept


def _inflated(image: Image, file: BinaryIO) -> bytes:
    header = image.header
    needed = image.pixel_offset + 12 + image.frames * int(header.Rows) * int(header.Columns) * 2
    pydicom.filereader.read_preamble(file, False)
    pydicom.filereader._read_file_meta_info(file)
    return _inflate(file, min(needed, INFLATE_LIMIT))


def _native(image: Image, file: BinaryIO, index: int) -> npt.NDArray[Any]:
    """Stored values of a frame that lies in the file as it is (PS3.5 8.2, A.1, A.2)."""
    header = image.header
    little = image.transfer_syntax != ExplicitVRBigEndian
    size, at = _element(file, image, little)
    rows, columns, width = int(header.Rows), int(header.Columns), int(header.BitsAllocated) // 8
    length = rows * columns * width
    if size == 0xFFFFFFFF:
        raise UnusableSeries(Reason(Why.UNEXPECTEDLY_COMPRESSED))
    file.seek(at + index * length)
    data = file.read(length) if (index + 1) * length <= size else b""
    if len(data) < length:
        raise UnusableSeries(Reason(Why.PIXELS_CUT_OFF))
    if not little and _vr(file, image) == b"OW" and width == 1:
        data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    signed = int(header.get("PixelRepresentation") or 0)
    values = np.frombuffer(data, f"{'<' if little else '>'}{'i' if signed else 'u'}{width}").reshape(rows, columns)
    return _without_high_bits(values.astype(values.dtype.newbyteorder("="), copy=False), int(header.BitsStored))


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


def _without_high_bits(values: npt.NDArray[Any], bits_stored: int) -> npt.NDArray[Any]:
    """Bits above the stored ones may hold anything, once overlays (PS3.5 8.1.1): clear them, or extend the sign."""
    spare = values.dtype.itemsize * 8 - bits_stored
    if spare == 0:
        return values
    if values.dtype.kind == "u":
        return np.asarray(values & values.dtype.type((1 << bits_stored) - 1))
    return np.asarray((values << spare) >> spare)


def _encapsulated(image: Image, file: BinaryIO, index: int) -> npt.NDArray[Any]:
    """Stored values of a compressed frame (PS3.5 A.4)."""
    header = image.header
    size, at = _element(file, image, little=True)
    if size != 0xFFFFFFFF:
        raise UnusableSeries(Reason(Why.NOT_COMPRESSED))
    file.seek(at)
    frame = get_frame(file, index, number_of_frames=image.frames)
    rows, columns = int(header.Rows), int(header.Columns)
    claimed = codestream_size(frame)
    if claimed is not None and claimed != (rows, columns):
        raise _other_size(claimed, (rows, columns))
    description: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": int(header.BitsAllocated),
        "bits_stored": int(header.BitsStored),
        "pixel_representation": int(header.get("PixelRepresentation") or 0),
        "pixel_keyword": "PixelData",
        "transfer_syntax_uid": image.transfer_syntax,
    }
    plugin = PLUGINS.get(image.transfer_syntax, "")
    decoder = get_decoder(image.transfer_syntax)
    values, _ = decoder.as_array(encapsulate([frame]), raw=True, decoding_plugin=plugin, **description)
    if values.shape != (rows, columns):
        raise _other_size(values.shape, (rows, columns))
    return np.asarray(values)


def _other_size(found: tuple[int, ...], described: tuple[int, int]) -> UnusableSeries:
    (rows, columns), (header_rows, header_columns) = found[:2], described
    sizes = {"rows": rows, "columns": columns, "header_rows": header_rows, "header_columns": header_columns}
    return UnusableSeries(Reason(Why.COMPRESSED_SIZE, **sizes))


# --- stored values → HU --------------------------------------------------------------------------------------------


def _to_hu(stored: npt.NDArray[Any], slope: float, intercept: float, padding: tuple[int, int] | None) -> Hu:
    if slope == 1 and intercept == round(intercept):
        hu = stored.astype(np.int32) + int(intercept)
    else:
        hu = np.rint(stored * np.float32(slope) + np.float32(intercept)).astype(np.int32)
    if padding is not None:
        hu[_padded(stored, padding, slope, intercept)] = AIR_HU
    return np.clip(hu, AIR_HU, 32767, out=hu).astype(np.int16)


def _padding(header: Dataset) -> tuple[int, int] | None:
    """Lowest and highest stored value that stand for "no value here" (PS3.3 C.7.5.1.1.2)."""
    ends = [header.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if not isinstance(ends[0], int):
        return None
    values = [int(value) for value in ends if isinstance(value, int)]
    if int(header.get("PixelRepresentation") or 0):
        values = [value - 0x10000 if value > 0x7FFF else value for value in values]  # written with the other VR
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
