"""The first picture of a result: the answer on one dark page, readable from a metre away at three in the morning.

In: words and numbers decided elsewhere, and pictures for thumbnails. Out: an RGB picture. Priority is told by word,
shape and colour together, so that no kind of colour vision misses it; "not analysed" looks like neither answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from ich_node.report.pictures.drawing import Colour, Picture, TextLine, fitted, font, shrunk, text_width, wrapped

SMALLEST = 512  # chosen: smaller letters cannot be read; CT images have as much
THUMBNAIL, CAPTION = 96, 15
"""Height of a thumbnail and its caption in 1/512 of the page: warnings leave them that much."""

SMALLEST_THUMBNAIL = 56
"""Below this nothing can be seen; only a page with many long lines comes to it."""

BACKGROUND: Colour = (13, 16, 20)  # chosen: nearly black, for a dark room beside CT
PANEL: Colour = (27, 32, 38)  # chosen: one step up from the background
TRACK: Colour = (48, 55, 63)  # chosen: the empty part of a bar, one step up from the panel
TEXT: Colour = (236, 239, 242)  # chosen: bright, not glaring
QUIET: Colour = (160, 168, 176)  # chosen: what need not be read first
WARNING: Colour = (240, 190, 70)  # chosen: yellow, as warnings are
PRESENT: Colour = (247, 140, 60)  # chosen: orange: seen at once, and told from grey by the colour-blind
ABSENT: Colour = (112, 126, 140)  # chosen: grey: nothing calls

Tone = Literal["STAT", "HIGH", "ROUTINE", "NOT ANALYSED"]
TONES: dict[Tone, tuple[Colour, Colour]] = {
    "STAT": ((200, 48, 30), (255, 255, 255)),
    "HIGH": ((236, 170, 30), (20, 18, 10)),
    "ROUTINE": ((38, 84, 128), (235, 242, 250)),
    "NOT ANALYSED": ((66, 70, 76), (255, 255, 255)),
}
"""Banner and letters; the banners differ in lightness as well as in hue."""


@dataclass(frozen=True, slots=True)
class Row:
    """One type in the table. where: side and site; probability 0..1 draws the bar, None none; `shown` is its text."""

    name: str
    probability: float | None
    threshold: float
    shown: str
    present: bool
    where: str = ""
    slices: str = ""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture RGB uint8 [rows, columns, 3] of square pixels with its caption."""

    picture: Picture
    caption: str


