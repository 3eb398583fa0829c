"""Overlay pictures of single slices."""

from __future__ import annotations

import numpy as np
import pytest
from analysis_builder import TURNS, make_analysis
from scipy import ndimage

from ich_node.domain.findings import Analysis, Laterality
from ich_node.report.pictures import colour_map, overlay
from ich_node.report.pictures.secondary_capture import Slice

WORDS = overlay.Words(
    title="Intraventrikulär 96 %",
    details=("beidseits · Seitenventrikel", "Schicht 7/12"),
    corner=("STAT", "ich 1.0.0"),
    scale="CAM",
    disclaimer="AI research result, not for diagnosis",
)
SILENT = overlay.Words("", (), (), "", "")


def drawn(analysis: Analysis, words: overlay.Words = WORDS, key: int = 1) -> np.ndarray:
    assert analysis.volume is not None
    chosen = analysis.key_slices[key]
    source = Slice.of(analysis.volume, chosen.slice_index)
    return overlay.picture(analysis.volume.hu[chosen.slice_index], chosen.heat, 0.5, source.grid, words)


def brain(analysis: Analysis, key: int = 1) -> np.ndarray:
    """Inside of the skull: soft tissue and fluid that bone encloses."""
    assert analysis.volume is not None
    hu = analysis.volume.hu[analysis.key_slices[key].slice_index]
    return np.asarray(ndimage.binary_fill_holes(hu > 500) & (hu < 500))


# --- window ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hu", "grey"), [(-1024, 0), (0, 0), (40, 128), (80, 255), (3000, 255), (20, 64)])
def test_the_brain_window_runs_from_0_to_80_hu(hu: int, grey: int) -> None:
    assert overlay.brain_window(np.array([[hu]], np.int16))[0, 0] == grey


def test_without_heat_the_picture_is_the_ct_in_grey() -> None:
    hu = np.linspace(-100, 200, 100).astype(np.int16).reshape(10, 10)
    image = overlay.anatomy(hu, None, 0.5)
    assert (image == overlay.brain_window(hu)[..., None]).all()


# --- heat map -------------------------------------------------------------------------------------------------------


def test_neighbouring_colours_differ_equally_and_lightness_rises() -> None:
    lab = np.array([_lab(colour) for colour in colour_map.heat_table()[::15]])
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.2
    assert (np.diff(lab[:, 0]) > 1).all()


def test_srgb_white_grey_and_red_come_out_of_their_lab_values() -> None:
    lab = np.array([[100.0, 0.0, 0.0], [53.585, 0.0, 0.0], [53.24, 80.09, 67.20]])
    assert np.rint(255 * colour_map.lab_to_srgb(lab)).tolist() == [[255, 255, 255], [128, 128, 128], [255, 0, 0]]


def test_the_map_is_invisible_where_it_is_low_and_never_hides_the_ct() -> None:
    heat = np.linspace(0, 1, 101, dtype=np.float32)
    shown = overlay.opacity(heat, 0.5)
    assert (shown[heat <= 0.12] == 0).all()
    assert (np.diff(shown) >= 0).all()
    assert shown[50:] == pytest.approx(overlay.OPACITY)
    assert shown.max() <= 0.5


def test_bleeding_stays_brighter_than_the_brain_beside_it_under_full_heat() -> None:
    hu = np.full((64, 64), 32, np.int16)
    hu[:, 32:] = 62
    image = overlay.anatomy(hu, np.full((64, 64), 0.9, np.float32), 0.5).astype(float)
    luminance = image @ [0.2126, 0.7152, 0.0722]
    assert luminance[32, 45] - luminance[32, 20] > 40


def test_the_contour_lies_where_the_map_crosses_the_threshold() -> None:
    y, x = np.mgrid[:200, :200]
    heat = np.clip(1 - np.hypot(y - 100, x - 100) / 100, 0, 1).astype(np.float32)
    line = overlay.coverage(overlay.contour_distance(heat, 0.5), 1.4) > 0.5
    assert np.hypot(*(np.argwhere(line) - 100).T) == pytest.approx(50, abs=1.0)
    assert line.sum() > 200


def test_an_abrupt_end_of_the_map_below_the_threshold_is_no_contour() -> None:
    heat = np.zeros((60, 60), np.float32)
    heat[:, :30] = np.linspace(0.2, 0.45, 30)
    assert (overlay.coverage(overlay.contour_distance(heat, 0.5), 3.0) == 0).all()


