"""The outlines over the original CT: a Grayscale Softcopy Presentation State (off by default; Weasis shows it).

In: the key slices of an analysis, and what is said of each. Out: one dataset (PS3.3 A.33.1): brain window, the
outline of the activation map at its threshold, and a line of text on every key slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from pydicom import Dataset

from ich_node.domain.findings import DISCLAIMER, Analysis, KeySlice, Volume
from ich_node.report import headers
from ich_node.report.identifiers import Identity
from ich_node.report.pictures import overlay
from ich_node.report.pictures.outline import outlines, simplified

SERIES_NUMBER_OFFSET = 4  # see multiframe
SERIES_DESCRIPTION = "ICH outlines"
TOLERANCE_PIXELS = 0.3  # chosen: a simplified outline that the eye cannot tell from the whole one


def presentation_state(
    analysis: Analysis, captions: Sequence[str], identity: Identity, series_number: int, made_at: datetime
) -> Dataset | None:
    """Outlines and captions (one per key slice, in the same order) upon the CT; None without key slices."""
    volume = analysis.volume
    if volume is None or not analysis.key_slices:
        return None
    source = analysis.headers[0]
    equipment = headers.Equipment.of(analysis.card, identity)
    layer = GraphicLayer("ICH", order=1, description="AI outline of the activation map")
    threshold = analysis.card.cam_threshold
    annotations = [
        _annotation(key, headers.encodable(caption, source), volume, layer, threshold)
        for key, caption in zip(analysis.key_slices, captions, strict=True)
    ]
    state: Dataset = GrayscaleSoftcopyPresentationState(
        referenced_images=_distinct(volume, analysis.key_slices),
        series_instance_uid=identity.series("presentation state"),
        series_number=series_number,
        sop_instance_uid=identity.instance("presentation state"),
        instance_number=1,
        manufacturer=equipment.manufacturer,
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_versions[0],
        device_serial_number=equipment.device_name,
        content_label="ICH",
        content_description=DISCLAIMER,
        graphic_layers=[layer],
        graphic_annotations=annotations,
        voi_lut_transformations=[
            SoftcopyVOILUTTransformation(window_center=overlay.WINDOW_CENTRE, window_width=overlay.WINDOW_WIDTH)
        ],
    )
    made = headers.local_time(made_at, source)
    headers.stamp(state, source, equipment, made_at)
    headers.image_context(state, source)
    state.SeriesDescription = SERIES_DESCRIPTION
    state.PresentationCreationDate, state.PresentationCreationTime = made.strftime("%Y%m%d"), made.strftime("%H%M%S")
    return state


def _annotation(
    key: KeySlice, caption: str, volume: Volume, layer: GraphicLayer, threshold: float
) -> GraphicAnnotation:
    """Outline and words of one key slice."""
    polygons = [simplified(polygon, TOLERANCE_PIXELS) for polygon in outlines(key.heat, threshold)]
    row, column = np.unravel_index(int(np.argmax(key.heat)), key.heat.shape)
    text = TextObject(
        f"{caption}\r\n{DISCLAIMER}",
        AnnotationUnitsValues.PIXEL,
        anchor_point=(float(column) + 0.5, float(row) + 0.5),
        anchor_point_visible=False,
    )
    return GraphicAnnotation(
        referenced_images=[volume.headers[key.slice_index]],
        referenced_frame_number=volume.frame_numbers[key.slice_index] if volume.frame_numbers else None,
        graphic_layer=layer,
        graphic_objects=[GraphicObject("POLYLINE", polygon, AnnotationUnitsValues.PIXEL) for polygon in polygons],
        text_objects=[text],
    )


def _distinct(volume: Volume, keys: Sequence[KeySlice]) -> list[Dataset]:
    """The instances of the key slices, each once (an Enhanced CT is one instance for all of its slices)."""
    found = [volume.headers[key.slice_index] for key in keys]
    return list({str(header.SOPInstanceUID): headers.complete(header) for header in found}.values())
