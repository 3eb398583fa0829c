"""Pictures for the browser: a CT slice in a window, and the map that was sent for a key slice.

Slices are read from the files as received, by the pipeline's own reader; the map is the Secondary Capture that the PACS
got, so that the board shows what the radiologist's viewer shows, and nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.uid import SecondaryCaptureImageStorage

from ich_node.dicom.part10 import read_header
from ich_node.domain.errors import UnidentifiableInstance, UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see import pixels

WINDOWS_HU = {"brain": (40.0, 80.0), "subdural": (75.0, 215.0), "bone": (600.0, 2800.0)}
"""Centre and width as head CT is read (the subdural and bone windows of the RSNA 2019 readers' guide)."""
CACHED = 256  # PNGs of about 100 KB: a reader scrolls back and forth through one or two heads
THUMBNAIL_PX = 96  # chosen: a third more than the 72 at which the list shows it, for sharper screens


@lru_cache(maxsize=CACHED)
def slice_png(path: Path, frame_number: int | None, window: str) -> bytes:
    """One slice as an 8-bit grey PNG. KeyError for a window that is none, UnusableSeries for a file that is none."""
    centre, width = WINDOWS_HU[window]
    image = pixels.open_image(path)
    hu = pixels.frame_hu(image, frame_number).astype(np.float32)
    return _png(((hu - (centre - width / 2)) / width * 255).clip(0, 255).astype(np.uint8))


@lru_cache(maxsize=CACHED)
def result_png(path: Path, largest_px: int | None = None) -> bytes:
    """A Secondary Capture of ours as PNG, no side longer than `largest_px`. UnusableSeries when it is none."""
    try:
        rgb = pydicom.dcmread(path).pixel_array
    except (OSError, ValueError, AttributeError, pydicom.errors.InvalidDicomError) as error:
        raise UnusableSeries(Reason(Why.NOT_READABLE)) from error
    return _png(rgb, largest_px)


@dataclass(frozen=True, slots=True)
class Sent:
    """The pictures that a PACS got for a job. maps: by SOP Instance UID and frame number of the slice below."""

    summary: Path | None
    maps: Mapping[tuple[str, int | None], Path]


@lru_cache(maxsize=CACHED)
def sent(results: Path) -> Sent:
    """The pictures in a results folder: the summary page is the first of its series, the others lie on a slice each."""
    summary, maps = None, {}
    for path in sorted(results.glob("*.dcm")):
        header = _header(path)
        if header.get("SOPClassUID") != SecondaryCaptureImageStorage:
            continue
        if header.get("InstanceNumber") == 1:
            summary = path
            continue
        for source in header.get("SourceImageSequence") or []:
            frame = source.get("ReferencedFrameNumber")
            maps[str(source.ReferencedSOPInstanceUID), None if frame is None else int(frame)] = path
    return Sent(summary, maps)


def _header(path: Path) -> pydicom.Dataset:
    try:
        return read_header(path, ["SOPClassUID", "InstanceNumber", "SourceImageSequence"])
    except (OSError, UnidentifiableInstance):
        return pydicom.Dataset()


def _png(pixels_: npt.NDArray[np.uint8], largest_px: int | None = None) -> bytes:
    picture = Image.fromarray(pixels_)
    if largest_px is not None:
        picture.thumbnail((largest_px, largest_px))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # a quarter of a second a head sooner than the default
    return buffer.getvalue()
