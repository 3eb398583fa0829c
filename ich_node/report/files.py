"""Results as files: DICOM Part 10 bytes and result.json, in the order in which they are to be delivered.

An alternate of the 3D SR lies beside it under the SR's own name (`….comprehensive.dcm`, `….enhanced.dcm`), where the
sender finds it when a peer does not take the 3D SR.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset

from ich_node.domain.findings import Analysis
from ich_node.report import result_json
from ich_node.report.build import Results
from ich_node.report.encoding import part10

ALTERNATES = ("comprehensive", "enhanced")
RESULT_JSON = "result.json"


@dataclass(frozen=True, slots=True)
class Object:
    """One result object to deliver: its identity and the name of its file."""

    sop_class_uid: str
    sop_instance_uid: str
    file_name: str


def objects(results: Results) -> list[Object]:
    """The objects to deliver, in order."""
    return [Object(str(d.SOPClassUID), str(d.SOPInstanceUID), _name(d)) for d in results.objects]


def encode(analysis: Analysis, results: Results, predecessor: int | None = None, revision: int = 0) -> dict[str, bytes]:
    """File name → bytes of every result file. The same analysis and results give the same bytes."""
    known: dict[int, bytes] = {}
    files = {_name(dataset): part10(dataset, known) for dataset in results.objects}
    for main_uid, alternates in results.alternates.items():
        for suffix, dataset in zip(ALTERNATES, alternates, strict=True):
            files[f"{main_uid}.{suffix}.dcm"] = part10(dataset, known)
    listed = [(item.sop_class_uid, item.sop_instance_uid) for item in objects(results)]
    files[RESULT_JSON] = result_json.encode(result_json.as_dict(analysis, listed, predecessor, revision))
    return files


def _name(dataset: Dataset) -> str:
    return f"{dataset.SOPInstanceUID}.dcm"
