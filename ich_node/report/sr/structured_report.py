"""The answer for machines, and for viewers that understand it: TID 1500 Measurement Report (PS3.16).

In: the content of a result, the analysis for its outlines, the pictures it points at. Out: the same tree as
Comprehensive 3D, Comprehensive and Enhanced SR, each with its own UID, for peers that do not take the first.

An analysed series has one TID 1501 group per label, also for labels that are absent, and a TID 1410 group with an
outline on the best slices of each present label. Finding and Finding Site stand only in groups of present labels, so
that a reader that looks no closer never meets a hemorrhage in a negative. A series that was not analysed has no groups.

OHIF 3.13 shows the image of the first group, and nothing at all when any group has no coordinates. Hence the outlines
come first, and the certainty of a label has coordinates too: the frame of the summary page, on which it is printed. So
OHIF opens a positive at an outline and a negative at the summary page; no negative has coordinates on the CT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from pydicom import Dataset

from ich_node.domain.findings import Analysis, KeySlice
from ich_node.report import headers
from ich_node.report.pictures.outline import Outline, area, outlines, simplified
from ich_node.report.pictures.secondary_capture import overlay_name
from ich_node.report.said.content import Content, Line
from ich_node.report.sr import codes
from ich_node.report.sr.document import (
    INFERRED,
    MODIFIES,
    OBSERVED,
    Frame,
    Reference,
    code,
    container,
    document,
    image,
    number,
    outline,
    text,
    uid_reference,
)

SERIES_NUMBER_OFFSET = 5
SERIES_DESCRIPTION = "ICH TRIAGE SR"
SLICES_PER_FINDING = 3
OUTLINES_PER_SLICE = 3
SMALLEST_SHARE = 0.2
TOLERANCE_PIXELS = 0.3


def structured_reports(frame: Frame, content: Content) -> tuple[Dataset, Dataset, Dataset]:
    """The measurement report as Comprehensive 3D SR, Comprehensive SR and Enhanced SR."""
    comprehensive_3d, comprehensive, enhanced = (
        document(
            frame,
            _root(frame, content),
            sop_class_uid=sop_class_uid,
            replaces=codes.MEASUREMENT_REPORT_SRS,
            role="measurement report",
            series_role="measurement report",
            series_number=frame.series_number_base + SERIES_NUMBER_OFFSET,
            series_description=SERIES_DESCRIPTION,
        )
        for sop_class_uid in codes.MEASUREMENT_REPORT_SRS
    )
    return comprehensive_3d, comprehensive, enhanced


def _root(frame: Frame, content: Content) -> Dataset:
    """TID 1500."""
    children = [*language(content), *observer(frame), _procedure()]
    if content.lines:
        groups = [*_region_groups(frame, content), *_label_groups(frame, content)]
        children.append(container(codes.IMAGING_MEASUREMENTS, groups))
    children.append(_evaluations(frame, content))
    return container(codes.IMAGING_MEASUREMENT_REPORT, children, template="1500", related="")


# --- context, shared with the text report --------------------------------------------------------------------------


def language(content: Content) -> list[Dataset]:
    """TID 1204: the language of the words; codes have none."""
    return [code(codes.LANGUAGE, codes.LANGUAGES[content.language], related=MODIFIES)]


def observer(frame: Frame) -> list[Dataset]:
    """TID 1002 and 1004: the device that the equipment attributes describe."""
    equipment = headers.Equipment.of(frame.analysis.card, frame.identity)
    return [
        code(codes.OBSERVER_TYPE, codes.DEVICE, related=OBSERVED),
        uid_reference(codes.DEVICE_OBSERVER_UID, equipment.device_uid),
        text(codes.DEVICE_OBSERVER_MANUFACTURER, equipment.manufacturer, related=OBSERVED),
        text(codes.DEVICE_OBSERVER_MODEL_NAME, equipment.model_name, related=OBSERVED),
    ]


def _procedure() -> Dataset:
    return code(codes.PROCEDURE_REPORTED, codes.CT_PROCEDURE, related=MODIFIES)


# --- findings ------------------------------------------------------------------------------------------------------


def _label_groups(frame: Frame, content: Content) -> Iterable[Dataset]:
    """TID 1501: one group per label, with its answer; that of "any" carries the priority."""
    for line in content.lines:
        children = [*_tracking(frame, f"ICH {line.label}", line.label), *_answer(frame, line, [_printed(frame)])]
        if line.label == "any" and content.priority_code is not None:
            children.append(code(codes.PRIORITY, content.priority_code))
        children += [image(codes.VISUAL_EXPLANATION, picture) for picture in _explanations(frame, line)]
        yield container(codes.MEASUREMENT_GROUP, children, template="1501")


def _tracking(frame: Frame, name: str, source: str) -> list[Dataset]:
    return [
        text(codes.TRACKING_IDENTIFIER, name, related=OBSERVED),
        uid_reference(codes.TRACKING_UID, frame.identity.instance("tracking", source)),
    ]


def _answer(frame: Frame, line: Line, certain_from: Sequence[Dataset] = ()) -> list[Dataset]:
    """What both kinds of group say of a label: where (when present), by which algorithm, how sure, present or not."""
    answer = codes.PRESENT if line.present else codes.ABSENT
    return [
        *([code(codes.FINDING, line.finding)] if line.present else []),
        *_site(line),
        *_algorithm(frame.analysis, line),
        number(codes.CERTAINTY_OF_FINDING, f"{line.percent_value:.1f}", codes.PERCENT, certain_from),
        code(line.finding, answer),
    ]


def _printed(frame: Frame) -> Dataset:
    """TID 320: the frame of the summary page."""
    page = frame.pictures[0]
    corners = np.array([(0, 0), (page.Columns, 0), (page.Columns, page.Rows), (0, page.Rows), (0, 0)], np.float64)
    return outline(None, corners, Reference.to(page), related=INFERRED)


def _site(line: Line) -> list[Dataset]:
    if line.site is None:
        return []
    side = [] if line.laterality is None else [code(codes.LATERALITY, line.laterality, related=MODIFIES)]
    return [code(codes.FINDING_SITE, line.site, side, related=MODIFIES)]


def _algorithm(analysis: Analysis, line: Line) -> list[Dataset]:
    """TID 4019: which weights decided, and against which threshold."""
    card = analysis.card
    return [
        text(codes.ALGORITHM_NAME, card.id, related=MODIFIES),
        text(codes.ALGORITHM_VERSION, card.version, related=MODIFIES),
        text(codes.ALGORITHM_PARAMETERS, f"weights SHA-256={card.sha256}", related=MODIFIES),
        text(codes.ALGORITHM_PARAMETERS, f"threshold={100 * line.threshold:g}%", related=MODIFIES),
        code(codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE, related=MODIFIES),
    ]


def _explanations(frame: Frame, line: Line) -> list[Reference]:
    """Pictures that show why: the summary page for "any", the overlays of its key slices for a present type."""
    if line.label == "any":
        return [Reference.to(picture) for picture in frame.pictures[:1]]
    return [Reference.to(picture) for key, picture in _shown(frame) if line.present and key.label == line.label]


def _shown(frame: Frame) -> list[tuple[KeySlice, Dataset]]:
    """Key slices, from foot to head, with their pictures."""
    volume = frame.analysis.volume
    if volume is None:
        return []
    pictures = {picture.SOPInstanceUID: picture for picture in frame.pictures}
    return [
        (key, pictures[frame.identity.instance("overlay", overlay_name(volume, key))])
        for key in frame.analysis.key_slices
    ]


# --- regions -------------------------------------------------------------------------------------------------------


def _region_groups(frame: Frame, content: Content) -> Iterable[Dataset]:
    """TID 1410: the outline of the activation map at its threshold, on the best slices of each present label."""
    for line in content.lines:
        for key, picture in best_slices(frame, line):
            for part, polygon in enumerate(regions(key, frame.analysis.card.cam_threshold), start=1):
                yield _region_group(frame, line, key, picture, polygon, part)


def best_slices(frame: Frame, line: Line) -> list[tuple[KeySlice, Dataset]]:
    """The slices of a present label on which its map is strongest, from foot to head."""
    if not line.present:
        return []
    own = [(key, picture) for key, picture in _shown(frame) if key.label == line.label]
    best = sorted(own, key=lambda pair: -float(pair[0].heat.max()))[:SLICES_PER_FINDING]
    return sorted(best, key=lambda pair: pair[0].slice_index)


def regions(key: KeySlice, threshold: float) -> list[Outline]:
    """The largest outlines [points, 2] (column, row) of a slice; holes and specks are left out."""
    found = outlines(key.heat, threshold)
    if not found:
        return []
    largest = area(found[0])
    outer = [polygon for polygon in found if area(polygon) / largest >= SMALLEST_SHARE]
    return [simplified(polygon, TOLERANCE_PIXELS) for polygon in outer[:OUTLINES_PER_SLICE]]


def _region_group(frame: Frame, line: Line, key: KeySlice, picture: Dataset, polygon: Outline, part: int) -> Dataset:
    source = f"{line.label} slice {key.slice_index + 1} region {part}"
    children = [
        *_tracking(frame, f"ICH {source}", source),
        *_answer(frame, line),
        image(codes.VISUAL_EXPLANATION, Reference.to(picture)),
        outline(codes.IMAGE_REGION, polygon, _slice(frame.analysis, key.slice_index)),
    ]
    return container(codes.MEASUREMENT_GROUP, children, template="1410")


def _slice(analysis: Analysis, index: int) -> Reference:
    """The CT image or frame that slice `index` came from."""
    volume = analysis.volume
    if volume is None:
        raise ValueError("a series without a volume has no slices")
    return Reference.to(volume.headers[index], volume.frame_numbers[index] if volume.frame_numbers else None)


# --- the whole -----------------------------------------------------------------------------------------------------


def _evaluations(frame: Frame, content: Content) -> Dataset:
    """TID 1500 rows 12 to 14: the answer on the whole series, and the words around it."""
    source = frame.analysis.headers[0]
    children = []
    if content.lines:
        overall = content.lines[0]
        children.append(code(overall.finding, codes.PRESENT if overall.present else codes.ABSENT))
    if content.status_code is not None:
        children.append(code(codes.PROCESSING_SUMMARY, content.status_code))
    said: Sequence[str] = (content.summary, *content.warnings, *(f"{line}." for line in content.disclaimers[:1]))
    children += [text(codes.SUMMARY, headers.encodable(paragraph, source)) for paragraph in said]
    return container(codes.QUALITATIVE_EVALUATIONS, children)
