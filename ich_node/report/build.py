"""All results of one analysis, in the order in which they are delivered.

In: an analysis, the report options, the device, the time, the result that is corrected. Out: datasets with file meta
information. Pure: the same input gives the same bytes, today and after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.uid import UID

from ich_node.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ich_node.domain.findings import Analysis
from ich_node.report.identifiers import Identity
from ich_node.report.pictures import multiframe
from ich_node.report.pictures.secondary_capture import secondary_captures
from ich_node.report.said.content import Content, Correction, content
from ich_node.report.sr.document import ReportContext
from ich_node.report.sr.predecessor import Predecessor
from ich_node.report.sr.structured_report import structured_reports
from ich_node.report.sr.text_report import text_report
from ich_node.runtime.config import ReportConfig


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What goes back.

    objects: pictures with the summary page first, the measurement report, the text report, then what was asked for in
    addition. alternates: SOP Instance UID of the measurement report (Comprehensive 3D SR) → the same report as
    Comprehensive SR and as Enhanced SR.
    """

    objects: tuple[Dataset, ...]
    alternates: Mapping[str, tuple[Dataset, Dataset]]


def results(
    analysis: Analysis,
    *,
    options: ReportConfig,
    device_name: str,
    made_at: datetime,
    predecessor: Predecessor | None,
    revision: int = 0,
) -> Results:
    """The results of `analysis`, made by the node called `device_name` at `made_at` (aware).

    predecessor: the reports that these replace; None also where an earlier result stands beside them (a STAT that a
    milder answer does not take back: the worker decides, and a warning of the analysis says so). revision: how often
    the same images were analysed anew before; every time the results are other objects.
    """
    correction = None
    if predecessor is not None:
        correction = Correction("again" if revision else "more images", predecessor.made_at)
    identity = Identity.of(analysis, options, device_name, revision)
    said = content(analysis, language=options.language, made_at=made_at, corrected=correction)
    pictures = secondary_captures(analysis, said, options, identity, made_at)
    context = ReportContext(analysis, identity, made_at, options.series_number_base, tuple(pictures), predecessor)
    measurement, comprehensive, enhanced = structured_reports(context, said)
    alternates = {str(measurement.SOPInstanceUID): (_named(comprehensive), _named(enhanced))}
    objects = (*pictures, measurement, text_report(context, said), *_additions(context, said, options))
    return Results(tuple(_named(each) for each in objects), alternates)


def _additions(context: ReportContext, said: Content, options: ReportConfig) -> Iterator[Dataset]:
    """Objects that a site asks for in its configuration."""
    overlays, base = context.pictures[1:], options.series_number_base
    if options.multi_frame and overlays:
        yield multiframe.multi_frame(overlays, context.identity, base + multiframe.SERIES_NUMBER_OFFSET)
    if options.parametric_map:
        from ich_node.report.pictures import parametric_map  # noqa: PLC0415 — loads highdicom, for who asks for it

        number = base + parametric_map.SERIES_NUMBER_OFFSET
        yield from parametric_map.parametric_maps(context.analysis, context.identity, number, context.made_at)
    if options.presentation_state:
        from ich_node.report.pictures import presentation_state  # noqa: PLC0415 — as above

        captions = [caption.title for caption in said.captions]
        number = base + presentation_state.SERIES_NUMBER_OFFSET
        state = presentation_state.presentation_state(
            context.analysis, captions, context.identity, number, context.made_at
        )
        if state is not None:
            yield state


def _named(result: Dataset) -> Dataset:
    """Say in the file meta information who wrote it (PS3.10 7.1); libraries would name themselves."""
    result.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    result.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return result
