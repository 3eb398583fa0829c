"""The summary page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ich_node.report.pictures.drawing import TextLine, fitted, font, shrunk, text_width, wrapped
from ich_node.report.pictures.summary_page import TONES, Page, Row, Thumbnail, Tone, draw_page, page_shape

ROWS = tuple(
    Row(name, probability, 0.5, f"{100 * probability:.0f} %", probability > 0.5, "rechts, Parietallappen", "10–19")
    for name, probability in (
        ("Intrakranielle Blutung", 0.97),
        ("Epidural", 0.01),
        ("Intraparenchymal", 0.96),
        ("Intraventrikulär", 0.12),
        ("Subarachnoidal", 0.03),
        ("Subdural", 0.2),
    )
)
PICTURE = np.full((160, 160, 3), (90, 200, 90), np.uint8)
PAGE = Page(
    tone="STAT",
    banner="STAT",
    banner_note="sofort befunden",
    verdict="Verdacht auf intrakranielle Blutung",
    explanation="Intraparenchymal 96 % (rechts, Parietallappen)",
    headings=("Typ", "Wahrscheinlichkeit", "Wo", "Schichten"),
    rows=ROWS,
    thumbnails=tuple(Thumbnail(PICTURE, f"Schicht {n} von 32") for n in (10, 12, 14)),
    warnings=("Schichten 9 und 10 liegen 10 mm auseinander",),
    facts=("Modell ich 1.0.0 (SHA-256 0123456789ab), ich_node 0.1.0. Berechnet mit CPU.", "32 Bilder der Serie 2."),
    disclaimer="AI research result, not for diagnosis",
)


def light(image: np.ndarray) -> np.ndarray:
    return np.asarray(image @ np.array([0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize(
    ("source", "page"),
    [((512, 512), (512, 512)), ((1024, 1024), (1024, 1024)), ((256, 256), (512, 512)), ((384, 512), (512, 683))],
)
def test_the_page_has_the_sources_matrix_and_at_least_512(source: tuple[int, int], page: tuple[int, int]) -> None:
    assert page_shape(*source) == page


@pytest.mark.parametrize("shape", [(512, 512), (1024, 1024), (512, 768), (768, 512)])
def test_the_page_is_drawn_at_the_size_that_is_asked_for(shape: tuple[int, int]) -> None:
    assert draw_page(PAGE, *shape).shape == (*shape, 3)


def test_a_larger_page_is_the_same_page() -> None:
    page = replace(PAGE, thumbnails=())
    small, large = draw_page(page, 512, 512), draw_page(page, 1024, 1024)
    coarse = [light(image.reshape(32, size, 32, size, 3).mean((1, 3))) for image, size in ((small, 16), (large, 32))]
    assert np.abs(coarse[0] - coarse[1]).mean() < 3


def test_the_page_is_dark() -> None:
    assert np.median(light(draw_page(PAGE, 512, 512))) < 40


@pytest.mark.parametrize("tone", list(TONES))
def test_banner_words_have_a_contrast_of_at_least_4_5_to_1(tone: Tone) -> None:
    ground, ink = (_luminance(colour) for colour in TONES[tone])
    assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) >= 4.5


def test_priorities_differ_without_colour() -> None:
    """In grey, and with the banner's words taken away, the shapes still differ."""
    shapes = [
        light(draw_page(replace(PAGE, tone=tone, banner="", banner_note=""), 512, 512))[12:66, 14:70] for tone in TONES
    ]
    signs = [
        shape > np.median(shape) + 60 if tone != "HIGH" else shape < np.median(shape) - 60
        for shape, tone in zip(shapes, TONES, strict=True)
    ]
    for index, sign in enumerate(signs):
        assert sign.sum() > 80
        for other in signs[index + 1 :]:
            assert (sign ^ other).sum() > 0.2 * min(sign.sum(), other.sum())


def test_not_analysed_looks_like_no_priority() -> None:
    """Its banner alone is framed by dashes."""

    def frame(tone: Tone) -> np.ndarray:
        return light(draw_page(replace(PAGE, tone=tone), 512, 512))[12, 30:480]

    assert len(np.unique(frame("NOT ANALYSED") > 180)) == 2
    for tone in ("STAT", "HIGH", "ROUTINE"):
        assert np.ptp(frame(tone)) < 5


def test_bars_are_as_long_as_their_probabilities() -> None:
    page = replace(PAGE, rows=(replace(ROWS[0], probability=0.75, present=True),), thumbnails=())
    image = draw_page(page, 512, 512).astype(int)
    orange = abs(image - (247, 140, 60)).sum(-1) < 30
    row = int(np.flatnonzero(orange.any(1)).mean())
    filled = np.flatnonzero(orange[row])
    whole = np.flatnonzero(orange[row] | (image[row] == (48, 55, 63)).all(-1))
    assert (filled[-1] - whole[0]) / (whole[-1] - whole[0]) == pytest.approx(0.75, abs=0.02)


def test_thumbnails_are_shown_side_by_side_and_as_large_as_fits() -> None:
    green = (draw_page(PAGE, 512, 512) == (90, 200, 90)).all(-1)
    columns = np.flatnonzero(green.any(0))
    assert np.count_nonzero(np.diff(columns) > 1) == 2
    assert np.flatnonzero(green.any(1)).size > 80


