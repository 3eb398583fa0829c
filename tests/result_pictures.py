"""The pictures of results in the documents: phantoms, analysed with the shipped bundle. `make pictures` writes them.

Five pages: a positive, a negative, a scan that ends inside the head, thin slices, a series that is not analysed; and
the picture of the README, the page beside the overlays.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ich_node.domain.findings import Analysis
from ich_node.infer import bundle, pipeline
from ich_node.infer.engine import open_engine
from ich_node.phantom.head import Phantom, phantom
from ich_node.phantom.series import write_series
from ich_node.report import build
from ich_node.report.pictures import previews
from ich_node.runtime.config import Config

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
MADE_AT = datetime(2026, 11, 26, 3, 12, tzinfo=UTC)
THIN = 4
"""Thin slices in one of 5 mm: 1.25 mm, of which the pictures of a finding must not all show the same."""


def series(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Name of a page and the files of its series."""
    bleeding, healthy = phantom("intraparenchymal", seed=3), phantom(None, seed=11)
    yield "positive", write_series(folder / "positive", bleeding, seed=3)
    whole = write_series(folder / "negative", healthy, seed=11)
    yield "negative", whole
    yield "partial", whole[: len(whole) * 2 // 3]
    yield "thin", write_series(folder / "thin", thinner(bleeding), seed=2)
    kernel = {"ConvolutionKernel": "FC30", "SeriesDescription": "HEAD 1.0 FC30"}
    yield "not-analysed", write_series(folder / "not-analysed", healthy, seed=4, attributes=kernel)


@dataclass(frozen=True)
class Head:
    """HU int16 [slices, rows, columns] with its spacing, as `write_series` wants it."""

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]


def thinner(head: Phantom) -> Head:
    """The same head in slices a quarter as thick, straight between those that there are."""
    at = np.linspace(0, len(head.hu) - 1, THIN * (len(head.hu) - 1) + 1)
    low = np.minimum(at.astype(int), len(head.hu) - 2)
    share = (at - low)[:, None, None]
    hu = np.rint((1 - share) * head.hu[low] + share * head.hu[low + 1]).astype(np.int16)
    return Head(hu, (head.spacing_mm[0] / THIN, *head.spacing_mm[1:]))


def pages(analysis: Analysis, folder: Path) -> list[Path]:
    """The summary page and the overlays as PNG."""
    options = Config().report
    results = build.results(analysis, options=options, device_name="ICHNODE", made_at=MADE_AT, predecessor=None)
    folder.mkdir()
    pictures = {name: data for name, data in previews.encode(results.objects).items() if name.endswith(".png")}
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in pictures]


def beside(paths: Sequence[Path]) -> Image.Image:
    """Pictures of one height side by side."""
    images = [Image.open(path).convert("RGB") for path in paths]
    height = min(image.height for image in images)
    scaled = [image.resize((image.width * height // image.height, height)) for image in images]
    return Image.fromarray(np.concatenate([np.asarray(image) for image in scaled], axis=1))


def main() -> None:
    """Write the pictures that are named, or all."""
    wanted = sys.argv[1:]
    settings = Config()
    model = bundle.load(settings.bundle_dir)
    engine = open_engine(settings.infer, model)
    with tempfile.TemporaryDirectory() as scratch:
        for name, paths in series(Path(scratch)):
            if wanted and name not in wanted:
                continue
            shown = pages(pipeline.analyse(paths, model, engine, settings), Path(scratch) / f"{name}.out")
            Image.open(shown[0]).save(IMAGES / f"page-{name}.png", optimize=True)
            if name == "positive":
                beside(shown[:3]).save(IMAGES / "summary.png", optimize=True)
            print(name, len(shown), "pictures", flush=True)


if __name__ == "__main__":
    main()