@dataclass(frozen=True, slots=True)
class Page:
    """What the page says, from top to bottom. warnings change the worth of the answer, remarks are technical.

    more: what stands for warnings and remarks that have no room; the text report has them all.
    """

    tone: Tone
    banner: str
    banner_note: str
    verdict: str
    explanation: str
    looked_at: str = ""
    headings: tuple[str, str, str, str] = ("", "", "", "")
    rows: tuple[Row, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    more: str = ""
    facts: tuple[str, ...] = ()
    disclaimer: str = ""


def page_shape(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of the page for a source of this size: the same, or enlarged until both are ≥ 512."""
    factor = max(1.0, SMALLEST / min(rows, columns))
    return round(rows * factor), round(columns * factor)


def draw_page(page: Page, rows: int, columns: int, squeeze: tuple[float, float] = (1.0, 1.0)) -> Picture:
    """RGB uint8 [rows, columns, 3]; `squeeze` is rows and columns per display pixel, for pixels that are not square."""
    width, height = round(columns / squeeze[1]), round(rows / squeeze[0])
    sheet = _Sheet(width, height)
    sheet.banner(page)
    sheet.verdict(page)
    sheet.table(page)
    foot = sheet.foot(page)
    sheet.thumbnails(page.thumbnails, foot)
    image = sheet.image
    if (width, height) != (columns, rows):
        image = image.resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(image)


def _fitting(lines: list[TextLine], room: float, more: TextLine) -> list[TextLine]:
    """As many of `lines`, in their order, as `room` (letter heights, pixels) holds, with `more` for the others."""
    if not lines or sum(line.size for line in lines) <= room:
        return lines
    shown: list[TextLine] = []
    for line in lines:
        if sum(other.size for other in shown) + line.size + more.size > room:
            break
        shown.append(line)
    return [*shown, more] if more.text else shown


def _few_lines(line: TextLine, room: float) -> list[TextLine]:
    """The words on one line, condensed if need be, where that holds them; else wrapped."""
    condensed = TextLine(line.text, line.size, line.colour, line.weight, 75)
    return [condensed] if text_width(condensed) <= room < text_width(line) else wrapped(line, room)


class _Sheet:
    """A page being drawn from top to bottom; `unit` is 1/512 of its shorter side, `y` how far it is."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)
        self._unit = min(width, height) / 512
        side = min(width, height * 1.25)
        self._left = (width - side) / 2 + 14 * self._unit
        self._right = width - self._left
        self._y = 12 * self._unit

    def banner(self, page: Page) -> None:
        """Priority as word, shape and colour."""
        u, (ground, ink) = self._unit, TONES[page.tone]
        box = [self._left, self._y, self._right, self._y + 52 * u]
        self._draw.rounded_rectangle(box, radius=7 * u, fill=ground)
        if page.tone == "NOT ANALYSED":
            self._dashes(box)
        middle = self._y + 26 * u
        self._shape(page.tone, self._left + 30 * u, middle, 13 * u, ink)
        self._write(TextLine(page.banner, 31 * u, ink, 700), self._left + 56 * u, middle, "lm")
        used = text_width(TextLine(page.banner, 31 * u, ink, 700)) + 76 * u
        note = fitted(TextLine(page.banner_note, 15 * u, ink, 500), self._right - self._left - used - 14 * u)
        self._write(note, self._right - 16 * u, middle, "rm")
        self._y += 66 * u

    def verdict(self, page: Page) -> None:
        """The answer in large type, and what goes with it."""
        u, room = self._unit, self._right - self._left
        lines = wrapped(TextLine(page.verdict, 27 * u, TEXT, 600, 92), room)
        if len(lines) > 1 and page.thumbnails:  # which need the room
            lines = wrapped(TextLine(page.verdict, 20 * u, TEXT, 600, 92), room)
        if len(lines) > 4:  # a long reason
            lines = wrapped(TextLine(page.verdict, 19 * u, TEXT, 600, 92), room)[:9]
        for line in lines:
            self._write(line, self._left, self._y, "la")
            self._y += 1.26 * line.size
        size = 19 if page.tone == "NOT ANALYSED" else 16
        lines = _few_lines(TextLine(page.explanation, size * u, TEXT, 400, 95), room)
        if page.thumbnails and len(lines) > 2:  # the table has it all; the pictures have nowhere else to go
            lines = [lines[0], fitted(TextLine(f"{lines[1].text} {lines[2].text}", size * u, TEXT, 400, 95), room)]
        for line in lines:
            self._write(line, self._left, self._y, "la")
            self._y += 1.32 * size * u
        for line in wrapped(TextLine(page.looked_at, 13 * u, QUIET, 400, 95), room) if page.looked_at else []:
            self._write(line, self._left, self._y, "la")
            self._y += 1.32 * line.size
        self._y += 6 * u

    def table(self, page: Page) -> None:
        """One row per type: name, bar with the threshold, probability, side and site, slices."""
        if not page.rows:
            return
        u = self._unit
        step = (20 if page.thumbnails else 30) * u  # pictures need the room more than the table
        top = self._y
        bottom = top + 22 * u + step * len(page.rows)
        self._draw.rounded_rectangle([self._left, top, self._right, bottom], radius=6 * u, fill=PANEL)
        located = any(row.where or row.slices for row in page.rows)
        stops = self._stops(located)
        columns = ((stops[0], "lm"), (stops[2], "rm"), (stops[3], "lm"), (stops[4], "rm"))
        for text, (x, anchor) in list(zip(page.headings, columns, strict=True))[: 4 if located else 2]:
            self._write(TextLine(text, 11.5 * u, QUIET, 400), x, top + 12 * u, anchor)
        for index, row in enumerate(page.rows):
            self._row(row, top + 20 * u + step * (index + 0.5), stops)
        self._y = bottom + 10 * u

    def foot(self, page: Page) -> float:
        """Disclaimer, facts and warnings, from the lower edge upwards; the y where they begin."""
        u, room = self._unit, self._right - self._left
        y = self.image.height - 24 * u
        self._draw.rectangle([0, y, self.image.width, self.image.height], fill=PANEL)
        self._write(fitted(TextLine(page.disclaimer, 14 * u, TEXT, 600), room), self.image.width / 2, y + 12 * u, "mm")
        y -= 5 * u
        facts = [line for text in page.facts for line in _few_lines(TextLine(text, 11.5 * u, QUIET, 400, 85), room)]
        remarks = [line for text in page.remarks for line in wrapped(TextLine(text, 11.5 * u, QUIET, 400, 85), room)]
        notes = [line for text in page.warnings for line in wrapped(TextLine(f"! {text}", 13 * u, WARNING, 500), room)]
        reserved = (THUMBNAIL + CAPTION + 8) * u if page.thumbnails else 0
        free = y - self._y - reserved - sum(1.28 * line.size for line in facts)
        shown = _fitting(notes, free / 1.28, TextLine(page.more, 11.5 * u, QUIET, 400, 85))
        left = free / 1.28 - sum(line.size for line in shown)
        shown = [*shown, *_fitting(remarks, left, TextLine("", 0))]  # technical: the text report has them all
        for line in [*reversed(facts), *reversed(shown)]:
            y -= 1.28 * line.size
            self._write(line, self._left, y, "la")
        return y

    def thumbnails(self, thumbnails: tuple[Thumbnail, ...], bottom: float) -> None:
        """As many of the best slices as fit side by side between the table and the foot."""
        u = self._unit
        caption = CAPTION * u
        side = int(min(bottom - self._y - caption - 6 * u, (self._right - self._left - 16 * u) / 3))
        if side < SMALLEST_THUMBNAIL * u:
            return
        shown = thumbnails[:3]
        x = self.image.width / 2 - (len(shown) * (side + 8 * u) - 8 * u) / 2
        for thumbnail in shown:
            small = Image.fromarray(thumbnail.picture)
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
            self.image.paste(small, (round(x + (side - small.width) / 2), round(self._y + (side - small.height) / 2)))
            self._write(
                fitted(TextLine(thumbnail.caption, 12 * u, TEXT, 400, 90), side + 6 * u),
                x + side / 2,
                self._y + side + 2 * u,
                "ma",
            )
            x += side + 8 * u

    def _row(self, row: Row, y: float, stops: tuple[float, ...]) -> None:
        u = self._unit
        ink, weight = (TEXT, 600) if row.present else (QUIET, 400)
        self._write(fitted(TextLine(row.name, 14 * u, ink, weight, 92), stops[1] - stops[0] - 6 * u), stops[0], y, "lm")
        left, right = stops[1], stops[2] - 46 * u
        self._draw.rounded_rectangle([left, y - 4 * u, right, y + 4 * u], radius=4 * u, fill=TRACK)
        end = left + max(0.0, min(1.0, row.probability or 0.0)) * (right - left)
        if end - left >= 1:
            self._draw.rounded_rectangle(
                [left, y - 4 * u, max(end, left + 3 * u), y + 4 * u],
                radius=4 * u,
                fill=PRESENT if row.present else ABSENT,
            )
        mark = left + row.threshold * (right - left)
        self._draw.line([(mark, y - 7 * u), (mark, y + 7 * u)], fill=TEXT, width=max(1, round(u)))
        self._write(TextLine(row.shown, 14 * u, ink, weight), stops[2], y, "rm")
        room = stops[4] - stops[3] - text_width(TextLine(row.slices, 13 * u, ink, weight, 92)) - 6 * u
        self._write(shrunk(TextLine(row.where, 12.5 * u, ink, weight, 85), room), stops[3], y, "lm")
        self._write(TextLine(row.slices, 13 * u, ink, weight, 92), stops[4], y, "rm")

    def _stops(self, located: bool) -> tuple[float, ...]:
        """x of: name, bar, end of the probability, where, end of the slices; without the last two, longer bars."""
        u, width = self._unit, self._right - self._left
        if not located:
            end = width - 10 * u
            return tuple(self._left + part for part in (10 * u, 0.36 * width, end, end, end))
        return tuple(self._left + part for part in (10 * u, 0.335 * width, 0.53 * width, 0.55 * width, width - 10 * u))

    def _shape(self, tone: Tone, x: float, y: float, r: float, ink: Colour) -> None:
        """▲ STAT, ◆ HIGH, ● ROUTINE, ? not analysed."""
        if tone == "STAT":
            self._draw.polygon([(x, y - r), (x + 1.1 * r, y + 0.85 * r), (x - 1.1 * r, y + 0.85 * r)], fill=ink)
        elif tone == "HIGH":
            self._draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=ink)
        elif tone == "ROUTINE":
            self._draw.ellipse([x - 0.8 * r, y - 0.8 * r, x + 0.8 * r, y + 0.8 * r], fill=ink)
        else:
            self._write(TextLine("?", 2.4 * r, ink, 700), x, y, "mm")

    def _dashes(self, box: list[float]) -> None:
        """A dashed frame: no priority looks like this."""
        u = self._unit
        for y in (box[1], box[3]):
            for x in np.arange(box[0] + 8 * u, box[2] - 10 * u, 14 * u):
                self._draw.line([(x, y), (x + 8 * u, y)], fill=TEXT, width=max(1, round(2 * u)))

    def _write(self, line: TextLine, x: float, y: float, anchor: str) -> None:
        chosen = font(line.size, line.weight, line.width)
        self._draw.text((x, y), line.text, font=chosen, fill=line.colour, anchor=anchor)
