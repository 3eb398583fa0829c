"""OHIF in headless Chromium, fed by Orthanc, shows what we made: pictures, the outline on its slice, the text.

The screenshots are kept in .ci/out/ohif/ for people to look at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis_builder import make_analysis, write_series
from conftest import Orthanc, require
from PIL import Image

from ich_node.report import build, encoding
from ich_node.runtime.config import ReportConfig
from tests.ports import free_port

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

HERE = Path(__file__).resolve().parent / "ohif"
OUT = Path(__file__).resolve().parents[2] / ".ci" / "out" / "ohif"
MADE_AT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)
DICOMWEB = {
    "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
    "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True, "WadoRoot": "/wado"},
}
VIEWPORT = (300, 60, 1350, 885)
"""Left, top, right, bottom of the image area in a screenshot."""


def study(folder: Path, kind: str, **variation: Any) -> tuple[str, list[Path]]:
    """A source and its results as files; the Study Instance UID."""
    analysis = make_analysis(kind, **variation)
    results = build.results(analysis, options=ReportConfig(), device_name="ICHNODE", made_at=MADE_AT, predecessor=None)
    folder.mkdir()
    for each in results.objects:
        (folder / f"{each.SOPInstanceUID}.dcm").write_bytes(encoding.part10(each))
    write_series(folder, analysis if analysis.volume else make_analysis("negative", **variation))
    return analysis.study_uid, sorted(folder.glob("*.dcm"))


@pytest.fixture
def look(make_orthanc: Any, tmp_path: Path) -> Iterator[Any]:
    """look(kind, series…): what OHIF shows of each series of such a study, in the order of the names."""
    require("Orthanc", "node", "chromium")
    installed = all((HERE / name).exists() for name in ("node_modules/playwright-core", "app/dist/index.html"))
    if not installed:
        missing = "needs tests/interop/ohif/install.sh"
        pytest.fail(missing) if os.environ.get("ICH_NODE_REQUIRE_INTEROP") else pytest.skip(missing)
    servers: list[subprocess.Popen[bytes]] = []

    def show(kind: str, *series: str) -> list[dict[str, Any]]:
        archive: Orthanc = make_orthanc("ohif", **DICOMWEB)
        study_uid, paths = study(tmp_path / kind, kind)
        for path in paths:
            archive.post("/instances", path.read_bytes())
        port = free_port()
        servers.append(subprocess.Popen(["node", HERE / "serve.mjs", str(port), str(archive.http_port)]))
        wait_for_server(port)
        folder = OUT / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = ["node", HERE / "look.mjs", f"http://127.0.0.1:{port}", study_uid, folder, *series]
        done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
        assert done.returncode == 0, done.stderr
        return [{**json.loads(line), "folder": folder} for line in done.stdout.splitlines()]

    yield show
    for server in servers:
        server.terminate()
        server.wait(10)


def wait_for_server(port: int) -> None:
    """Until the viewer's configuration can be had."""
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/app-config.js", timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the web server did not start")


def pixels(shown: dict[str, Any]) -> np.ndarray:
    """RGB int [rows, columns, 3] of the image area."""
    left, top, right, bottom = VIEWPORT
    image = np.asarray(Image.open(shown["folder"] / shown["picture"]).convert("RGB"), int)
    return image[top:bottom, left:right]


def lit(shown: dict[str, Any]) -> float:
    """Share of the image area that is not black."""
    return float((pixels(shown).max(-1) > 40).mean())


def coloured(shown: dict[str, Any]) -> int:
    """Pixels of the image area that are not grey."""
    image = pixels(shown)
    return int((image.max(-1) - image.min(-1) > 60).sum())


def test_a_positive_shows_its_pictures_its_outline_and_its_text(look):
    pictures, measurements, text = look("positive", "ICH TRIAGE STAT", "ICH TRIAGE SR", "ICH TRIAGE REPORT")
    assert lit(pictures) > 0.1
    assert coloured(pictures) > 2000
    rings = [shape for shape in measurements["drawn"] if shape["kind"] in ("polyline", "path", "polygon")]
    assert rings
    assert on_the_lesion(rings[0], measurements)
    assert "Certainty of Finding: 96" in measurements["text"]
    assert "Parietal lobe" in measurements["text"]
    for words in ("Intraparenchymal", "right, parietal lobe", "Priority: STAT", "not for diagnosis"):
        assert words in text["text"]


def on_the_lesion(ring: dict[str, float], shown: dict[str, Any]) -> bool:
    """Whether the middle of a ring lies on the bright lesion: lighter than the brain around it, darker than bone."""
    image = np.asarray(Image.open(shown["folder"] / shown["picture"]).convert("L"), int)
    column, row = round(ring["x"] + ring["width"] / 2), round(ring["y"] + ring["height"] / 2)
    inside = float(image[row - 5 : row + 6, column - 5 : column + 6].mean())
    outside = round(ring["x"] + 1.5 * ring["width"])
    beside = float(np.median(image[row - 5 : row + 6, outside - 5 : outside + 6]))
    return inside > beside + 30 and inside < 250


def test_a_negative_opens_at_the_summary_page_and_never_black(look):
    measurements, text = look("negative", "ICH TRIAGE SR", "ICH TRIAGE REPORT")
    assert lit(measurements) > 0.02
    assert measurements["text"].count("ICH TRIAGE ROUTINE") == 2  # in the list and over the image
    assert "No hemorrhage suspected. This does not exclude a hemorrhage." in text["text"]


def test_a_series_that_was_not_analysed_says_why(look):
    page, text = look("not_analysed", "ICH TRIAGE NOT ANALYSED", "ICH TRIAGE REPORT")
    assert lit(page) > 0.02
    assert "NOT ANALYSED, because contrast medium was given" in text["text"]