def test_nothing_is_drawn_where_the_heat_is_zero() -> None:
    hu = np.full((50, 50), 30, np.int16)
    heat = np.zeros((50, 50), np.float32)
    assert (overlay.anatomy(hu, heat, 0.5) == overlay.anatomy(hu, None, 0.5)).all()


def test_heat_that_touches_the_border_is_drawn_up_to_it() -> None:
    heat = np.zeros((40, 40), np.float32)
    heat[:, 30:] = 0.9
    image = overlay.anatomy(np.full((40, 40), 40, np.int16), heat, 0.5)
    assert len(set(image[20, 39].tolist())) > 1


# --- orientation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orientation", "letters"),
    [
        ((1, 0, 0, 0, 1, 0), ("R", "L", "A", "P")),
        ((-1, 0, 0, 0, 1, 0), ("L", "R", "A", "P")),
        ((1, 0, 0, 0, -1, 0), ("R", "L", "P", "A")),
        ((0, 1, 0, 1, 0, 0), ("A", "P", "R", "L")),
        ((0, -1, 0, -1, 0, 0), ("P", "A", "L", "R")),
        ((1, 0, 0, 0, 0, -1), ("R", "L", "H", "F")),
        ((0.984808, 0.173648, 0, -0.173648, 0.984808, 0), ("R", "L", "A", "P")),
        ((0.8660254, 0.5, 0, -0.5, 0.8660254, 0), ("RA", "LP", "AL", "PR")),
    ],
)
def test_edge_letters_follow_the_image_orientation(
    orientation: tuple[float, ...], letters: tuple[str, str, str, str]
) -> None:
    assert overlay.edge_letters(orientation) == letters


def test_patient_orientation_names_the_direction_of_rows_and_of_columns() -> None:
    assert overlay.patient_orientation((1, 0, 0, 0, 1, 0)) == ("L", "P")


@pytest.mark.parametrize("turn", TURNS)
def test_a_lesion_on_the_patients_right_is_on_the_side_of_the_letter_r(turn: str) -> None:
    analysis = make_analysis(
        laterality=Laterality.RIGHT, turn=turn, rows=256, columns=256, pixel_mm=(0.9, 0.9), slices=6
    )
    assert analysis.volume is not None
    key = analysis.key_slices[1]
    source = Slice.of(analysis.volume, key.slice_index)
    letters = dict(zip(("left", "right", "top", "bottom"), overlay.edge_letters(source.grid.orientation), strict=True))
    row, column = np.unravel_index(int(np.argmax(key.heat)), key.heat.shape)
    side = {"left": 128 - column, "right": column - 128, "top": 128 - row, "bottom": row - 128}
    (edge,) = [edge for edge, letter in letters.items() if letter == "R"]
    assert side[edge] > 10


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", ["axial", "half_turn", "transposed"])
@pytest.mark.parametrize(
    ("rows", "columns", "pixel_mm"),
    [(512, 512, (0.45, 0.45)), (1024, 1024, (0.225, 0.225)), (768, 768, (0.3, 0.3)), (512, 512, (0.6, 0.45))],
)
def test_words_cover_no_brain(rows: int, columns: int, pixel_mm: tuple[float, float], turn: str) -> None:
    analysis = make_analysis(rows=rows, columns=columns, pixel_mm=pixel_mm, turn=turn, slices=6)
    assert analysis.volume is not None
    key = analysis.key_slices[1]
    plain = overlay.anatomy(analysis.volume.hu[key.slice_index], key.heat, 0.5)
    changed = (drawn(analysis) != plain).any(-1)
    assert changed.sum() > 1000
    assert not (changed & brain(analysis)).any()


