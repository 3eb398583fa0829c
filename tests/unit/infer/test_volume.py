"""Reading a series: every transfer syntax, every orientation, every way in which senders and disks spoil it."""

from __future__ import annotations

import contextlib
import re
import shutil
import struct
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from head_shapes import shape_head
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
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

from ich_node.dicom import eligibility
from ich_node.dicom.part10 import MOST_ITEMS
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see import pixels
from ich_node.infer.see import volume as volume_module
from ich_node.infer.see.crop import turn_of
from ich_node.infer.see.volume import read_volume
from ich_node.phantom.enhanced import build_enhanced
from ich_node.phantom.series import build_series, write_series
from ich_node.report.said.reasons import english

HEAD = shape_head(12, 96)
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
STORED = {
    "unsigned": {},
    "signed": {"signed": True, "intercept": 0},
    "signed, padded": {"signed": True, "intercept": 0, "padding_value": -2000},
}


def rewrite(path: Path, **changes: object) -> None:
    """Set attributes of a file; None removes."""
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path, HEAD, seed=1)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_gives_the_same_hu(tmp_path, syntax, stored):
    paths = write_series(tmp_path, HEAD, transfer_syntax=SYNTAXES[syntax], **STORED[stored])
    volume = read_volume(paths)
    assert np.array_equal(volume.hu, HEAD.hu)
    assert volume.warnings == ()


def reencode(path: Path, syntax: pydicom.uid.UID, frame: bytes) -> None:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (HTJ2KLossless, lambda image: imagecodecs.htj2k_encode(image, reversible=True)),
        (HTJ2KLosslessRPCL, lambda image: imagecodecs.htj2k_encode(image, reversible=True)),
        (HTJ2K, lambda image: imagecodecs.htj2k_encode(image, reversible=True)),
        (JPEGLossless, lambda image: imagecodecs.ljpeg_encode(image, bitspersample=12)),
        (JPEGLosslessSV1, lambda image: imagecodecs.ljpeg_encode(image, bitspersample=12)),
        (JPEGLSNearLossless, lambda image: imagecodecs.jpegls_encode(image, level=0)),
        (JPEG2000, lambda image: imagecodecs.jpeg2k_encode(image, reversible=True, level=0, codecformat="j2k")),
    ],
    ids=lambda value: value.name if isinstance(value, pydicom.uid.UID) else "",
)
def test_codestreams_of_other_encoders_give_the_same_hu(series, syntax, encode):
    for path, hu in zip(series, HEAD.hu, strict=True):
        reencode(path, syntax, encode((hu + 1024).astype(np.uint16)))
    volume = read_volume(series)
    assert np.array_equal(volume.hu, HEAD.hu) and volume.warnings == ()


def test_lossy_jpeg_of_12_bits_is_close(series):
    for path, hu in zip(series, HEAD.hu, strict=True):
        frame = imagecodecs.jpeg8_encode((hu + 1024).astype(np.uint16), level=99, bitspersample=12)
        reencode(path, JPEGExtended12Bit, frame)
    assert np.abs(read_volume(series).hu - HEAD.hu.astype(int)).mean() < 3


