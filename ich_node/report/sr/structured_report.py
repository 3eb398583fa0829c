"""The answer for machines, and for viewers that understand it: TID 1500 Measurement Report (PS3.16).

In: the content of a result, the analysis for its outlines, the pictures it points at. Out: the same tree as
Comprehensive 3D, Comprehensive and Enhanced SR, each with its own UID, for peers that do not take the first.

An analysed series has one TID 1501 group per label, also for labels that are absent, and a TID 1410 group with an
outline on the best slices of each present label. Certainty, Finding and Finding Site stand only in groups of present
labels, so that a reader that looks no closer never meets a hemorrhage in a negative. A series that was not analysed
has no groups.

OHIF 3.13 shows the image of the first group, and nothing at all when any group has no coordinates. Hence the outlines
come first, and the certainty of a label has coordinates too: the frame of the summary page, on which it is printed. So
OHIF opens a positive at an outline and a negative at the summary page; no negative has coordinates on the CT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code

from ich_node.domain.findings import LABELS, Analysis, KeySlice, Laterality
from ich_node.report import headers
from ich_node.report.pictures.outline import Outline, area, outlines, simplified
from ich_node.report.pictures.secondary_capture import lit_pixels, overlay_name
from ich_node.report.said.content import Answer, Caption, Content
from ich_node.report.sr import codes
from ich_node.report.sr.document import ReportContext, documents
from ich_node.report.sr.items import (
    MODIFIES,
    OBSERVED,
    Coded,
    Container,
    ContentItem,
    Number,
    Picture,
    Point,
    Polyline,
    Text,
    UidReference,
)
from ich_node.report.sr.references import Reference
from ich_node.report.sr.templates import MEASUREMENT_GROUP, MEASUREMENT_REPORT, PLANAR_ROI_GROUP

SERIES_NUMBER_OFFSET = 5  # one for each series of ours, in the order in which viewers should list them
SERIES_DESCRIPTION = "ICH TRIAGE SR"
SLICES_PER_FINDING = 3  # chosen: the best three; all lit slices are in the heat map
OUTLINES_PER_SLICE = 3  # chosen: the largest three, as for SLICES_PER_FINDING
SMALLEST_SHARE = 0.2  # chosen: of the largest outline; a crumb beside it measures nothing
TOLERANCE_PIXELS = 0.3  # chosen: a simplified outline that the eye cannot tell from the whole one
BESIDE_MM = 4.0
"""An outline that reaches no further over the mid-plane lies on one side: half a CAM cell."""


def structured_reports(context: ReportContext, content: Content) -> tuple[Dataset, Dataset, Dataset]:
    """The measurement report as Comprehensive 3D SR, Comprehensive SR and Enhanced SR."""
    comprehensive_3d, comprehensive, enhanced = documents(
        context,
        _root(context, content),
        sop_class_uids=codes.MEASUREMENT_REPORT_SRS,
        role="measurement report",
        series_role="measurement report",
        series_number=context.series_number_base + SERIES_NUMBER_OFFSET,
        series_description=SERIES_DESCRIPTION,
    )
    return comprehensive_3d, comprehensive, enhanced


def _root(context: ReportContext, content: Content) -> Container:
    """TID 1500."""
    children = [*language(content), *observer(context), _procedure()]
    if content.answers:
        groups = [*_region_groups(context, content), *_label_groups(context, content)]
        children.append(Container(codes.IMAGING_MEASUREMENTS, groups))
    children.append(_evaluations(context, content))
    return Container(codes.IMAGING_MEASUREMENT_REPORT, children, template=MEASUREMENT_REPORT)


# --- context, shared with the text report --------------------------------------------------------------------------


def language(content: Content) -> list[ContentItem]:
    """TID 1204: the language of the words; codes have none."""
    return [Coded(codes.LANGUAGE, codes.LANGUAGES[content.language], related=MODIFIES)]


def observer(context: ReportContext) -> list[ContentItem]:
    """TID 1002 and 1004: the device that the equipment attributes describe."""
    equipment = headers.Equipment.of(context.analysis.card, context.identity)
    return [
        Coded(codes.OBSERVER_TYPE, codes.DEVICE, related=OBSERVED),
        UidReference(codes.DEVICE_OBSERVER_UID, equipment.device_uid),
        Text(codes.DEVICE_OBSERVER_MANUFACTURER, equipment.manufacturer, related=OBSERVED),
        Text(codes.DEVICE_OBSERVER_MODEL_NAME, equipment.model_name, related=OBSERVED),
    ]


def _procedure() -> Coded:
    return Coded(codes.PROCEDURE_REPORTED, codes.CT_PROCEDURE, related=MODIFIES)


# --- findings ------------------------------------------------------------------------------------------------------


def _label_groups(context: ReportContext, content: Content) -> Iterable[Container]:
    """TID 1501: one group per label, with its answer; that of "any" carries the priority.

    A type that is also possible has none: it is neither present nor absent, and any number would be read as a finding.
    The summary names it.
    """
    for answer in content.answers:
        if answer.also_possible:
            continue
        children = [
            *_tracking(context, f"ICH {answer.label}", answer.label),
            *_said(context, answer, answer.site, answer.laterality),
            *_measured(context, answer),
            _verdict(answer),
        ]
        if answer.label == "any" and content.priority_code is not None:
            children.append(Coded(codes.PRIORITY, content.priority_code))
        children += [Picture(codes.VISUAL_EXPLANATION, picture) for picture in _explanations(context, answer)]
        yield Container(codes.MEASUREMENT_GROUP, children, template=MEASUREMENT_GROUP)


def _tracking(context: ReportContext, name: str, source: str) -> list[ContentItem]:
    return [
        Text(codes.TRACKING_IDENTIFIER, name, related=OBSERVED),
        UidReference(codes.TRACKING_UID, context.identity.instance("tracking", source)),
    ]


def _said(context: ReportContext, answer: Answer, site: Code | None, side: Code | None) -> list[ContentItem]:
    """What both kinds of group say of a label: where (when present), and by which algorithm."""
    finding = [Coded(codes.FINDING, answer.finding)] if answer.present else []
    return [*finding, *_site(site if answer.present else None, side), *_algorithm(context.analysis, answer)]


def _verdict(answer: Answer) -> Coded:
    return Coded(answer.finding, codes.PRESENT if answer.present else codes.ABSENT)


def _measured(context: ReportContext, answer: Answer) -> Iterator[Number]:
    """How sure, and of a present label how large, from which slice to which, and where most of it is.

    Only of what is present is the probability a certainty of the finding: 3 % beside "absent" would read as doubt.
    """
    printed = [_printed(context)]
    name = codes.CERTAINTY_OF_FINDING if answer.present else codes.PROBABILITY
    yield Number(name, f"{answer.percent_value:.1f}", codes.PERCENT, printed)
    if not answer.present:
        return
    finding = context.analysis.finding(answer.label)
    if finding.first_slice is not None and finding.last_slice is not None:
        yield Number(codes.FIRST_SLICE, str(finding.first_slice), codes.SLICE_NUMBER, printed)
        yield Number(codes.LAST_SLICE, str(finding.last_slice), codes.SLICE_NUMBER, printed)
    if finding.extent_mm is not None:
        yield Number(codes.LONG_AXIS, f"{finding.extent_mm:g}", codes.MILLIMETER, printed)
    prediction = context.analysis.prediction
    if finding.peak is not None and prediction is not None:
        peak = finding.peak
        share = prediction.slice_probability[peak.slice_index, LABELS.index(answer.label)]
        here = Point(None, (peak.column + 0.5, peak.row + 0.5), _slice(context.analysis, peak.slice_index))
        yield Number(codes.PEAK_VALUE, f"{100 * share:.1f}", codes.PERCENT, [here])


def _printed(context: ReportContext) -> Polyline:
    """TID 320: the frame of the summary page."""
    page = context.pictures[0]
    corners = np.array([(0, 0), (page.Columns, 0), (page.Columns, page.Rows), (0, page.Rows), (0, 0)], np.float64)
    return Polyline(None, corners, Reference.to(page))


def _site(site: Code | None, side: Code | None) -> list[Coded]:
    if site is None:
        return []
    modifiers = [] if side is None else [Coded(codes.LATERALITY, side, related=MODIFIES)]
    return [Coded(codes.FINDING_SITE, site, modifiers, related=MODIFIES)]


def _algorithm(analysis: Analysis, answer: Answer) -> list[ContentItem]:
    """TID 4019: which weights decided, and against which threshold."""
    card = analysis.card
    return [
        Text(codes.ALGORITHM_NAME, card.id, related=MODIFIES),
        Text(codes.ALGORITHM_VERSION, card.version, related=MODIFIES),
        Text(codes.ALGORITHM_PARAMETERS, f"weights SHA-256={card.sha256}", related=MODIFIES),
        Text(codes.ALGORITHM_PARAMETERS, f"threshold={100 * answer.threshold:g}%", related=MODIFIES),
        Coded(codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE, related=MODIFIES),
    ]


def _explanations(context: ReportContext, answer: Answer) -> list[Reference]:
    """Pictures that show why: the summary page for "any", the overlays of its key slices for a present type."""
    if answer.label == "any":
        return [Reference.to(picture) for picture in context.pictures[:1]]
    return [Reference.to(picture) for key, picture in _shown(context) if answer.present and key.label == answer.label]


def _shown(context: ReportContext) -> list[tuple[KeySlice, Dataset]]:
    """Key slices, from foot to head, with their pictures."""
    volume = context.analysis.volume
    if volume is None:
        return []
    pictures = {picture.SOPInstanceUID: picture for picture in context.pictures}
    return [
        (key, pictures[context.identity.instance("overlay", overlay_name(volume, key))])
        for key in context.analysis.key_slices
    ]


# --- regions -------------------------------------------------------------------------------------------------------


def _region_groups(context: ReportContext, content: Content) -> Iterable[Container]:
    """TID 1410: the outline of the activation map at its threshold, on the best slices of each present label."""
    captions = dict(zip((id(key) for key in context.analysis.key_slices), content.captions, strict=True))
    for answer in content.answers:
        for key, picture in best_slices(context, answer):
            for part, polygon in enumerate(regions(key, context.analysis.card.cam_threshold), start=1):
                yield _region_group(context, answer, key, captions[id(key)], picture, polygon, part)


def best_slices(context: ReportContext, answer: Answer) -> list[tuple[KeySlice, Dataset]]:
    """The slices of a present label on which most of its map is lit, from foot to head."""
    if not answer.present:
        return []
    threshold = context.analysis.card.cam_threshold
    own = [(key, picture) for key, picture in _shown(context) if key.label == answer.label]
    best = sorted(own, key=lambda pair: -lit_pixels(pair[0], threshold))[:SLICES_PER_FINDING]
    return sorted(best, key=lambda pair: pair[0].slice_index)


def regions(key: KeySlice, threshold: float) -> list[Outline]:
    """The largest outlines [points, 2] (column, row) of a slice; holes and specks are left out."""
    found = outlines(key.heat, threshold)
    if not found:
        return []
    largest = area(found[0])
    outer = [polygon for polygon in found if area(polygon) / largest >= SMALLEST_SHARE]
    return [simplified(polygon, TOLERANCE_PIXELS) for polygon in outer[:OUTLINES_PER_SLICE]]


def side_of(polygon: Outline, key: KeySlice) -> Code | None:
    """The side that an outline lies on, when it lies on one; of one that crosses the mid-plane that of its picture."""
    picture = codes.SIDES[key.laterality] if key.laterality else None
    if key.midplane is None:
        return picture
    down, right, start = key.midplane
    left_mm = down * (polygon[:, 1] - 0.5) + right * (polygon[:, 0] - 0.5) + start
    if np.median(left_mm) > BESIDE_MM and left_mm.min() > -BESIDE_MM:
        return codes.SIDES[Laterality.LEFT]
    if np.median(left_mm) < -BESIDE_MM and left_mm.max() < BESIDE_MM:
        return codes.SIDES[Laterality.RIGHT]
    return picture


def _region_group(
    context: ReportContext,
    answer: Answer,
    key: KeySlice,
    caption: Caption,
    picture: Dataset,
    polygon: Outline,
    part: int,
) -> Container:
    """One outline, with the place and the side of this picture, which may be only a part of the finding's."""
    source = f"{answer.label} slice {key.slice_index + 1} region {part}"
    children = [
        *_tracking(context, f"ICH {source}", source),
        *_said(context, answer, caption.site, side_of(polygon, key)),
        Number(codes.CERTAINTY_OF_FINDING, f"{answer.percent_value:.1f}", codes.PERCENT),
        _verdict(answer),
        Picture(codes.VISUAL_EXPLANATION, Reference.to(picture)),
        Polyline(codes.IMAGE_REGION, polygon, _slice(context.analysis, key.slice_index)),
    ]
    return Container(codes.MEASUREMENT_GROUP, children, template=PLANAR_ROI_GROUP)


def _slice(analysis: Analysis, index: int) -> Reference:
    """The CT image or frame that slice `index` came from."""
    volume = analysis.volume
    if volume is None:
        raise ValueError("a series without a volume has no slices")
    return Reference.to(volume.headers[index], volume.frame_numbers[index] if volume.frame_numbers else None)


# --- the whole -----------------------------------------------------------------------------------------------------


def _evaluations(context: ReportContext, content: Content) -> Container:
    """TID 1500 rows 12 to 14: the answer on the whole series, and the words around it."""
    source = context.analysis.headers[0]
    children: list[ContentItem] = []
    if content.answers:
        overall = content.answers[0]
        children.append(_verdict(overall))
    if content.status_code is not None:
        children.append(Coded(codes.PROCESSING_SUMMARY, content.status_code))
    said: Sequence[str] = (content.summary, *content.warnings, *(f"{line}." for line in content.disclaimers[:1]))
    children += [Text(codes.SUMMARY, headers.encodable(paragraph, source)) for paragraph in said]
    return Container(codes.QUALITATIVE_EVALUATIONS, children)