def test_words_are_as_tall_on_a_large_matrix_as_on_a_small_one() -> None:
    heights = []
    for rows, pixel in ((512, 0.45), (1024, 0.225)):
        analysis = make_analysis(rows=rows, columns=rows, pixel_mm=(pixel, pixel), slices=6)
        title = drawn(analysis)[: rows // 16, : rows // 3] > 200
        heights.append(np.ptp(np.flatnonzero(title.all(-1).any(1))) / rows)
    assert heights[0] == pytest.approx(heights[1], rel=0.15)
    assert heights[0] > 0.025


def test_letters_on_pixels_that_are_not_square_are_squeezed() -> None:
    def size(pixel_mm: tuple[float, float]) -> tuple[float, float]:
        grid = overlay.Grid((1, 0, 0, 0, 1, 0), pixel_mm)
        image = overlay.picture(np.full((512, 512), -1000, np.int16), None, 0.5, grid, WORDS)
        lit = (image[:60, :250] > 140).all(-1)
        return float(np.ptp(np.flatnonzero(lit.any(1)))) * pixel_mm[0], float(
            np.ptp(np.flatnonzero(lit.any(0)))
        ) * pixel_mm[1]

    square, flat = size((0.5, 0.5)), size((1.0, 0.5))
    assert flat[1] / flat[0] == pytest.approx(square[1] / square[0], rel=0.12)


@pytest.mark.parametrize("words", [WORDS, SILENT])
def test_a_picture_has_the_size_of_its_slice(words: overlay.Words) -> None:
    analysis = make_analysis(rows=300, columns=400, pixel_mm=(0.7, 0.55), slices=6)
    assert drawn(analysis, words).shape == (300, 400, 3)
    assert drawn(analysis, words).dtype == np.uint8


def test_very_long_words_stay_inside_the_picture() -> None:
    analysis = make_analysis(slices=6)
    long = overlay.Words("Intraparenchymal " * 20, ("x " * 200,), ("y " * 200,), "CAM", "z " * 400)
    assert drawn(analysis, long).shape == (512, 512, 3)


def test_the_colour_bar_moves_to_the_other_side_of_a_head_that_is_off_centre() -> None:
    grid = overlay.Grid((1, 0, 0, 0, 1, 0), (0.5, 0.5))
    y, x = np.mgrid[:512, :512]

    def bar_is_on_the_right(middle: int) -> bool:
        hu = np.where(np.hypot(y - 256, (x - middle) * 1.2) < 200, 30, -1000).astype(np.int16)
        heat = np.zeros((512, 512), np.float32)
        coloured = np.ptp(overlay.picture(hu, heat, 0.5, grid, WORDS).astype(int), axis=-1) > 60
        return bool(coloured[:, 400:].any()) and not coloured[:, :100].any()

    assert bar_is_on_the_right(256)
    assert bar_is_on_the_right(180)
    assert not bar_is_on_the_right(350)


def test_a_thumbnail_shows_the_skull_alone_and_keeps_the_contour() -> None:
    analysis = make_analysis(slices=6, rows=512, columns=512, pixel_mm=(0.8, 0.8))
    assert analysis.volume is not None
    key = analysis.key_slices[1]
    hu = analysis.volume.hu[key.slice_index].copy()
    hu[500:506, 200:300] = 400  # a rail of the headrest
    grid = Slice.of(analysis.volume, key.slice_index).grid
    small = overlay.thumbnail(hu, key.heat, 0.5, grid, 150)
    assert small.shape == (150, 150, 3)
    bone = np.flatnonzero((small > 250).all(-1).any(1))
    assert bone[0] < 15
    assert bone[-1] > 135
    cyan = (small[..., 2] > 180) & (small[..., 0] < 120)
    assert cyan.sum() > 20


def test_a_thumbnail_of_a_slice_without_bone_shows_all_of_it() -> None:
    hu = np.full((100, 120), 30, np.int16)
    grid = overlay.Grid((1, 0, 0, 0, 1, 0), (0.5, 0.5))
    small = overlay.thumbnail(hu, np.zeros((100, 120), np.float32), 0.5, grid, 60)
    assert (small[30, :] > 0).all()
    assert (small[:4] == 0).all()


def test_the_colour_bar_marks_the_threshold_where_it_belongs() -> None:
    bar = overlay.colour_bar(100, 10.0, 0.25, "CAM", (1.0, 1.0))
    cyan = (bar[..., :3] == overlay.CONTOUR.astype(np.uint8)).all(-1)
    (row,) = np.unique(np.argwhere(cyan)[:, 0])
    assert row == pytest.approx(13 + 0.75 * 99, abs=1)


def test_the_same_slice_gives_the_same_picture() -> None:
    analysis = make_analysis(slices=6)
    assert (drawn(analysis) == drawn(analysis)).all()


def _lab(colour: np.ndarray) -> np.ndarray:
    """CIELAB of 8-bit sRGB, by the textbook's inverse."""
    c = colour / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = np.linalg.inv(colour_map.XYZ_TO_SRGB) @ linear / colour_map.WHITE_D65
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