def test_jpeg_of_8_bits_can_not_hold_hu(tmp_path):
    changes = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "RescaleSlope": "16"}
    paths = write_series(tmp_path, HEAD, attributes=changes)
    for path, hu in zip(paths, HEAD.hu, strict=True):
        reencode(path, JPEGBaseline8Bit, imagecodecs.jpeg8_encode(((hu + 1024) // 16).astype(np.uint8), level=95))
    with pytest.raises(UnusableSeries, match=Why.RESCALE_IMPOSSIBLE):
        read_volume(paths)
    for path in paths:
        rewrite(path, RescaleSlope="2")
    assert read_volume(paths).hu.shape == HEAD.hu.shape


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_enhanced_ct_is_ordered_by_the_positions_of_its_frames(tmp_path, syntax):
    order = [5, 0, 11, 3, 1, 2, 4, 10, 9, 8, 7, 6]
    path = tmp_path / "enhanced.dcm"
    dataset = build_enhanced(HEAD, frame_order=order, transfer_syntax=SYNTAXES[syntax])
    dataset.save_as(path, enforce_file_format=True)
    volume = read_volume([path])
    assert np.array_equal(volume.hu, HEAD.hu)
    assert volume.frame_numbers == tuple(order.index(index) + 1 for index in range(12))
    assert set(volume.sop_instance_uids) == {dataset.SOPInstanceUID} and len(volume.headers) == 12


@pytest.mark.parametrize("tilt", [0.0, 18.0])
@pytest.mark.parametrize("orientation", ["LP", "RA", "RP", "LA", "PL", "AR", "PR", "AL"])
def test_the_head_is_the_same_in_every_orientation(tmp_path, orientation, tilt):
    changes = {"orientation": tuple(orientation), "tilt_deg": tilt, "instance_numbers": "shuffled"}
    volume = read_volume(write_series(tmp_path, HEAD, **changes))
    assert np.array_equal(turn_of(volume.affine).forward(volume.hu), HEAD.hu)
    assert np.all(np.diff(volume.positions_mm[:, 2]) > 0)


def test_headers_come_in_slice_order_without_pixels(series):
    volume = read_volume(series[::-1])
    assert [header.SOPInstanceUID for header in volume.headers] == list(volume.sop_instance_uids)
    assert all("PixelData" not in header for header in volume.headers)
    assert volume.headers[0].InstanceNumber == 1 and volume.frame_numbers is None


def test_a_single_slice_has_no_neighbours_to_be_unlike():
    single, reasons = HEAD.hu[:1], Counter()
    assert volume_module._like_neighbours([object()], single, reasons)[1] is single
    assert not reasons


def test_columns_that_are_wider_than_rows_keep_their_spacing(tmp_path):
    volume = read_volume(write_series(tmp_path, shape_head(12, 128), column_step=2))
    assert volume.spacing_mm[2] == pytest.approx(2 * volume.spacing_mm[1])


def test_monochrome1_does_not_change_hu(tmp_path):
    volume = read_volume(write_series(tmp_path, HEAD, photometric_interpretation="MONOCHROME1"))
    assert np.array_equal(volume.hu, HEAD.hu)


def test_bits_above_the_stored_ones_are_ignored(series):
    dataset = pydicom.dcmread(series[4])
    stored = np.frombuffer(dataset.PixelData, "<u2") | 0xA000
    dataset.PixelData = stored.tobytes()
    dataset.save_as(series[4])
    assert np.array_equal(read_volume(series).hu, HEAD.hu)


def with_overlay(dataset: Dataset, bits: int) -> Dataset:
    """Retired overlay planes (PS3.3-2004 C.9.2) in these bits above the stored ones, on part of the head."""
    stored = dataset.pixel_array.astype(np.uint16)
    stored[20:40, 10:80] |= bits
    dataset.PixelData = stored.tobytes()
    return dataset


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (ExplicitVRLittleEndian, None),
        (DeflatedExplicitVRLittleEndian, None),
        (RLELossless, None),
        (JPEGLSLossless, imagecodecs.jpegls_encode),
        (JPEG2000Lossless, lambda stored: imagecodecs.jpeg2k_encode(stored, codecformat="j2k", reversible=True)),
        (JPEGLosslessSV1, lambda stored: imagecodecs.ljpeg_encode(stored, bitspersample=16)),
    ],
)
@pytest.mark.parametrize("bits", [0x1000, 0x2000, 0x9000])
def test_overlays_above_the_stored_bits_change_nothing_on_any_route(series, syntax, encode, bits):
    for path in series[3:5]:
        dataset = with_overlay(pydicom.dcmread(path), bits)
        if encode is not None:  # a codestream holds all sixteen bits of the cells
            dataset.PixelData = encapsulate([encode(dataset.pixel_array)])
            dataset["PixelData"].is_undefined_length = True
            dataset.file_meta.TransferSyntaxUID = syntax
        elif syntax == RLELossless:
            dataset.compress(syntax)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)
    assert np.array_equal(read_volume(series).hu, HEAD.hu)


