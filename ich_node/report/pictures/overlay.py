"""One CT slice as a radiologist wants to see it: brain window, activation map, contour, words in the corners.

In: HU and heat of one slice on its own grid, its orientation and pixel size, and the words (decided elsewhere). Out: an
RGB picture on the same grid. The heat map keeps the CT's own lightness, so that the bleeding stays visible below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from ich_node.report.pictures.colour_map import heat_table
from ich_node.report.pictures.drawing import (
    GREY,
    PLATE_ALPHA,
    WHITE,
    Picture,
    TextLine,
    fitted,
    font,
    label,
    place,
    shrunk,
    squeezed,
)

WINDOW_CENTRE, WINDOW_WIDTH = 40, 80
"""Brain window in HU: 0 is black, 80 is white (PS3.3 C.11.2.1.2)."""
BONE_HU = 300  # chosen: bone alone; plastic of a headrest is below
COARSE = 4  # chosen: every fourth pixel tells where the head is
NEARBY = 7  # chosen: wider than the contour is drawn
MOVE = 0.15
"""Words change sides only when that frees this share of their area: readers look where they looked before."""
OPACITY = 0.5  # chosen: the CT stays visible below
FADE_IN = 0.25
"""The map is invisible below this fraction of the threshold and reaches its full opacity at the threshold."""
CONTOUR = np.array([0, 229, 255], np.float32)  # chosen: cyan, which neither a CT nor the heat map has
SECOND_LETTER = np.sin(np.deg2rad(20.0))  # chosen: sine of 20°; a gantry tilt below it needs no second letter

Heat = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Words:
    """What is written on a picture. title: label and probability; details: further lines below it.

    corner: lines in the other upper corner; scale: name of the colour bar; disclaimer: along the lower edge.
    """

    title: str
    details: tuple[str, ...]
    corner: tuple[str, ...]
    scale: str
    disclaimer: str


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixels of a slice. orientation: ImageOrientationPatient; pixel_mm: distance between rows, between columns."""

    orientation: tuple[float, ...]
    pixel_mm: tuple[float, float]

    @property
    def squeeze(self) -> tuple[float, float]:
        """Rows and columns of this grid per display pixel, where a display pixel is the smaller of the two sizes."""
        unit = min(self.pixel_mm)
        return unit / self.pixel_mm[0], unit / self.pixel_mm[1]


def picture(hu: npt.NDArray[np.int16], heat: Heat | None, threshold: float, grid: Grid, words: Words) -> Picture:
    """RGB uint8 [rows, columns, 3] of HU int16 [rows, columns] with heat float32 0..1 [rows, columns] upon it."""
    image = anatomy(hu, heat, threshold)
    size = letter_size(image, grid)
    _edges(image, grid, size)
    _corners(image, hu, grid, words, size)
    if heat is not None:
        bar = colour_bar(round(size * 9), size, threshold, words.scale, grid.squeeze)
        row = image.shape[0] - bar.shape[0] - round(1.9 * size * grid.squeeze[0])
        place(image, bar, row, _emptier_side(hu, bar, row, round(size * 0.3), first="right"))
    return image


def anatomy(hu: npt.NDArray[np.int16], heat: Heat | None, threshold: float) -> Picture:
    """RGB uint8 [rows, columns, 3]: CT in the brain window, heat map and contour, no words."""
    image = np.empty((*hu.shape, 3), np.uint8)
    grey = brain_window(hu)
    for channel in range(3):  # three planes one by one: a quarter of the time of one broadcast
        image[..., channel] = grey
    if heat is not None:
        _paint(image, heat, threshold)
    return image


def thumbnail(hu: npt.NDArray[np.int16], heat: Heat, threshold: float, grid: Grid, size: int) -> Picture:
    """RGB uint8 [size, size, 3] of square pixels: the head alone, drawn anew at this size so that the contour stays."""
    top, bottom, left, right = _head_box(hu)
    tall, wide = (bottom - top) / grid.squeeze[0], (right - left) / grid.squeeze[1]
    scale = size / max(tall, wide)
    fitting = max(1, round(wide * scale)), max(1, round(tall * scale))

    def shrunk(plane: npt.NDArray[np.generic], outside: float) -> npt.NDArray[np.float32]:
        part = Image.fromarray(np.ascontiguousarray(plane[top:bottom, left:right], np.float32))
        canvas = np.full((size, size), outside, np.float32)
        row, column = (size - fitting[1]) // 2, (size - fitting[0]) // 2
        canvas[row : row + fitting[1], column : column + fitting[0]] = np.asarray(
            part.resize(fitting, Image.Resampling.BOX)
        )
        return canvas

    small = shrunk(np.clip(hu, -100, 200), -100)
    return anatomy(np.rint(small).astype(np.int16), shrunk(heat, 0), threshold)


