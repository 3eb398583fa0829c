"""Decoders in a cage: what is refused before they are asked, what they cannot do, and what becomes of one that dies."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, get_frame

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see import cage, codestream, fragments, volume
from ich_node.infer.see.decoder import Question
from ich_node.phantom import series
from tests.confined import possible
from tests.head_shapes import shape_head

RLE = "1.2.840.10008.1.2.5"


def j2k(rows, columns, *, components=1, tile=None, layers=1, end=b"\xff\xd9"):
    """A JPEG 2000 codestream that is nothing but its claims."""
    width, height = tile or (columns, rows)
    size = struct.pack(">HLLLLLLLLH", 0, columns, rows, 0, 0, width, height, 0, 0, components)
    style = struct.pack(">BBHB5B", 0, 0, layers, 0, 5, 4, 4, 0, 1)
    segments = [(0x51, size + bytes((11, 1, 1)) * components), (0x52, style)]
    head = b"".join(b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body for code, body in segments)
    return b"\xff\x4f" + head + b"\xff\x90" + bytes(10) + end


def jpeg(rows, columns, *, frame=0xF7, components=1, scans=1, end=b"\xff\xd9"):
    """A JPEG or JPEG-LS stream that is nothing but its claims."""
    head = struct.pack(">BBHBHHB", 0xFF, frame, 8 + 3 * components, 12, rows, columns, components)
    return b"\xff\xd8" + head + bytes(3 * components) + (b"\xff\xda\0\x08" + bytes(6)) * scans + end


@pytest.mark.parametrize(
    "frame",
    [
        j2k(512, 512, components=16384),
        j2k(4096, 4096, components=3),
        j2k(4096, 4096, tile=(1, 1)),
        j2k(4096, 4096, tile=(17, 17)),
        j2k(512, 512, tile=(512, 1)),
        j2k(512, 512, layers=65535),
        jpeg(4096, 4096, components=255),
        jpeg(4096, 4096, frame=0xC3, components=4),
        jpeg(4096, 4096, frame=0xC2, scans=63),
        jpeg(512, 512, frame=0xC2, scans=2000),
    ],
)
def test_claims_of_more_than_one_grey_image_are_immodest(frame):
    assert not codestream.claims(frame).modest


@pytest.mark.parametrize(
    "frame",
    [
        j2k(512, 512),
        j2k(512, 512, tile=(64, 64), layers=20),
        j2k(700, 650, tile=(128, 128), end=b"\xff\xd9\0"),
        jpeg(512, 512),
        jpeg(512, 512, frame=0xC1, end=b"\xff\xd9\0\0"),
        jpeg(512, 512, frame=0xC2, scans=10),
    ],
)
def test_what_encoders_write_is_modest_and_ended(frame):
    claims = codestream.claims(frame)
    assert claims.modest and claims.ended
    assert (claims.rows, claims.columns) in {(512, 512), (700, 650)}


@pytest.mark.parametrize("frame", [j2k(512, 512, end=b""), jpeg(512, 512, end=b"")])
def test_a_frame_without_its_end_says_so(frame):
    assert not codestream.claims(frame).ended


# --- fragments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_frames_are_found_by_table_by_number_and_by_their_ends(table, count):
    frames = [bytes([number]) * 60 + b"\xff\xd9" for number in range(5)]
    data = encapsulate(frames, fragments_per_frame=count, has_bot=table)
    file = io.BytesIO(b"head" + data)
    places = fragments.frame_places(file, 4, 5)
    assert [fragments.joined(file, place) for place in places] == frames
    assert fragments.joined(file, places[3]) == get_frame(data, 3, number_of_frames=5)


def test_a_million_empty_fragments_are_no_image():
    empty = b"\xfe\xff\x00\xe0\0\0\0\0"
    with pytest.raises(ValueError, match="more fragments"):
        fragments.frame_places(io.BytesIO(empty * 1_000_000), 0, 1000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xfe\xff\x00\xe0\0\0\0\0",
        b"\xfe\xff\x00\xe0\0\0\0\0\x08\0\x00\x10\0\0\0\0",
        b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\xff\xff\xff\xff",
        b"\xfe\xff\x00\xe0\x08\0\0\0\0\0\0\0\x70\0\0\0" + b"\xfe\xff\x00\xe0\2\0\0\0ab",
    ],
)
def test_items_that_are_none_are_a_value_error(data):
    with pytest.raises(ValueError, match=r"fragments|item|frames"):
        fragments.frame_places(io.BytesIO(data), 0, 2)


# --- the child process -----------------------------------------------------------------------------------------------


def rle(value, edge=128):
    """A frame of edge × edge 16-bit pixels, all of one value."""
    runs = edge * edge // 128
    return struct.pack("<16L", 2, 64, 64 + 2 * runs, *[0] * 13) + b"\x81\0" * runs + bytes([0x81, value]) * runs


def question(frame, **changes):
    described = {"rows": 128, "columns": 128, "allocated": 16, "stored": 16, "signed": False, "cpu_s": 2.0}
    return Question(**({"syntax": RLE, "length": len(frame)} | described | changes))


@pytest.fixture(scope="module")
def one():
    made = cage.Cage(1)
    yield made
    made.close()


def test_a_frame_comes_back_as_values(one):
    assert np.array_equal(one.decode(question(rle(7)), rle(7), cage.Budget()), np.full((128, 128), 7))


def test_a_frame_that_is_none_is_refused_and_the_child_goes_on(one):
    with pytest.raises(UnusableSeries) as refusal:
        one.decode(question(b"nothing"), b"nothing", cage.Budget())
    assert refusal.value.reason == Reason(Why.PIXELS_UNDECODABLE)
    assert one.decode(question(rle(9)), rle(9), cage.Budget())[5, 5] == 9


def test_a_frame_that_takes_too_long_costs_the_child_and_the_next_frame_has_another(one):
    large = rle(7, edge=4096)
    with pytest.raises(UnusableSeries) as refusal:
        one.decode(question(large, rows=4096, columns=4096, cpu_s=1e-6), large, cage.Budget())
    assert refusal.value.reason == Reason(Why.PIXELS_TOO_COSTLY)
    assert one.decode(question(rle(3)), rle(3), cage.Budget())[0, 0] == 3


def test_an_answer_of_another_shape_is_not_taken(one):
    with pytest.raises(UnusableSeries):
        one.decode(question(rle(7), rows=64), rle(7), cage.Budget())


@pytest.mark.parametrize("lie", [{"dtype": "<i2", "shape": [3, 3]}, {"dtype": "<f4", "shape": [128, 128]}])
def test_a_child_that_answers_something_else_is_not_asked_again(one, monkeypatch, lie):
    """What it sends behind that would be taken for the answer to the next frame."""
    one.decode(question(rle(7)), rle(7), cage.Budget())
    monkeypatch.setattr(cage.Child, "line", lambda _child, _most: lie)
    with pytest.raises(UnusableSeries):
        one.decode(question(rle(7)), rle(7), cage.Budget())
    monkeypatch.undo()
    assert one.decode(question(rle(8)), rle(8), cage.Budget())[0, 0] == 8


def test_a_caged_process_opens_creates_removes_and_reaches_nothing(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    attempts = {
        "read": f"open({str(kept)!r})",
        "create": f"open({str(tmp_path / 'new')!r}, 'w')",
        "remove": f"os.unlink({str(kept)!r})",
        "rename": f"os.rename({str(kept)!r}, {str(tmp_path / 'other')!r})",
        "connect": "socket.socket()",
        "fork": "os.fork()",
        "signal": "os.kill(os.getppid(), 0)",
        "memory": "bytearray(3 << 30)",
    }
    assert possible(1 << 30, reads=False, **attempts) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_a_series_that_keeps_costing_decoders_ends(tmp_path, monkeypatch):
    asked = []

    class Costly(cage.Cage):
        def decode(self, question, frame, budget):
            asked.append(frame)
            raise UnusableSeries(Reason(Why.PIXELS_TOO_COSTLY))

    monkeypatch.setattr(cage, "shared", lambda: Costly(1))
    paths = series.write_series(tmp_path, shape_head(40, 64), transfer_syntax=RLE)
    with pytest.raises(UnusableSeries) as refusal:
        volume.read_volume(paths)
    assert refusal.value.reason == Reason(Why.PIXELS_TOO_COSTLY)
    assert len(asked) < 10


def test_a_series_whose_frames_take_all_of_its_budget_is_not_decoded_any_further(one):
    budget, frame = cage.Budget(), rle(7)
    budget.spend(cage.SPARE_S, question(frame, cpu_s=cage.BASE_S))
    with pytest.raises(UnusableSeries) as refusal:
        one.decode(question(frame), frame, budget)
    assert refusal.value.reason == Reason(Why.PIXELS_TOO_COSTLY)
    assert one.decode(question(frame), frame, cage.Budget())[0, 0] == 7  # the next series has a budget of its own


def test_a_lost_child_counts_in_the_budget_and_honest_frames_never_use_it_up(one):
    large, budget = rle(7, edge=4096), cage.Budget()
    costly = question(large, rows=4096, columns=4096, cpu_s=1e-6)
    reasons = []
    for _ in range(8):
        with pytest.raises(UnusableSeries) as refusal:
            one.decode(costly, large, budget)
        reasons.append(refusal.value.__cause__ is None)
    assert reasons == [False] * 4 + [True] * 4  # four children were lost, then nobody was asked any more
    honest, frame = cage.Budget(), rle(3)
    for _ in range(50):
        one.decode(question(frame, cpu_s=cage.cpu_s(frame, 128 * 128)), frame, honest)
    honest.check()
    assert honest._left_s > 0.9 * cage.SPARE_S


def test_rival_images_that_cost_decoders_end_too(tmp_path, monkeypatch):
    """Images that share their places are decoded to tell them apart before they are read."""
    started = []

    class Mortal(cage.Child):
        def __init__(self):
            started.append(self)

        cpu_s = 0.0

        def ask(self, question, frame):
            raise EOFError

        def end(self):
            pass

    monkeypatch.setattr(cage, "Child", Mortal)
    monkeypatch.setattr(cage, "shared", lambda: cage.Cage(1))
    first = series.write_series(tmp_path / "1", shape_head(30, 64), transfer_syntax=RLE)
    for number, path in enumerate(first):
        again = dcmread(path)
        again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        again.save_as(tmp_path / f"{number}.dcm")
    with pytest.raises(UnusableSeries) as refusal:
        volume.read_volume([*first, *tmp_path.glob("*.dcm")])
    assert refusal.value.reason == Reason(Why.PIXELS_TOO_COSTLY)
    assert len(started) <= cage.SPARE_S / cage.CHILD_S + 1


def test_a_cut_off_codestream_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(cage, "shared", lambda: pytest.fail("a decoder was asked"))
    cut = j2k(64, 64, end=b"")
    (path, *_) = series.write_series(tmp_path, shape_head(1, 64))
    image: Dataset = dcmread(path)
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    image.PixelData = encapsulate([cut])
    image["PixelData"].VR = "OB"
    image.save_as(path)
    with pytest.raises(UnusableSeries) as refusal:
        volume.pixels.frame_hu(volume.pixels.open_image(path), None)
    assert refusal.value.reason == Reason(Why.PIXELS_CUT_OFF)
