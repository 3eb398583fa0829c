"""The answer for people: a Basic Text SR that every viewer shows (TID 2000, PS3.16).

In: the content of a result. Out: one Basic Text SR (PS3.3 A.35.1) in three sections: the answer, one paragraph per
type, and what a reader should know about the result.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset
from pydicom.sr.coding import Code

from ich_node.report import headers
from ich_node.report.said.content import Content
from ich_node.report.sr import codes
from ich_node.report.sr.document import Frame, container, document, text
from ich_node.report.sr.structured_report import language, observer

SERIES_NUMBER_OFFSET = 6
SERIES_DESCRIPTION = "ICH TRIAGE REPORT"


def text_report(frame: Frame, content: Content) -> Dataset:
    """The Basic Text SR."""
    return document(
        frame,
        _root(frame, content),
        sop_class_uid=codes.BASIC_TEXT_SR,
        replaces=(codes.BASIC_TEXT_SR,),
        role="text report",
        series_role="text report",
        series_number=frame.series_number_base + SERIES_NUMBER_OFFSET,
        series_description=SERIES_DESCRIPTION,
    )


def _root(frame: Frame, content: Content) -> Dataset:
    """TID 2000: sections with headings out of CID 7001, paragraphs named out of CID 7002."""
    source = frame.analysis.headers[0]

    def section(heading: Code, element: Code, paragraphs: Iterable[str]) -> Dataset:
        return container(heading, [text(element, headers.encodable(said, source)) for said in paragraphs])

    disclaimer = f"{content.disclaimers[0]}."
    children = [*language(content), *observer(frame)]
    children.append(section(codes.IMPRESSIONS, codes.IMPRESSION, (content.summary, *content.warnings, disclaimer)))
    if content.lines:
        said = [line.text for line in content.lines]
        children.append(section(codes.FINDINGS_SECTION, codes.FINDING, said))
    background = (*content.notes, *content.facts, *content.disclaimers[1:])
    children.append(section(codes.PROCEDURE_DESCRIPTIONS, codes.PROCEDURE_DESCRIPTION, background))
    return container(codes.DIAGNOSTIC_IMAGING_REPORT, children, template="2000", related="")
