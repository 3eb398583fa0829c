"""The whole path with real peers: DCMTK sends to `ich-node run`, the results lie in Orthanc."""

from __future__ import annotations

import io
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from ich_node.phantom import head, series
from tests.crash.evidence import job_states
from tests.crash.scanner import send_once
from tests.interop.conftest import Orthanc, require
from tests.interop.running_node import RunningNode, running, to
from tests.ports import free_ports

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
TEXT_REPORT = "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.fixture
def node(tmp_path: Path, orthanc) -> Iterator[RunningNode]:
    """A node that delivers to Orthanc."""
    require("storescu", "echoscu")
    with running(tmp_path / "node", destinations=[to(orthanc)]) as started:
        yield started


@pytest.fixture(scope="module")
def phantom() -> head.Phantom:
    return head.phantom("intraparenchymal", slices=32, rows=256, columns=256, seed=5)


@pytest.fixture
def ct(tmp_path: Path, phantom) -> list[Path]:
    """A head CT with a large hemorrhage, one file per slice, foot to head."""
    return series.write_series(tmp_path / "ct", phantom, seed=5, patient_id="ICH-5")


def send(node: RunningNode, paths: Sequence[Path], *options: str) -> None:
    assert len(send_once(paths, node.port, options=options)) == len(paths), "storescu was not told Success for all"


def arrived(orthanc) -> list[Dataset]:
    """Every instance in Orthanc in the order of arrival, by its change log."""
    changes = orthanc.get("/changes?limit=1000")["Changes"]
    ids = [change["ID"] for change in changes if change["ChangeType"] == "NewInstance"]
    return [dcmread(io.BytesIO(orthanc.read(f"/instances/{found}/file"))) for found in ids]


def of_class(datasets: Sequence[Dataset], sop_class: str) -> list[Dataset]:
    return [dataset for dataset in datasets if dataset.SOPClassUID == sop_class]


# --- one head CT ------------------------------------------------------------------------------------------------------


@dataclass
class Answered:
    """A head CT was sent, answered, and sent again. before, after: what the PACS held, in the order of arrival."""

    source: Dataset
    before: list[Dataset]
    after: list[Dataset]
    results: list[dict[str, Any]]
    states: list[str]


@pytest.fixture(scope="module")
def answered(tmp_path_factory, phantom) -> Iterator[Answered]:
    require("Orthanc", "storescu", "echoscu")
    folder = tmp_path_factory.mktemp("answered")
    ct = series.write_series(folder / "ct", phantom, seed=4, patient_id="ICH-4")
    port, http_port, node_port = free_ports(3)
    orthanc = Orthanc(folder / "orthanc", "ORTHANC", port, http_port, node_port)
    orthanc.start()
    try:
        with running(folder / "node", destinations=[to(orthanc)]) as node:
            send(node, ct)
            node.until_finished(1)
            before = arrived(orthanc)
            send(node, ct)
            time.sleep(5)  # longer than the quiet period: a second job would exist by now
            states = job_states(node.state_dir)
            yield Answered(dcmread(ct[0], stop_before_pixels=True), before, arrived(orthanc), node.results(), states)
    finally:
        orthanc.stop()


def uids(datasets: Sequence[Dataset]) -> list[str]:
    return [str(dataset.SOPInstanceUID) for dataset in datasets]


def test_pictures_a_structured_report_and_a_text_report_arrive_in_that_order(answered):
    classes = [str(dataset.SOPClassUID) for dataset in answered.before]
    pictures = classes.count(SECONDARY_CAPTURE)
    assert pictures >= 1
    assert classes == [SECONDARY_CAPTURE] * pictures + [STRUCTURED_REPORT, TEXT_REPORT]
    numbers = [int(dataset.InstanceNumber) for dataset in of_class(answered.before, SECONDARY_CAPTURE)]
    assert numbers == sorted(numbers)


def test_the_results_belong_to_the_patient_and_study_of_the_images(answered):
    assert answered.before
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber", "StudyDate", "StudyTime"):
        found = {str(dataset.get(keyword, "")) for dataset in answered.before}
        assert found == {str(answered.source.get(keyword, ""))}, keyword
    assert answered.source.SeriesInstanceUID not in {dataset.SeriesInstanceUID for dataset in answered.before}


def test_what_the_node_computed_is_what_the_pacs_holds(answered):
    (result,) = answered.results
    assert result["status"] == "analysed"
    assert [item["sop_instance_uid"] for item in result["objects"]] == uids(answered.before)


def test_nothing_doubles_when_everything_is_sent_twice(answered):
    assert answered.states == ["done"]
    assert uids(answered.after) == uids(answered.before)


