"""Contact sheets: what the network really sees of a source, before and after augmentation, to be looked at first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

COLUMNS = 8  # chosen: tiles that fit a screen
TILE = 192  # chosen: a screen of eight tiles
WINDOW_HU = (0.0, 80.0)  # the brain window: 40 ± 40


def write(path: Path, rows: list[npt.NDArray[np.floating]]) -> None:
    """Images of HU [n, h, w], every item of `rows` below the last; the outline of the head box is not drawn."""
    tiles = [_tile(image) for images in rows for image in _filled(images)]
    lines = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(lines)).save(path)


def _filled(images: npt.NDArray[np.floating]) -> list[npt.NDArray[np.floating]]:
    """The images, and air up to a whole line."""
    lacking = -len(images) % COLUMNS
    return [*images, *[np.full(images.shape[1:], -1000.0)] * lacking]


def _tile(image: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    low, high = WINDOW_HU
    grey = np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((TILE, TILE), Image.Resampling.BILINEAR))
