"""One study, four destinations of four kinds: DIMSE and STOW-RS into Orthanc, an HL7 listener, a webhook receiver."""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path

import hl7
import pytest
from conftest import require
from hl7_listener import Listener
from web_listener import WebListener

from ich_node.phantom import head, series
from tests.crash.evidence import query
from tests.crash.scanner import send_once
from tests.interop.running_node import RunningNode, running, to

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  the one of the standard's example
CONNECTING = Path(__file__).resolve().parents[2] / "docs" / "connecting.md"
GONE = 410  # final by Standard Webhooks: an operator has to say that it is wanted again


def standing(node: RunningNode) -> dict[str, set[str]]:
    """Destination → the states of its deliveries."""
    found: dict[str, set[str]] = {}
    for destination, state in query(node.state_dir, "SELECT DISTINCT destination, state FROM delivery"):
        found.setdefault(destination, set()).add(state)
    return found


def held(orthanc) -> set[str]:
    return {found["MainDicomTags"]["SOPInstanceUID"] for found in orthanc.find()}


def read_by_the_script_of_the_documents(message: bytes) -> list[str]:
    """What the lines in docs/connecting.md print of a message."""
    script = re.search(r"```python\n(.*?)```", CONNECTING.read_text(), re.DOTALL)[1]
    said, names = io.StringIO(), {}
    exec(compile(script, CONNECTING, "exec"), names)  # noqa: S102  our own document
    with contextlib.redirect_stdout(said):
        names["on_message"](message.decode())
    return said.getvalue().splitlines()


def is_signed(headers: dict[str, str], body: bytes) -> bool:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.digest(b64decode(SECRET.removeprefix("whsec_")), signed, "sha256")
    return headers["webhook-signature"] == f"v1,{b64encode(mac).decode()}"


def test_one_destination_is_dead_and_one_refuses_and_in_the_end_each_has_everything(make_orthanc, tmp_path):
    require("storescu", "echoscu")
    if not PLUGIN.exists():
        pytest.skip("needs orthanc-dicomweb")
    dimse, web = make_orthanc("dimse"), make_orthanc("web", Plugins=[str(PLUGIN)])
    dimse.stop()
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    made = head.phantom("intraparenchymal", slices=32, rows=256, columns=256, seed=5)
    ct = series.write_series(tmp_path / "ct", made, seed=6, patient_id="ICH-6")
    pictures_before: list[int] = []
    ris = Listener(on_message=lambda: pictures_before.append(len(web.find())))
    with ris, WebListener([GONE] * 3) as hook:
        kinds = {
            "destinations": [to(dimse)],
            "dicomweb": [{"name": "web", "url": f"{web.url}/dicom-web"}],
            "hl7": [{"name": "ris", "host": "127.0.0.1", "port": ris.port, "priorities": ["STAT", "HIGH"]}],
            "webhooks": [{"name": "hook", "url": f"{hook.url}/result", "secrets": [str(tmp_path / "secret")]}],
        }
        with running(tmp_path / "node", **kinds) as node:
            assert len(send_once(ct, node.port)) == len(ct)
            expected = {"pacs": {"pending"}, "web": {"sent"}, "ris": {"sent"}, "hook": {"failed"}}
            node.until(lambda: standing(node) == expected, "end of what can be delivered")
            dimse.start()
            hook.script.clear()
            node.until(lambda: standing(node)["pacs"] == {"sent"}, "delivery to the one that was dead")
            assert query(node.state_dir, "SELECT state FROM job") == [("failed",)]
            command = [sys.executable, "-m", "ich_node", "jobs", "retry", "1"]
            subprocess.run([*command, "--config", str(node.folder / "ich_node.yaml")], check=True, capture_output=True)
            node.until_finished(1)
            (result,) = node.results()
            assert standing(node) == {name: {"sent"} for name in expected}
    owed = {item["sop_instance_uid"] for item in result["objects"]}
    assert result["priority"] == "STAT"
    assert held(dimse) == held(web) == owed

    (message,) = ris.messages
    assert pictures_before[0] < sum(o["sop_class_uid"].endswith("1.1.7") for o in result["objects"])
    parsed = hl7.parse(message.decode())
    assert str(parsed["MSH"][0][9]) == "ORU^R01^ORU_R01"
    assert str(parsed["PID"][0][3]).startswith("ICH-6")
    priority, *findings = read_by_the_script_of_the_documents(message)
    accession = str(parsed["OBR"][0][3])
    assert priority == f"{accession} ICH-PRIORITY^Triage priority^99ICHNODE STAT abnormal"
    assert any("ICH-INTRAPARENCHYMAL^" in line and "present" in line and "abnormal" in line for line in findings)

    *refused, (_, headers, body) = hook.requests
    assert refused
    assert is_signed(headers, body)
    assert json.loads(body)["data"]["study_instance_uid"] == result["study_instance_uid"]