def test_a_late_slice_leads_to_a_corrected_report_that_names_its_predecessor(node, orthanc, ct):
    late = ct[len(ct) // 2]  # of the head: one of the air above it would change no answer
    send(node, [path for path in ct if path != late])
    node.until_finished(1)
    send(node, [late])
    node.until_finished(2)
    first, second = of_class(arrived(orthanc), STRUCTURED_REPORT)
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in first
    assert len(node.results()[1]["slices"]) == len(ct)


def test_a_restart_in_the_middle_of_a_series_loses_and_doubles_nothing(node, orthanc, ct):
    send(node, ct[:10])
    node.stop()
    node.start()
    send(node, ct[10:])
    node.until_finished(1)
    last = node.results()[-1]
    assert len(last["slices"]) == len(ct)
    owed = [item["sop_instance_uid"] for result in node.results() for item in result["objects"]]
    assert sorted(owed) == sorted(uids(arrived(orthanc)))


def test_a_restart_before_the_results_are_out_loses_and_doubles_nothing(node, orthanc, ct):
    send(node, ct)
    node.until(lambda: job_states(node.state_dir), "job")
    node.stop()
    node.start()
    node.until_finished(1)
    (result,) = node.results()
    owed = [item["sop_instance_uid"] for item in result["objects"]]
    assert owed == uids(arrived(orthanc))


# --- the same head CT on other ways -----------------------------------------------------------------------------------

TRANSCODED: dict[str, tuple[list[str], str]] = {  # command, and storescu's option that proposes its transfer syntax
    "JPEG-LS": (["dcmcjpls"], "-xt"),
    "JPEG 2000": (["gdcmconv", "--j2k"], "-xv"),
    "JPEG lossless": (["dcmcjpeg", "+e1"], "-xs"),
    "RLE": (["dcmcrle"], "-xr"),
}
WAYS = ("shuffled", "over three associations", "with duplicates", *TRANSCODED)


def send_shuffled(node: RunningNode, paths: list[Path]) -> None:
    send(node, random.Random(7).sample(paths, len(paths)))


def send_over_three_associations(node: RunningNode, paths: list[Path]) -> None:
    for part in range(3):
        send(node, paths[part::3])


def send_with_duplicates(node: RunningNode, paths: list[Path]) -> None:
    send(node, [*paths, *paths[3:9]])


def send_transcoded(way: str) -> Callable[[RunningNode, list[Path]], None]:
    command, proposal = TRANSCODED[way]

    def transcode_and_send(node: RunningNode, paths: list[Path]) -> None:
        require(command[0])
        folder = paths[0].parent.with_name(f"{paths[0].parent.name}-transcoded")
        folder.mkdir()
        for path in paths:
            subprocess.run([*command, str(path), str(folder / path.name)], check=True, capture_output=True)
        made = sorted(folder.iterdir())
        assert not dcmread(made[0], stop_before_pixels=True).file_meta.TransferSyntaxUID.is_implicit_VR
        assert dcmread(made[0], stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed
        send(node, made, proposal)

    return transcode_and_send


SENDERS: dict[str, Callable[[RunningNode, list[Path]], None]] = {
    "shuffled": send_shuffled,
    "over three associations": send_over_three_associations,
    "with duplicates": send_with_duplicates,
    **{way: send_transcoded(way) for way in TRANSCODED},
}


@pytest.fixture(scope="module")
def results_by_way(tmp_path_factory, phantom) -> dict[str, dict[str, Any]]:
    """One node; the same images as one study per way. Way → result.json; "in order" is the reference."""
    require("storescu", "echoscu")
    folder = tmp_path_factory.mktemp("ways")
    studies: dict[str, str] = {}
    with running(folder / "node") as node:
        for seed, way in enumerate(("in order", *WAYS), start=100):
            paths = series.write_series(folder / f"{seed}", phantom, seed=seed)
            studies[str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)] = way
            SENDERS.get(way, send)(node, paths)
        node.until_finished(len(studies))
        return {studies[result["study_instance_uid"]]: result for result in node.results()}


def probabilities(result: dict[str, Any]) -> np.ndarray:
    """float [slices + 1, labels]: every slice from foot to head, then the study."""
    slices = sorted(result["slices"], key=lambda item: item["position_mm"][2])
    rows = [list(item["probabilities"].values()) for item in slices]
    return np.array([*rows, [finding["probability"] for finding in result["findings"]]])


@pytest.mark.parametrize("way", WAYS)
def test_the_probabilities_do_not_depend_on_how_the_images_came(results_by_way, way):
    reference = probabilities(results_by_way["in order"])
    assert reference.shape[0] > 20
    np.testing.assert_allclose(probabilities(results_by_way[way]), reference, rtol=0, atol=1e-6)
