"""The class activation map as numbers: Parametric Map storage for research software (off by default).

In: the key slices of an analysis. Out: one dataset (PS3.3 A.75) per label, float32 0..1 on the CT's own grid, quantity
(130402, DCM, Class activation).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes

from ich_node.dicom import reading
from ich_node.domain.findings import DISCLAIMER, LABELS, Analysis, KeySlice, Volume
from ich_node.report import headers
from ich_node.report.identifiers import Identity

SERIES_NUMBER_OFFSET = 3  # see multiframe
SERIES_DESCRIPTION = "ICH activation map"


def parametric_maps(analysis: Analysis, identity: Identity, series_number: int, made_at: datetime) -> list[Dataset]:
    """The maps of the key slices, one object per label that has any, in the order of the labels.

    None where the source does not name its frame of reference: a map must (PS3.3 C.7.4.1).
    """
    volume = analysis.volume
    if volume is None or not all(header.get("FrameOfReferenceUID") for header in volume.headers):
        return []
    shown = [(label, [key for key in analysis.key_slices if key.label == label]) for label in LABELS]
    return [
        _finished(_map(analysis, volume, label, keys, number, identity, series_number), analysis, identity, made_at)
        for number, (label, keys) in enumerate(((label, keys) for label, keys in shown if keys), start=1)
    ]


def _map(
    analysis: Analysis,
    volume: Volume,
    label: str,
    keys: Sequence[KeySlice],
    number: int,
    identity: Identity,
    series_number: int,
) -> Dataset:
    equipment = headers.Equipment.of(analysis.card, identity)
    positions = [hd.PlanePositionSequence("PATIENT", list(volume.positions_mm[key.slice_index])) for key in keys]
    sources = [headers.complete(volume.headers[key.slice_index]) for key in keys]
    for source in sources:  # highdicom needs the one, and takes the other as it comes
        source.SliceThickness = reading.number(source, "SliceThickness") or float(volume.spacing_mm[0])
        source.SpacingBetweenSlices = float(volume.spacing_mm[0])
    pixel_map: Dataset = hd.pm.ParametricMap(
        source_images=sources if volume.frame_numbers is None else sources[:1],
        pixel_array=np.stack([key.heat for key in keys]).astype(np.float32),
        plane_positions=positions,
        series_instance_uid=identity.series("parametric map"),
        series_number=series_number,
        sop_instance_uid=identity.instance("parametric map", label),
        instance_number=number,
        manufacturer=equipment.manufacturer,
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_versions[0],
        device_serial_number=equipment.device_name,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(label)],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="ICH_CAM",
        content_description=f"Class activation map, {label}",
    )
    return pixel_map


def _mapping(label: str) -> hd.pm.RealWorldValueMapping:
    return hd.pm.RealWorldValueMapping(
        lut_label=label[:16],
        lut_explanation=f"Calibrated class activation, {label}",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=hd.sr.CodedConcept("130402", "DCM", "Class activation"),
    )


def _finished(pixel_map: Dataset, analysis: Analysis, identity: Identity, made_at: datetime) -> Dataset:
    """The same object with our headers, and without the UIDs and times that highdicom draws by itself."""
    source = analysis.headers[0]
    headers.stamp(pixel_map, source, headers.Equipment.of(analysis.card, identity), made_at)
    headers.image_context(pixel_map, source)
    pixel_map.SeriesDescription = SERIES_DESCRIPTION
    pixel_map.ImageComments = DISCLAIMER
    organization = identity.instance("dimension organization", str(pixel_map.SOPInstanceUID))
    for item in (*pixel_map.DimensionOrganizationSequence, *pixel_map.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return pixel_map
