"""The rows of the SR templates that reports of this node must have (PS3.16), held by the containers that use them.

No validator notices when one is missing; so the document cannot be made without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.sr.coding import Code

from ich_node.report.sr import codes


@dataclass(frozen=True, slots=True)
class Row:
    """An item under a container. concept None: any; values: the coded values that it may have, None for any."""

    value_type: str
    relationship: str
    concept: Code | None = None
    values: tuple[Code, ...] | None = None

    def is_met_by(self, item: Row) -> bool:
        """Whether `item` is what this row asks for."""
        return (
            item.value_type == self.value_type
            and item.relationship == self.relationship
            and (self.concept is None or item.concept == self.concept)
            and (self.values is None or (item.values is not None and item.values[0] in self.values))
        )

    def __str__(self) -> str:
        """For an error message."""
        return f"{self.value_type} {self.concept.meaning if self.concept else ''}".strip()


@dataclass(frozen=True, slots=True)
class Template:
    """rows: each needed at least once. present: needed where a coded value of the container is Present."""

    tid: str
    rows: tuple[Row, ...]
    present: tuple[Row, ...] = ()

    def missing(self, items: Sequence[Row]) -> list[str]:
        """The rows that none of `items` meets."""
        found = any(item.values == (codes.PRESENT,) for item in items)
        needed = (*self.rows, *(self.present if found else ()))
        return [str(row) for row in needed if not any(row.is_met_by(item) for item in items)]


_CONTAINS, _OBSERVED, _MODIFIES = "CONTAINS", "HAS OBS CONTEXT", "HAS CONCEPT MOD"
_ANSWERS = (codes.PRESENT, codes.ABSENT)

CONTEXT = (
    Row("CODE", _MODIFIES, codes.LANGUAGE, tuple(codes.LANGUAGES.values())),  # TID 1204
    Row("CODE", _OBSERVED, codes.OBSERVER_TYPE, (codes.DEVICE,)),  # TID 1002
    Row("UIDREF", _OBSERVED, codes.DEVICE_OBSERVER_UID),  # TID 1004
    Row("TEXT", _OBSERVED, codes.DEVICE_OBSERVER_MANUFACTURER),
    Row("TEXT", _OBSERVED, codes.DEVICE_OBSERVER_MODEL_NAME),
)
_ALGORITHM = (
    Row("TEXT", _OBSERVED, codes.TRACKING_IDENTIFIER),
    Row("UIDREF", _OBSERVED, codes.TRACKING_UID),
    Row("TEXT", _MODIFIES, codes.ALGORITHM_NAME),  # TID 4019
    Row("TEXT", _MODIFIES, codes.ALGORITHM_VERSION),
    Row("TEXT", _MODIFIES, codes.ALGORITHM_PARAMETERS),
    Row("CODE", _MODIFIES, codes.ALGORITHM_FAMILY, (codes.ARTIFICIAL_INTELLIGENCE,)),
    Row("NUM", _CONTAINS),  # TID 300
    Row("CODE", _CONTAINS, None, _ANSWERS),
)
_FOUND = (
    Row("CODE", _CONTAINS, codes.FINDING, tuple(codes.FINDINGS.values())),
    Row("CODE", _MODIFIES, codes.FINDING_SITE),
    Row("NUM", _CONTAINS, codes.CERTAINTY_OF_FINDING),
)

MEASUREMENT_REPORT = Template(
    "1500",
    (
        *CONTEXT,
        Row("CODE", _MODIFIES, codes.PROCEDURE_REPORTED, (codes.CT_PROCEDURE,)),  # row 4
        Row("CONTAINER", _CONTAINS, codes.QUALITATIVE_EVALUATIONS),  # row 12
    ),
)
MEASUREMENT_GROUP = Template("1501", _ALGORITHM, _FOUND)
PLANAR_ROI_GROUP = Template(
    "1410",
    (
        *_ALGORITHM,
        Row("SCOORD", _CONTAINS, codes.IMAGE_REGION),  # row 12
        Row("IMAGE", _CONTAINS, codes.VISUAL_EXPLANATION),
    ),
    _FOUND,
)
TEXT_REPORT = Template(
    "2000",
    (
        *CONTEXT,
        Row("CONTAINER", _CONTAINS, codes.IMPRESSIONS),  # row 5
        Row("CONTAINER", _CONTAINS, codes.PROCEDURE_DESCRIPTIONS),
    ),
)