@pytest.mark.parametrize("shift", [1, 4])
def test_values_that_lie_higher_in_their_cells_are_brought_down(series, shift):
    for path in series:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.astype(np.uint16) << shift | 1  # an overlay bit below
        rewrite(path, PixelData=stored.astype("<u2").tobytes(), BitsStored=12, HighBit=11 + shift)
    assert np.array_equal(read_volume(series).hu, HEAD.hu)


@pytest.mark.parametrize("air", [0xF830, 0xFC00])
def test_negative_air_in_unsigned_cells_is_air_without_any_padding_value(series, air):
    """−2000 or −1024 round the field of view, as two's complement; no header says that it is nothing."""
    for path in series:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.astype(np.uint16)
        stored[:8] = air
        rewrite(path, PixelData=stored.tobytes())
    volume = read_volume(series)
    assert (volume.hu[:, :8] == -1024).all() and np.array_equal(volume.hu[:, 8:], HEAD.hu[:, 8:])


def test_hu_written_as_they_are_into_unsigned_cells_are_understood(series):
    """Not air alone is negative then: fat, and half of the noise of water."""
    for path in series:
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array.astype(np.int32) + int(dataset.RescaleIntercept)
        rewrite(path, PixelData=hu.astype("<i2").tobytes(), BitsStored=16, HighBit=15, RescaleIntercept="0")
    assert np.array_equal(read_volume(series).hu, HEAD.hu)


@pytest.mark.parametrize(
    "comma", ["PixelSpacing", "ImagePositionPatient", "RescaleIntercept", "ImageOrientationPatient"]
)
def test_decimal_commas_are_understood(series, comma):
    """As programs write that take a number's form from the language of their user."""
    plain = read_volume(series)
    for path in series:
        dataset = pydicom.dcmread(path)
        values = dataset[comma].value
        values = values if isinstance(values, (list, pydicom.multival.MultiValue)) else [values]
        text = "\\".join(f"{float(value):.6f}".replace(".", ",") for value in values)
        sent = pydicom.dataelem.RawDataElement(
            dataset[comma].tag, "DS", len(text) + len(text) % 2, (text + " " * (len(text) % 2)).encode(), 0, False, True
        )
        dataset[comma] = sent
        dataset.save_as(path)
    volume = read_volume(series)
    assert np.array_equal(volume.hu, plain.hu)
    assert np.allclose(volume.positions_mm, plain.positions_mm, atol=1e-5)
    assert np.allclose(volume.spacing_mm, plain.spacing_mm, atol=1e-5)


@pytest.mark.parametrize("length", [0.93, 1.05])
def test_an_orientation_that_is_not_quite_of_unit_length_measures_the_same(series, length):
    plain = read_volume(series)
    for path in series:
        dataset = pydicom.dcmread(path)
        rewrite(path, ImageOrientationPatient=[length * float(value) for value in dataset.ImageOrientationPatient])
    volume = read_volume(series)
    assert np.allclose(volume.spacing_mm, plain.spacing_mm) and np.allclose(volume.affine, plain.affine)


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big endian"])
@pytest.mark.parametrize("meta", [True, False])
def test_files_without_preamble_are_read(tmp_path, syntax, meta):
    """As DCMTK writes with +F, and as archives of the nineties: with or without File Meta Information."""
    for path in (paths := write_series(tmp_path, HEAD, transfer_syntax=SYNTAXES[syntax])):
        content = path.read_bytes()[132:]
        if not meta:
            content = content[12 + struct.unpack("<I", content[8:12])[0] :]
        path.write_bytes(content)
    volume = read_volume(paths)
    assert np.array_equal(volume.hu, HEAD.hu) and not volume.warnings


def test_a_fractional_rescale_is_rounded(tmp_path):
    paths = write_series(tmp_path, HEAD, attributes={"RescaleSlope": "0.5", "RescaleIntercept": "-1000.25"})
    stored = HEAD.hu.astype(float) + 1024
    assert np.abs(read_volume(paths).hu - (stored * 0.5 - 1000.25)).max() <= 0.5


