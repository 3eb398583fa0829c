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
from ich_node.report.sr.document import ReportContext, documents
from ich_node.report.sr.items import Container, ContentItem, Text
from ich_node.report.sr.structured_report import language, observer
from ich_node.report.sr.templates import TEXT_REPORT

SERIES_NUMBER_OFFSET = 6  # one for each series of ours, in the order in which viewers should list them
SERIES_DESCRIPTION = "ICH TRIAGE REPORT"


def text_report(context: ReportContext, content: Content) -> Dataset:
    """The Basic Text SR."""
    (report,) = documents(
        context,
        _root(context, content),
        sop_class_uids=(codes.BASIC_TEXT_SR,),
        role="text report",
        series_role="text report",
        series_number=context.series_number_base + SERIES_NUMBER_OFFSET,
        series_description=SERIES_DESCRIPTION,
    )
    return report


def _root(context: ReportContext, content: Content) -> Container:
    """TID 2000: sections with headings out of CID 7001, paragraphs named out of CID 7002.

    Impressions hold the answer and what changes its worth; what is technical stands under the procedure.
    """
    source = context.analysis.headers[0]

    def section(heading: Code, element: Code, paragraphs: Iterable[str]) -> Container:
        return Container(heading, [Text(element, headers.encodable(said, source)) for said in paragraphs if said])

    impressions = (content.summary, *content.warnings, f"{content.disclaimers[0]}.")
    children: list[ContentItem] = [*language(content), *observer(context)]
    children.append(section(codes.IMPRESSIONS, codes.IMPRESSION, impressions))
    if content.answers:
        said = [answer.text for answer in content.answers]
        children.append(section(codes.FINDINGS_SECTION, codes.FINDING, said))
    background = (
        *(content.looked_at, *content.notes, *content.remarks),
        *(*content.facts, *content.bands, *content.disclaimers[1:]),
    )
    children.append(section(codes.PROCEDURE_DESCRIPTIONS, codes.PROCEDURE_DESCRIPTION, background))
    return Container(codes.DIAGNOSTIC_IMAGING_REPORT, children, template=TEXT_REPORT)
