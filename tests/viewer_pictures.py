"""The pictures of OHIF in the documents: the phantom of the demo, read by the shipped bundle, in a real viewer.

Run by hand, `python -m tests.viewer_pictures`; needs what the tests of OHIF need (tests/interop/ohif/install.sh).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from ich_node.infer import bundle, pipeline
from ich_node.infer.engine import open_engine
from ich_node.phantom.head import phantom
from ich_node.phantom.series import write_series
from ich_node.report import build, encoding
from ich_node.runtime.config import Config
from tests.ports import free_port, free_ports
from tests.result_pictures import IMAGES, MADE_AT

VIEWER = Path(__file__).resolve().parent / "interop" / "ohif"
SHOWN = {
    "ohif-pictures.png": "ICH TRIAGE STAT",
    "ohif-measurement-report.png": "ICH TRIAGE SR",
    "ohif-text-report.png": "ICH TRIAGE REPORT",
}
"""Picture of the documents → description of the series that it shows."""


def main() -> int:
    """Make them all."""
    # as pytest finds them: the tests of OHIF name the fixtures beside them plainly
    sys.path[:0] = [str(VIEWER.parent), str(VIEWER.parent.parent)]
    from conftest import Orthanc
    from test_ohif import DICOMWEB, wait_for_server

    config = Config()
    model = bundle.load(config.bundle_dir)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = write_series(folder / "source", phantom("intraparenchymal", seed=3), seed=3)
        analysis = pipeline.analyse(source, model, open_engine(config.infer, model), config)
        results = build.results(
            analysis, options=config.report, device_name="ICHNODE", made_at=MADE_AT, predecessor=None
        )
        port, http_port, spare = free_ports(3)
        archive = Orthanc(folder / "pacs", "ORTHANC", port, http_port, spare, DICOMWEB)
        archive.start()
        try:
            for path in source:
                archive.post("/instances", path.read_bytes())
            for each in results.objects:
                archive.post("/instances", encoding.part10(each))
            web = free_port()
            with subprocess.Popen(["node", VIEWER / "serve.mjs", str(web), str(http_port)]) as server:
                try:
                    wait_for_server(web)
                    look = ["node", VIEWER / "look.mjs", f"http://127.0.0.1:{web}", analysis.study_uid, folder]
                    subprocess.run([*look, *SHOWN.values()], check=True, stdout=subprocess.DEVNULL)
                finally:
                    server.terminate()
        finally:
            archive.stop()
        for number, name in enumerate(SHOWN, start=1):
            (IMAGES / name).write_bytes((folder / f"{number:02d}.png").read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