def test_padding_becomes_air_also_when_it_is_written_as_an_unsigned_number(tmp_path):
    hu = HEAD.hu.copy()
    hu[:, :10] = -1024
    paths = write_series(tmp_path, type(HEAD)(hu, HEAD.spacing_mm), signed=True, intercept=0, padding_value=-2000)
    for path in paths:
        dataset = pydicom.dcmread(path)
        del dataset.PixelPaddingValue
        dataset.add_new("PixelPaddingValue", "US", 63536)
        dataset.save_as(path)
    volume = read_volume(paths)
    assert (volume.hu[:, :10] == -1024).all() and np.array_equal(volume.hu[:, 10:], hu[:, 10:])


def test_a_padding_value_that_tissue_has_too_is_believed_at_the_edge_only(tmp_path):
    hu = HEAD.hu.copy()
    hu[:, :10] = 0
    hu[:, 48, 48] = 0
    changes = {"signed": True, "intercept": 0, "attributes": {"PixelPaddingValue": 0}}
    volume = read_volume(write_series(tmp_path, type(HEAD)(hu, HEAD.spacing_mm), **changes))
    assert (volume.hu[:, :10] == -1024).all() and (volume.hu[:, 48, 48] == 0).all()


def test_a_localizer_among_the_slices_is_left_out_with_a_warning(series):
    localizer = build_series(shape_head(1, 96), seed=1)[0]
    localizer.SOPInstanceUID = localizer.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
    localizer.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    path = series[0].with_name("localizer.dcm")
    localizer.save_as(path, enforce_file_format=True)
    volume = read_volume([*series, path])
    assert len(volume.hu) == 12 and volume.warnings == (
        Reason(Why.LEFT_OUT, count=1, because=Reason(Why.OTHER_ORIENTATION)),
    )


def test_the_same_instance_in_two_files_is_one_slice(series, tmp_path):
    copy = shutil.copy(series[3], tmp_path / "copy.dcm")
    volume = read_volume([*series, copy])
    assert len(volume.hu) == 12 and volume.warnings == ()


# --- spoilt files --------------------------------------------------------------------------------------------------


def spoil_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def spoil_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def spoil_text(path: Path) -> None:
    path.write_text("This is no DICOM file.\n" * 40)


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_pixels(path: Path) -> None:
    rewrite(path, PixelData=None)


def spoil_size(path: Path) -> None:
    rewrite(path, Rows=65535, Columns=65535)


def spoil_rescale(path: Path) -> None:
    rewrite(path, RescaleSlope=None)


def spoil_position(path: Path) -> None:
    rewrite(path, ImagePositionPatient=None)


