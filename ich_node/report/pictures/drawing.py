"""Text and shapes as small RGBA patches, and how they get onto a picture.

The font is IBM Plex Sans (SIL Open Font License, fonts/OFL.txt), one variable file with weight and width axes, shipped
with the package so that a picture is the same on every machine. A patch is drawn for square pixels and then squeezed
to the picture's own, so that letters look right when a viewer honours Pixel Spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

FONT = Path(__file__).parent / "fonts" / "IBMPlexSans.ttf"

Colour = tuple[int, int, int]
Picture = npt.NDArray[np.uint8]

WHITE: Colour = (240, 243, 245)  # chosen: less glaring than full white in a dark room
GREY: Colour = (158, 166, 173)  # chosen: a step back from WHITE, still legible on black
PLATE_ALPHA = 150  # chosen: of 255; letters stand out, and the image shows through


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text. size: of the letters, in pixels of the shorter display axis. weight 100–700, width 75–100."""

    text: str
    size: float
    colour: Colour = WHITE
    weight: int = 400
    width: int = 100


@lru_cache(maxsize=64)
def font(size: float, weight: int = 400, width: int = 100) -> ImageFont.FreeTypeFont:
    """The font at a size in pixels."""
    loaded = ImageFont.truetype(str(FONT), max(6.0, size), layout_engine=ImageFont.Layout.BASIC)
    loaded.set_variation_by_axes([weight, width])
    return loaded


def text_width(line: TextLine) -> float:
    """Advance width in pixels."""
    return font(line.size, line.weight, line.width).getlength(line.text)


def fitted(line: TextLine, width: float) -> TextLine:
    """The same line, condensed and then cut with an ellipsis until it is at most `width` pixels wide."""
    if text_width(line) <= width:
        return line
    line = TextLine(line.text, line.size, line.colour, line.weight, 75)
    text = line.text
    while text_width(line) > width and len(text) > 1:
        text = text[:-1].rstrip()
        line = TextLine(f"{text}…", line.size, line.colour, line.weight, line.width)
    return line


def shrunk(line: TextLine, width: float) -> TextLine:
    """The same line, condensed and then smaller (down to 0.7 of its size), so that its end stays; cut only then."""
    if not line.text:
        return line
    condensed = TextLine(line.text, line.size, line.colour, line.weight, 75)
    if text_width(line) <= width or text_width(condensed) <= width:
        return line if text_width(line) <= width else condensed
    size = line.size * max(0.7, width / text_width(condensed) * 0.99)
    return fitted(TextLine(line.text, size, line.colour, line.weight, 75), width)


def wrapped(line: TextLine, width: float) -> list[TextLine]:
    """The same words on as many lines of at most `width` pixels as they need; a longer word is cut."""
    lines: list[TextLine] = []
    current = ""
    for word in line.text.split():
        longer = f"{current} {word}".strip()
        if current and text_width(_said(line, longer)) > width:
            lines.append(_said(line, current))
            current = word
        else:
            current = longer
    return [fitted(each, width) for each in [*lines, _said(line, current)]]


def _said(line: TextLine, text: str) -> TextLine:
    return TextLine(text, line.size, line.colour, line.weight, line.width)


@lru_cache(maxsize=512)
def label(lines: tuple[TextLine, ...], align: str = "left", squeeze: tuple[float, float] = (1.0, 1.0)) -> Picture:
    """Lines of text, each on a dark plate of its own width, as RGBA [rows, columns, 4]; `squeeze` is the picture's."""
    pad = round(max(line.size for line in lines) * 0.28)
    widths = [text_width(line) for line in lines]
    heights = [line.size * 1.22 for line in lines]
    size = (int(max(widths)) + 2 * pad + 1, int(sum(heights)) + pad + 1)
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    y = pad * 0.5
    placed = []
    for line, width, height in zip(lines, widths, heights, strict=True):
        x = pad + {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * (size[0] - 2 * pad - width)
        draw.rectangle([x - pad, y - pad * 0.5, x + width + pad, y + height + pad * 0.5], fill=(0, 0, 0, PLATE_ALPHA))
        placed.append((line, x, y + height * 0.82))
        y += height
    for line, x, baseline in placed:  # after all plates, so that none covers a descender
        chosen = font(line.size, line.weight, line.width)
        draw.text((x, baseline), line.text, font=chosen, fill=(*line.colour, 255), anchor="ls")
    return squeezed(np.asarray(image), squeeze)


def squeezed(patch: Picture, squeeze: tuple[float, float]) -> Picture:
    """A patch resampled to the picture's pixels."""
    if squeeze == (1.0, 1.0):
        return patch
    size = (max(1, round(patch.shape[1] * squeeze[1])), max(1, round(patch.shape[0] * squeeze[0])))
    return np.asarray(Image.fromarray(patch).resize(size, Image.Resampling.BOX))


def place(picture: Picture, patch: Picture, row: int, column: int) -> None:
    """Blend an RGBA patch into an RGB picture, its first pixel at (row, column); what lies outside is left out."""
    top, left = max(0, row), max(0, column)
    bottom, right = min(picture.shape[0], row + patch.shape[0]), min(picture.shape[1], column + patch.shape[1])
    if top >= bottom or left >= right:
        return
    part = patch[top - row : bottom - row, left - column : right - column]
    under = picture[top:bottom, left:right]
    alpha = part[..., 3:].astype(np.uint16)
    under[:] = (part[..., :3] * alpha + under * (255 - alpha) + 127) // 255


def stacked(patches: Sequence[Picture]) -> int:
    """Rows that patches take on top of each other."""
    return sum(patch.shape[0] for patch in patches)