def green_rows(page: Page) -> int:
    """Rows of the page that show a thumbnail."""
    return int((draw_page(page, 512, 512) == (90, 200, 90)).all(-1).any(1).sum())


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("kind", ["warnings", "remarks"])
def test_no_number_of_warnings_pushes_the_thumbnails_out_or_overprints_anything(kind: str, count: int) -> None:
    said = ("eine lange Warnung über die Geometrie der Serie und ihre Lücken " * 2,) * count
    crowded = replace(PAGE, **{kind: said}, more="! Weitere Warnungen stehen im Textbericht.")
    assert green_rows(crowded) >= 96
    image, calm = draw_page(crowded, 512, 512), draw_page(replace(PAGE, warnings=()), 512, 512)
    table = (calm == (27, 32, 38)).all(-1)[:, 20]
    last = int(np.flatnonzero(table[:480])[-1])
    assert last > 250
    assert (image == calm)[:last].all()


def test_a_long_explanation_leaves_room_for_the_thumbnails() -> None:
    page = replace(PAGE, explanation="Intraparenchymal 96 % (rechts, Parietallappen); " * 6)
    assert green_rows(page) >= 96


def test_what_was_read_and_two_lines_of_explanation_leave_room_for_the_thumbnails() -> None:
    page = replace(
        PAGE, explanation="Der Scan endet im Kopf: der Scheitel fehlt. " * 3, looked_at="Gelesen: 32 Schichten"
    )
    assert green_rows(page) >= 96


def test_a_negative_of_a_part_of_the_head_keeps_its_pictures() -> None:
    page = replace(
        PAGE,
        verdict="No hemorrhage suspected in the part of the head that was scanned",
        explanation="The scan ends inside the head: the part up to the vertex was not looked at (105 mm scanned). "
        "This does not exclude a hemorrhage.",
        warnings=(),
        remarks=("12 images left out: another orientation",),
        more="! More warnings stand in the text report.",
    )
    assert green_rows(page) >= 96


def test_a_long_reason_stays_on_the_page() -> None:
    page = replace(
        PAGE,
        tone="NOT ANALYSED",
        rows=(),
        thumbnails=(),
        warnings=(),
        verdict="because the series has slices of three different orientations and a gap of 20 mm " * 6,
    )
    image = draw_page(page, 512, 512)
    facts = draw_page(replace(page, verdict="", explanation=""), 512, 512)
    assert (image[420:] == facts[420:]).all()
    assert (image[80:400] != facts[80:400]).any()


def test_the_threshold_is_marked_on_every_bar() -> None:
    half = draw_page(replace(PAGE, rows=(replace(ROWS[1], threshold=0.5),), thumbnails=()), 512, 512)
    tenth = draw_page(replace(PAGE, rows=(replace(ROWS[1], threshold=0.1),), thumbnails=()), 512, 512)
    assert (half != tenth).any()


def test_pixels_that_are_not_square_get_a_squeezed_page() -> None:
    squeezed = draw_page(PAGE, 512, 512, (0.5, 1.0))
    whole = draw_page(PAGE, 1024, 512)
    assert squeezed.shape == (512, 512, 3)
    assert np.abs(light(whole.reshape(512, 2, 512, 3).mean(1)) - light(squeezed)).mean() < 3


def test_the_same_page_gives_the_same_picture() -> None:
    assert (draw_page(PAGE, 512, 512) == draw_page(PAGE, 512, 512)).all()


# --- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", list("aäöüÄÖÜßéλ≥≤·–—…°±×²"))
def test_the_font_has_every_character_that_we_write(character: str) -> None:
    missing = font(20).getmask("\U000f0000")
    drawn = font(20).getmask(character)
    assert drawn.getbbox() is not None
    assert (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))


def test_a_line_that_is_too_long_is_condensed_before_it_is_cut() -> None:
    line = TextLine("Intraparenchymal", 20)
    full = text_width(line)
    assert fitted(line, full) == line
    assert fitted(line, full * 0.93).text == "Intraparenchymal"
    cut = fitted(line, full * 0.4)
    assert cut.text.endswith("…")
    assert text_width(cut) <= full * 0.4


def test_a_title_gets_smaller_before_its_probability_is_cut_off() -> None:
    line = TextLine("Intracranial hemorrhage 97%", 20, weight=600)
    small = shrunk(line, 0.7 * text_width(line))
    assert small.text == line.text
    assert small.size < line.size
    assert text_width(small) <= 0.7 * text_width(line)
    assert shrunk(line, text_width(line)) == line
    assert shrunk(line, 0.3 * text_width(line)).text.endswith("…")


def test_wrapped_text_keeps_every_word_in_order() -> None:
    text = "the series was given contrast medium and has a gap of ten millimetres"
    lines = wrapped(TextLine(text, 20), 200)
    assert " ".join(line.text for line in lines) == text
    assert all(text_width(line) <= 200 for line in lines)
    assert len(lines) > 2


def _luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance of WCAG 2."""
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