def brain_window(hu: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """HU → 0..255 in the brain window, linear exact (PS3.3 C.11.2.1.3.2)."""
    low = WINDOW_CENTRE - WINDOW_WIDTH // 2
    levels = (np.arange(WINDOW_WIDTH + 1) * 255 + WINDOW_WIDTH // 2) // WINDOW_WIDTH
    return levels.astype(np.uint8)[np.clip(hu, low, low + WINDOW_WIDTH) - low]


def opacity(heat: Heat, threshold: float) -> Heat:
    """Opacity 0..OPACITY of the heat map: nothing where the map is low, a smooth step up to the threshold."""
    ramp = np.clip((heat / max(threshold, 1e-3) - FADE_IN) / (1 - FADE_IN), 0, 1)
    return np.asarray(OPACITY * ramp * ramp * (3 - 2 * ramp), np.float32)


def contour_distance(heat: Heat, threshold: float) -> Heat:
    """Distance in pixels of every pixel to the line heat = threshold, to first order: |value| / |gradient|.

    Infinite where nothing within NEARBY / 2 pixels lies on the other side: the map also ends abruptly, at the skull.
    """
    down, right = np.gradient(heat)
    distance = np.abs(heat - threshold) / np.maximum(np.sqrt(down * down + right * right), 1e-6)
    highest, lowest = ndimage.maximum_filter(heat, NEARBY), ndimage.minimum_filter(heat, NEARBY)
    return np.asarray(np.where((lowest < threshold) & (threshold <= highest), distance, np.inf), np.float32)


def coverage(distance: Heat, width: float) -> Heat:
    """How much 0..1 of each pixel a line of `width` pixels covers."""
    return np.asarray(np.clip(width / 2 + 0.5 - distance, 0, 1), np.float32)


def edge_letters(orientation: Sequence[float], second: float = float(SECOND_LETTER)) -> tuple[str, str, str, str]:
    """Letters of the patient's directions at the left, right, top and bottom edge (PS3.3 C.7.6.1.1.1).

    A second letter is given for a direction more than 20° off the first one's axis.
    """
    row, column = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    return _letters(-row, second), _letters(row, second), _letters(-column, second), _letters(column, second)


def patient_orientation(orientation: Sequence[float]) -> tuple[str, str]:
    """Patient Orientation (0020,0020): the patient's direction along rows and along columns."""
    _, along_rows, _, along_columns = edge_letters(orientation)
    return along_rows, along_columns


def letter_size(image: Picture, grid: Grid) -> float:
    """Height of ordinary letters in display pixels: one thirtieth of the shorter side, so 17 at 512."""
    shape = (image.shape[0] / grid.squeeze[0], image.shape[1] / grid.squeeze[1])
    return float(min(shape)) / 30


def _head_box(hu: npt.NDArray[np.int16]) -> tuple[int, int, int, int]:
    """First and last + 1 row and column of the largest piece of bone with a margin: no headrest. Without bone, all."""
    pieces, count = ndimage.label(hu[::COARSE, ::COARSE] > BONE_HU, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    if sizes.max(initial=0) * COARSE**2 < 100:
        return 0, hu.shape[0], 0, hu.shape[1]
    skull = pieces == 1 + int(np.argmax(sizes))
    box = []
    for axis, size in enumerate(hu.shape):
        lit = np.flatnonzero(skull.any(1 - axis)) * COARSE
        margin = round(0.06 * float(np.ptp(lit)) + COARSE)
        box += [max(0, int(lit[0]) - margin), min(size, int(lit[-1]) + 1 + margin)]
    return box[0], box[1], box[2], box[3]


def _paint(image: Picture, heat: Heat, threshold: float) -> None:
    """Heat map and contour onto `image`, in the smallest box that holds what is visible of them."""
    visible = heat > FADE_IN * threshold
    if not visible.any():
        return
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    box = np.s_[max(0, rows[0] - 3) : rows[-1] + 4, max(0, columns[0] - 3) : columns[-1] + 4]
    part = heat[box]
    under = image[box].astype(np.float32)
    colour = heat_table()[np.clip(part * 255, 0, 255).astype(np.uint8)].astype(np.float32)
    light = 0.35 + 0.65 * under / 255  # the CT's own lightness shows through the colour
    alpha = opacity(part, threshold)[..., None]
    mixed = under * (1 - alpha) + colour * light * alpha
    thickness = max(1.2, min(image.shape[:2]) / 380)
    if min(part.shape) > 1:
        distance = contour_distance(part, threshold)[..., None]
        line = coverage(distance, thickness)
        mixed *= (1 - 0.6 * coverage(distance, thickness + 1.6)) * (1 - line)
        mixed += CONTOUR * line
    image[box] = np.rint(mixed).astype(np.uint8)


def _letters(direction: npt.NDArray[np.float64], second: float) -> str:
    names = ["L" if direction[0] > 0 else "R", "P" if direction[1] > 0 else "A", "H" if direction[2] > 0 else "F"]
    strength = np.abs(direction)
    order = np.argsort(-strength, kind="stable")[:2]
    return "".join(names[axis] for rank, axis in enumerate(order) if rank == 0 or strength[axis] > second)


def _edges(image: Picture, grid: Grid, size: float) -> None:
    """Orientation letters in the middle of the four edges."""
    height, width = image.shape[:2]
    margin = round(size * 0.2)
    for side, letters in zip(("left", "right", "top", "bottom"), edge_letters(grid.orientation), strict=True):
        patch = label((TextLine(letters, size * 1.1, WHITE, 600),), "centre", grid.squeeze)
        tall, wide = patch.shape[:2]
        row = {"top": margin, "bottom": height - tall - margin}.get(side, (height - tall) // 2)
        column = {"left": margin, "right": width - wide - margin}.get(side, (width - wide) // 2)
        if side == "bottom":
            row -= round(1.5 * size * grid.squeeze[0])
        place(image, patch, row, column)


def _corners(image: Picture, hu: npt.NDArray[np.int16], grid: Grid, words: Words, size: float) -> None:
    """Title and details in one upper corner, what is said of the whole study in the other, disclaimer at the foot."""
    height, width = image.shape[:2]
    margin = round(size * 0.3)
    room = width / grid.squeeze[1] * 0.46
    lines = [shrunk(TextLine(words.title, size * 1.15, WHITE, 600, 85), room)]
    lines += [shrunk(TextLine(text, size * 0.95, WHITE, 400, 85), room) for text in words.details]
    patch = label(tuple(lines), "left", grid.squeeze)
    column = _emptier_side(hu, patch, margin, margin, first="left")
    place(image, label(tuple(lines), "left" if column == margin else "right", grid.squeeze), margin, column)
    if words.corner:
        align = "right" if column == margin else "left"
        patch = label(
            tuple(fitted(TextLine(t, size * 0.95, GREY, 400, 85), room) for t in words.corner), align, grid.squeeze
        )
        place(image, patch, margin, width - patch.shape[1] - margin if align == "right" else margin)
    foot = fitted(TextLine(words.disclaimer, size * 0.95, WHITE, 500, 90), width / grid.squeeze[1] * 0.96)
    patch = label((foot,), "centre", grid.squeeze)
    place(image, patch, height - patch.shape[0] - 1, (width - patch.shape[1]) // 2)


def _emptier_side(
    hu: npt.NDArray[np.int16], patch: Picture, row: int, margin: int, first: Literal["left", "right"]
) -> int:
    """Column for a patch at the left or right edge: `first`, unless it hides more of the head than the other."""
    tall, wide = patch.shape[:2]
    columns: dict[str, int] = {"left": margin, "right": hu.shape[1] - wide - margin}
    hidden = {
        side: int(np.count_nonzero(hu[max(0, row) : row + tall, max(0, column) : column + wide] > 0))
        for side, column in columns.items()
    }
    other = "left" if first == "right" else "right"
    return columns[other if hidden[first] > hidden[other] + MOVE * tall * wide else first]


@lru_cache(maxsize=32)
def colour_bar(height: int, size: float, threshold: float, name: str, squeeze: tuple[float, float]) -> Picture:
    """RGBA patch: the map's colours from 0 to 1 with ticks, the threshold marked in the contour's colour."""
    small = font(size * 0.8, 400, 85)
    wide = round(size * 0.8)
    room = round(max(small.getlength("0.00"), small.getlength(name) - wide) + size * 0.9)
    image = Image.new("RGBA", (wide + room, height + round(size * 2.0)), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    top, left = round(size * 1.3), image.width - wide - round(size * 0.2)
    draw.rectangle([image.width - small.getlength(name) - size * 0.5, 0, image.width, top], fill=(0, 0, 0, PLATE_ALPHA))
    draw.rectangle([left - size * 1.6, top, image.width, image.height], fill=(0, 0, 0, PLATE_ALPHA))
    draw.text((image.width - size * 0.2, size * 0.85), name, font=small, fill=(*WHITE, 255), anchor="rs")
    values = np.linspace(1, 0, height)
    colours = heat_table()[np.rint(values * 255).astype(int)]
    strip = np.repeat(np.concatenate([colours, np.full((height, 1), 255, np.uint8)], axis=1)[:, None], wide, axis=1)
    image.paste(Image.fromarray(np.ascontiguousarray(strip, np.uint8)), (left, top))
    for value in (0.0, 0.5, 1.0):
        _tick(draw, f"{value:g}", left, top + (1 - value) * (height - 1), size, WHITE)
    mark = top + (1 - threshold) * (height - 1)
    cyan = tuple(int(part) for part in CONTOUR)
    draw.line([(left - size * 0.25, mark), (left + wide, mark)], fill=(*cyan, 255), width=max(1, round(size / 9)))
    return squeezed(np.asarray(image), squeeze)


def _tick(
    draw: ImageDraw.ImageDraw, text: str, left: float, y: float, size: float, colour: tuple[int, int, int]
) -> None:
    draw.line([(left - size * 0.2, y), (left, y)], fill=(*colour, 255), width=1)
    draw.text((left - size * 0.35, y), text, font=font(size * 0.8, 400, 85), fill=(*colour, 255), anchor="rm")
