"""Content items that cannot be built wrong: each knows what may stand under it and by which relationship.

The kinds and the relationships between them are those of a Comprehensive SR (PS3.3 table A.35.3-2), as far as reports
of this node use them. `Container` also holds the rows of its template (templates.py). An item that breaks a rule raises
ValueError where it is made. In: codes, words, references. Out: `dataset()`, the encoding of PS3.3 C.17.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.sr.coding import Code

from ich_node.report import headers
from ich_node.report.sr.references import Reference
from ich_node.report.sr.templates import Row, Template

CONTAINS, OBSERVED, MODIFIES = "CONTAINS", "HAS OBS CONTEXT", "HAS CONCEPT MOD"
INFERRED, SELECTED = "INFERRED FROM", "SELECTED FROM"

CONTEXT = frozenset({"TEXT", "CODE", "NUM", "UIDREF"})
ANYTHING = CONTEXT | {"IMAGE", "SCOORD", "CONTAINER"}
MAY_STAND_UNDER: Mapping[str, Mapping[str, frozenset[str]]] = {
    "CONTAINER": {CONTAINS: ANYTHING, OBSERVED: CONTEXT, MODIFIES: frozenset({"TEXT", "CODE"})},
    "TEXT": {OBSERVED: CONTEXT, MODIFIES: frozenset({"TEXT", "CODE"}), INFERRED: ANYTHING},
    "CODE": {OBSERVED: CONTEXT, MODIFIES: frozenset({"TEXT", "CODE"}), INFERRED: ANYTHING},
    "NUM": {OBSERVED: CONTEXT, MODIFIES: frozenset({"TEXT", "CODE"}), INFERRED: ANYTHING},
    "SCOORD": {SELECTED: frozenset({"IMAGE"})},
    "UIDREF": {},
    "IMAGE": {},
}
"""Value type of a parent → relationship → value types of its children (PS3.3 table A.35.3-2, as far as used)."""


class ContentItem:
    """One node of the tree: a value type, a concept name, and its children by relationship."""

    value_type: ClassVar[str]

    def __init__(
        self, name: Code | None, related: str = CONTAINS, children: Mapping[str, Sequence[ContentItem]] | None = None
    ) -> None:
        """`children`: relationship → items. ValueError when one of them may not stand here."""
        self.name: Final = name
        self.related: Final = related
        self.children: Final = tuple((how, child) for how, items in (children or {}).items() for child in items)
        for how, child in self.children:
            if child.value_type not in MAY_STAND_UNDER[self.value_type].get(how, frozenset()):
                raise ValueError(f"{self.value_type} may not have a {child.value_type} by {how} (PS3.3 A.35.3)")

    def dataset(self, related: str | None = None) -> Dataset:
        """As an item of a Content Sequence, with the relationship to its parent; None: the root, which has none."""
        item = Dataset()
        if related is not None:
            item.RelationshipType = related
        item.ValueType = self.value_type
        if self.name is not None:
            item.ConceptNameCodeSequence = [headers.code_item(self.name)]
        self._fill(item)
        if self.children:
            item.ContentSequence = [child.dataset(how) for how, child in self.children]
        return item

    def _fill(self, item: Dataset) -> None:
        raise NotImplementedError


class Text(ContentItem):
    """TEXT; the value must fit the character set of the document."""

    value_type = "TEXT"

    def __init__(self, name: Code, value: str, *, related: str = CONTAINS) -> None:
        """`related`: to its parent."""
        super().__init__(name, related)
        self.value: Final = value

    def _fill(self, item: Dataset) -> None:
        item.TextValue = self.value


class Coded(ContentItem):
    """CODE, perhaps with modifiers."""

    value_type = "CODE"

    def __init__(
        self, name: Code, value: Code, modifiers: Sequence[ContentItem] = (), *, related: str = CONTAINS
    ) -> None:
        """`modifiers` modify the concept."""
        super().__init__(name, related, {MODIFIES: modifiers})
        self.value: Final = value

    def _fill(self, item: Dataset) -> None:
        item.ConceptCodeSequence = [headers.code_item(self.value)]


class Number(ContentItem):
    """NUM; the value is a decimal string (PS3.3 C.18.1)."""

    value_type = "NUM"

    def __init__(self, name: Code, value: str, unit: Code, inferred_from: Sequence[ContentItem] = ()) -> None:
        """`inferred_from`: where it was measured."""
        super().__init__(name, CONTAINS, {INFERRED: inferred_from})
        if not np.isfinite(float(value)) or len(value) > 16:  # PS3.5 6.2, DS
            raise ValueError(f"{value!r} is not a decimal string")
        self.value: Final = value
        self.unit: Final = unit

    def _fill(self, item: Dataset) -> None:
        measured = Dataset()
        measured.NumericValue = self.value
        measured.MeasurementUnitsCodeSequence = [headers.code_item(self.unit)]
        item.MeasuredValueSequence = [measured]


class UidReference(ContentItem):
    """UIDREF, of an observer or a tracked finding."""

    value_type = "UIDREF"

    def __init__(self, name: Code, value: str) -> None:
        """`value` is a UID."""
        super().__init__(name, OBSERVED)
        self.value: Final = value

    def _fill(self, item: Dataset) -> None:
        item.UID = self.value


class Picture(ContentItem):
    """IMAGE (PS3.3 C.18.4)."""

    value_type = "IMAGE"

    def __init__(self, name: Code | None, on: Reference) -> None:
        """`on`: the image or the frame."""
        super().__init__(name)
        self.on: Final = on

    def _fill(self, item: Dataset) -> None:
        item.ReferencedSOPSequence = [self.on.item()]


class Coordinates(ContentItem):
    """SCOORD: points [n, 2] (column, row; centre of the first pixel 0.5, 0.5) on an image (PS3.3 C.18.6)."""

    value_type = "SCOORD"
    graphic_type: ClassVar[str]

    def __init__(self, name: Code | None, points: npt.ArrayLike, on: Reference) -> None:
        """ValueError when the points are not what the graphic needs."""
        super().__init__(name, CONTAINS, {SELECTED: [Picture(None, on)]})
        self.points: Final = np.asarray(points, np.float32).reshape(-1, 2)
        if not np.isfinite(self.points).all() or not self._is_whole():
            raise ValueError(f"these points are no {self.graphic_type}")

    def _is_whole(self) -> bool:
        raise NotImplementedError

    def _fill(self, item: Dataset) -> None:
        item.GraphicType = self.graphic_type
        item.GraphicData = [float(value) for value in self.points.ravel()]


class Polyline(Coordinates):
    """A closed outline: the last point is the first."""

    graphic_type = "POLYLINE"

    def _is_whole(self) -> bool:
        return len(self.points) >= 4 and bool((self.points[0] == self.points[-1]).all())


class Point(Coordinates):
    """One point."""

    graphic_type = "POINT"

    def _is_whole(self) -> bool:
        return len(self.points) == 1


class Container(ContentItem):
    """CONTAINER of separate items (PS3.3 C.18.8) that holds every row that its template demands."""

    value_type = "CONTAINER"

    def __init__(self, name: Code, items: Iterable[ContentItem], *, template: Template | None = None) -> None:
        """`items` stand in this order, each by the relationship that it names."""
        listed = list(items)
        super().__init__(name)
        for child in listed:
            if child.value_type not in MAY_STAND_UNDER["CONTAINER"].get(child.related, frozenset()):
                raise ValueError(f"a CONTAINER may not have a {child.value_type} by {child.related} (PS3.3 A.35.3)")
        self.items: Final = listed
        self.template: Final = template
        if template is not None and (missing := template.missing([_row(child) for child in listed])):
            raise ValueError(f"TID {template.tid} lacks {', '.join(missing)}")

    def dataset(self, related: str | None = None) -> Dataset:
        """See ContentItem."""
        item = super().dataset(related)
        if self.items:
            item.ContentSequence = [child.dataset(child.related) for child in self.items]
        return item

    def _fill(self, item: Dataset) -> None:
        item.ContinuityOfContent = "SEPARATE"
        if self.template is not None:
            identification = Dataset()
            identification.MappingResource = "DCMR"
            identification.TemplateIdentifier = self.template.tid
            item.ContentTemplateSequence = [identification]


def _row(child: ContentItem) -> Row:
    return Row(child.value_type, child.related, child.name, (child.value,) if isinstance(child, Coded) else None)
