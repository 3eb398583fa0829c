"""The headers of the RSNA set as one table that fits into memory, and into the disk line by line.

The set has 752,803 files. Their headers are read once, in the order of the names, and written as lines; a run that was
stopped goes on after the last whole line. In memory a file takes about thirty bytes; objects exist for one series at a
time.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError

TAGS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
ID_BYTES = 15  # ID_ and twelve hexadecimal digits
FLUSH_EVERY = 1000  # lines: what a stopped run reads again


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the set: its ID and what groups and orders it (position_mm along the slice normal)."""

    id: str
    patient: str
    series: str
    position_mm: float
    orientation: tuple[float, ...]
    pixel_mm: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """One series: IDs from foot to head with their positions_mm, the number of its patient, and its geometry."""

    ids: tuple[str, ...]
    positions_mm: npt.NDArray[np.float32]
    patient: int
    orientation: tuple[float, ...]
    pixel_mm: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """All images, by their place in the table. id: S15. patient, series: numbers in the order of appearance.

    geometry: float32 [series, 8], orientation and pixel spacing of the first image of each.
    """

    id: npt.NDArray[np.bytes_]
    patient: npt.NDArray[np.int32]
    series: npt.NDArray[np.int32]
    position_mm: npt.NDArray[np.float32]
    geometry: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """The number of series."""
        return len(self.geometry)

    def groups(self) -> Iterator[Group]:
        """The series of the set, each from foot to head."""
        order = np.lexsort((self.position_mm, self.series))
        ends = np.searchsorted(self.series[order], np.arange(len(self)), side="right")
        start = 0
        for number, end in enumerate(ends):
            own = order[start:end]
            start = end
            values = tuple(float(value) for value in self.geometry[number])
            ids = tuple(str(name, "ascii") for name in self.id[own])
            yield Group(ids, self.position_mm[own], int(self.patient[own[0]]), values[:6], (values[6], values[7]))


def read_header(path: Path) -> Image | None:
    """One image, named by its file; None when the file is no DICOM."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
    except InvalidDicomError:
        return None
    orientation = tuple(float(v) for v in header.ImageOrientationPatient)
    normal = np.cross(orientation[:3], orientation[3:])
    position = np.array([float(v) for v in header.ImagePositionPatient])
    return Image(
        id=path.stem,
        patient=str(header.PatientID),
        series=str(header.SeriesInstanceUID),
        position_mm=float(normal @ position),
        orientation=orientation,
        pixel_mm=(float(header.PixelSpacing[0]), float(header.PixelSpacing[1])),
    )


def write(names: Iterable[str], read: Callable[[str], Image | None], path: Path) -> None:
    """Write a line for every image of `names`, which come in ascending order; goes on after the last whole line."""
    last = _mend(path)
    with path.open("a", encoding="ascii") as stream:
        for count, name in enumerate(names):
            if name <= last:
                continue
            image = read(name)
            if image is not None:
                numbers = (image.position_mm, *image.orientation, *image.pixel_mm)
                words = (image.id, image.patient, image.series, *(f"{number:.6g}" for number in numbers))
                stream.write(",".join(words) + "\n")
            if count % FLUSH_EVERY == 0:
                stream.flush()


def _mend(path: Path) -> str:
    """Cut off a line that a stopped run left half written; the ID of the last whole one, "" without any."""
    if not path.exists():
        return ""
    whole, last = 0, b""
    with path.open("rb+") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                whole, last = whole + len(line), line
        stream.truncate(whole)
    return last.partition(b",")[0].decode("ascii")


def read(path: Path) -> Index:
    """The table in memory."""
    ids, patient, series, position = bytearray(), array("i"), array("i"), array("f")
    patients: dict[str, int] = {}
    groups: dict[str, int] = {}
    geometry = array("f")
    with path.open(encoding="ascii") as stream:
        for line in stream:
            name, who, which, place, *numbers = line.rstrip("\n").split(",")
            ids += name.encode("ascii").ljust(ID_BYTES, b"\0")
            patient.append(patients.setdefault(who, len(patients)))
            if which not in groups:
                groups[which] = len(groups)
                geometry.extend(map(float, numbers))
            series.append(groups[which])
            position.append(float(place))
    return Index(
        id=np.frombuffer(bytes(ids), f"S{ID_BYTES}"),
        patient=np.array(patient, np.int32),
        series=np.array(series, np.int32),
        position_mm=np.array(position, np.float32),
        geometry=np.array(geometry, np.float32).reshape(-1, 8),
    )