def spoil_syntax(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0", 1))


def spoil_items(path: Path) -> None:
    """A private sequence of more items than any header has."""
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * (MOST_ITEMS + 1)
    whole = path.read_bytes()
    at = whole.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    flood = struct.pack("<HH2sHL", 0x0009, 0x1000, b"SQ", 0, len(items)) + items
    path.write_bytes(whole[:at] + flood + whole[at:])


def spoil_nested(path: Path) -> None:
    """A private sequence in a sequence, 3,000 deep."""
    start = struct.pack("<HH2sHL", 0x0009, 0x1000, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    whole = path.read_bytes()
    at = whole.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    path.write_bytes(whole[:at] + start * 3000 + whole[at:])


SPOILT = {
    spoil_truncate: Reason(Why.PIXELS_CUT_OFF),
    spoil_header: None,
    spoil_text: Reason(Why.NOT_READABLE),
    spoil_empty: Reason(Why.NOT_READABLE),
    spoil_pixels: Reason(Why.NO_PIXELS),
    spoil_size: Reason(Why.IMAGE_SIZE, rows=65535, columns=65535),
    spoil_rescale: Reason(Why.NO_RESCALE),
    spoil_position: Reason(Why.ATTRIBUTE_MISSING, attribute="Image Position (Patient)"),
    spoil_syntax: Reason(Why.TRANSFER_SYNTAX, uid="1.2.840.10008.9.9.9"),
    spoil_items: Reason(Why.NOT_READABLE),
    spoil_nested: Reason(Why.NOT_READABLE),
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_one_spoilt_file_costs_its_own_slice_only(series, spoil):
    spoil(series[6])
    volume = read_volume(series)
    assert np.array_equal(volume.hu, np.delete(HEAD.hu, 6, axis=0))
    assert [english(warning) for warning in volume.warnings[1:]] == ["gap of 5 mm between slices 6 and 7"]
    if reason := SPOILT[spoil]:
        assert volume.warnings[0] == Reason(Why.LEFT_OUT, count=1, because=reason)


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_series_of_spoilt_files_is_unusable_for_a_plain_reason(series, spoil):
    for path in series:
        spoil(path)
    with pytest.raises(UnusableSeries, match=re.escape(str(SPOILT[spoil] or "")) or "."):
        read_volume(series)


def test_no_files_are_a_plain_reason_too():
    with pytest.raises(UnusableSeries, match=Why.NO_IMAGES):
        read_volume([])


def test_images_of_two_series_are_never_mixed(series, tmp_path):
    other = write_series(tmp_path / "other", HEAD, seed=2)
    with pytest.raises(UnusableSeries, match=Why.SEVERAL_SERIES):
        read_volume([*series, *other])


@pytest.mark.parametrize("syntax", ["RLE", "JPEG-LS", "JPEG 2000"])
def test_a_broken_codestream_costs_its_own_slice_only(tmp_path, syntax):
    paths = write_series(tmp_path, HEAD, transfer_syntax=SYNTAXES[syntax])
    whole = paths[6].read_bytes()
    paths[6].write_bytes(whole[: len(whole) * 2 // 3])
    volume = read_volume(paths)
    assert len(volume.hu) in (11, 12)  # a decoder may make the best of what is left
    assert np.array_equal(volume.hu[:6], HEAD.hu[:6]) and np.array_equal(volume.hu[-5:], HEAD.hu[-5:])


def test_a_decoder_that_panics_costs_its_own_slice_only(tmp_path):
    paths = write_series(tmp_path, HEAD, transfer_syntax=RLELossless)
    runs = bytes([129, 7]) * (96 * 96 // 128)  # a segment (PS3.5 G.3) is 9,216 times the byte 7
    longer = runs + bytes([129, 7]) * 4
    dataset = pydicom.dcmread(paths[6])
    dataset.PixelData = encapsulate([struct.pack("<16L", 2, 64, 64 + len(longer), *[0] * 13) + longer + runs])
    dataset.save_as(paths[6])
    volume = read_volume(paths)
    assert len(volume.hu) == 11
    assert volume.warnings[0] == Reason(Why.LEFT_OUT, count=1, because=Reason(Why.PIXELS_UNDECODABLE))


@pytest.mark.parametrize("syntax", ["JPEG-LS", "JPEG 2000"])
def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(tmp_path, syntax):
    paths = write_series(tmp_path, HEAD, transfer_syntax=SYNTAXES[syntax])
    rewrite(paths[6], Rows=90)
    volume = read_volume(paths)
    assert len(volume.hu) == 11


def test_more_frames_promised_than_described_is_a_reason(tmp_path):
    dataset = build_enhanced(HEAD)
    dataset.NumberOfFrames = 4000
    dataset.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    with pytest.raises(UnusableSeries, match=r"frames_differ \(described 12, promised 4000\)"):
        read_volume([tmp_path / "enhanced.dcm"])


def test_frames_that_the_file_does_not_hold_are_left_out(tmp_path):
    dataset = build_enhanced(HEAD)
    dataset.PixelData = dataset.PixelData[: 9 * 96 * 96 * 2]
    dataset.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    volume = read_volume([tmp_path / "enhanced.dcm"])
    assert len(volume.hu) == 9 and volume.warnings[0] == Reason(
        Why.LEFT_OUT, count=3, because=Reason(Why.PIXELS_CUT_OFF)
    )


def test_a_deflated_bomb_is_not_inflated(tmp_path):
    good = write_series(tmp_path, HEAD, transfer_syntax=DeflatedExplicitVRLittleEndian)
    whole = good[6].read_bytes()
    start = whole.index(DeflatedExplicitVRLittleEndian.encode())
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 0x7FFFFFF0)
    bomb = packer.compress(head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
    length = len(DeflatedExplicitVRLittleEndian) + len(DeflatedExplicitVRLittleEndian) % 2
    meta_end = 144 + struct.unpack_from("<L", whole, 140)[0]
    assert start + length <= meta_end
    good[6].write_bytes(whole[:meta_end] + bomb)
    tracemalloc.start()
    volume = read_volume(good)
    assert len(volume.hu) == 11 and tracemalloc.get_traced_memory()[1] < 256 << 20
    tracemalloc.stop()


def test_a_series_larger_than_any_head_is_refused_before_memory_is_taken(series, monkeypatch):
    monkeypatch.setattr("ich_node.infer.see.volume.MAX_VOXELS", 10 * 96 * 96)
    with pytest.raises(UnusableSeries, match=Why.TOO_LARGE):
        read_volume(series)


@pytest.mark.parametrize(
    "element", [b"\x08\0\x16\0", b"\x08\0\x18\0", b"\x20\0\x0d\0", b"\x20\0\x0e\0", b"\x10\0\x20\0"]
)
@pytest.mark.parametrize("kind", [b"U\0", b"\xff\xff", b"ZZ", b"DS", b"PN", b"US"])
def test_an_identity_of_an_odd_kind_is_read_or_refused(tmp_path, element, kind):
    path = tmp_path / "damaged.dcm"
    build_enhanced(shape_head(3, 64)).save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    at = whole.index(element, 300)
    path.write_bytes(whole[: at + 4] + kind + whole[at + 6 :])
    with contextlib.suppress(UnusableSeries), pixels.quiet():
        assert pixels.open_image(path).frames == 3


@settings(max_examples=40)
@given(data=st.data())
def test_any_damage_to_an_enhanced_header_ends_in_a_verdict_and_a_reason(tmp_path, data):
    path = tmp_path / "damaged.dcm"
    build_enhanced(shape_head(3, 64)).save_as(path, enforce_file_format=True)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(132, len(whole) - 3 * 64 * 64 * 2))
        whole[at] = data.draw(st.sampled_from([0, 255, 1, 0x20, 0x41]))
    path.write_bytes(bytes(whole))
    with contextlib.suppress(UnusableSeries), pixels.quiet():
        header = pixels.open_image(path).header
        assert isinstance(eligibility.verdict([header]), eligibility.Verdict)
        assert read_volume([path]).hu.dtype == np.int16


@settings(max_examples=60)
@given(data=st.data())
def test_any_damage_ends_in_a_slice_less_or_a_reason(tmp_path, data):
    syntax = data.draw(st.sampled_from(sorted(SYNTAXES)))
    paths = write_series(tmp_path / syntax, shape_head(3, 64), transfer_syntax=SYNTAXES[syntax])
    whole = bytearray(paths[1].read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        whole[data.draw(st.integers(132, len(whole) - 1))] = data.draw(st.integers(0, 255))
    paths[1].write_bytes(bytes(whole[: data.draw(st.integers(100, len(whole)))]))
    try:
        volume = read_volume(paths)
    except UnusableSeries as reason:
        assert str(reason)
    else:
        assert 1 <= len(volume.hu) <= 3 and volume.hu.dtype == np.int16


def test_headers_keep_what_the_sender_wrote(tmp_path):
    changes = {"character_set": "ISO_IR 192", "patient_name": "Θεοδώρου^Νίκη"}
    volume = read_volume(write_series(tmp_path, HEAD, transfer_syntax=DeflatedExplicitVRLittleEndian, **changes))
    assert str(volume.headers[0].PatientName) == "Θεοδώρου^Νίκη"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, Why.RESCALE_IMPOSSIBLE),
        ({"RescaleSlope": "16", "RescaleIntercept": "0"}, Why.RESCALE_IMPOSSIBLE),
        ({"ModalityLUTSequence": [Dataset()], "RescaleSlope": "1", "RescaleIntercept": "0"}, Why.MODALITY_LUT),
        ({}, Why.NO_RESCALE),
    ],
)
def test_values_that_are_not_hu_have_a_reason(attributes, reason):
    header = Dataset()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    with pytest.raises(UnusableSeries, match=reason):
        pixels.rescale_of(header)
