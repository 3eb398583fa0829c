"""Pictures as Secondary Capture images that lie exactly where the CT slices lie.

In: an analysis, what is said of it, identity and time. Out: SC Image Storage datasets (PS3.3 A.8.1), the summary page
first, then the overlays in the order in which the source is numbered.

The page is instance 1 and lies as far below the stack as the stack is high. Viewers that go by position start at the
feet (Orthanc's, dwv); OHIF takes an even stack for a volume and starts it at the head, but this distance makes it
uneven, and then OHIF goes by Instance Number. So the page comes first in all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pydicom.valuerep import DSfloat

from ich_node.dicom import geometry, reading
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import DISCLAIMER, LABELS, Analysis, KeySlice, Volume
from ich_node.report import headers
from ich_node.report.identifiers import Identity
from ich_node.report.pictures import overlay, summary_page
from ich_node.report.pictures.drawing import Picture
from ich_node.report.said.content import Caption, Content, percentage
from ich_node.report.said.reasons import PARTIAL
from ich_node.report.said.wording import WORDINGS
from ich_node.runtime.config import ReportConfig

SERIES_NUMBER_OFFSET = 1  # see multiframe
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SliceLocation")
FRAME_OF_REFERENCE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
THUMBNAILS = 3  # chosen: as many as fit side by side on the page and can still be read
PAGE_SIZES, MOST_OBLONG = (64, 4096), 4
"""Rows and columns of a source, and the ratio of its pixels' sides, that a summary page can be like."""


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A source image or frame: `header` is the instance, `plane` what the frame says of itself."""

    header: Dataset
    plane: Dataset
    frame_number: int | None

    @classmethod
    def of(cls, volume: Volume, index: int) -> Slice:
        """Slice `index` of a volume."""
        number = volume.frame_numbers[index] if volume.frame_numbers else None
        header = volume.headers[index]
        return cls(header, geometry.frame_attributes(header, number), number)

    @property
    def grid(self) -> overlay.Grid:
        """Its orientation and pixel size."""
        spacing = [float(value) for value in self.plane.PixelSpacing]
        return overlay.Grid(tuple(map(float, self.plane.ImageOrientationPatient)), (spacing[0], spacing[1]))


def secondary_captures(
    analysis: Analysis, content: Content, options: ReportConfig, identity: Identity, made_at: datetime
) -> list[Dataset]:
    """The whole series: the summary page, then one overlay per key slice; the page alone when nothing is present.

    The same input gives the same bytes.
    """
    number = options.series_number_base + SERIES_NUMBER_OFFSET
    series = Series(analysis, identity, number, content.series_description, made_at)
    overlays = []
    if analysis.volume is not None and any(finding.present for finding in analysis.findings):
        pairs = list(zip(analysis.key_slices, content.captions, strict=True))
        if _numbered_from_the_head(analysis.volume):
            pairs.reverse()
        for instance_number, (key, caption) in enumerate(pairs, start=2):
            overlays.append(_overlay(series, analysis, analysis.volume, key, caption, content, instance_number))
    return [_summary(series, analysis, content), *overlays]


class Series:
    """A series of secondary captures in the making: what all of its images have in common."""

    def __init__(
        self, analysis: Analysis, identity: Identity, number: int, description: str, made_at: datetime
    ) -> None:
        source = analysis.headers[0]
        common = Dataset()
        headers.stamp(common, source, headers.Equipment.of(analysis.card, identity), made_at)
        headers.image_context(common, source)
        common.SeriesInstanceUID = identity.series("pictures")
        common.SeriesNumber = number
        common.SeriesDescription = description
        common.Modality = "CT"
        common.ConversionType = "WSD"
        common.SecondaryCaptureDeviceManufacturer = common.Manufacturer
        common.SecondaryCaptureDeviceManufacturerModelName = common.ManufacturerModelName
        common.SecondaryCaptureDeviceSoftwareVersions = common.SoftwareVersions
        common.DateOfSecondaryCapture, common.TimeOfSecondaryCapture = common.ContentDate, common.ContentTime
        common.ImageType = ["DERIVED", "SECONDARY"]
        common.BurnedInAnnotation = "YES"
        headers.copy_elements(common, source, LOSSY)
        self._common, self._identity, self._source = common, identity, source

    def image(self, picture: Picture, role: str, source: str, number: int, derivation: str, comment: str) -> Dataset:
        """RGB uint8 [rows, columns, 3] as SC image `number`, still without plane and source images."""
        image = copy.deepcopy(self._common)
        image.SOPClassUID = SecondaryCaptureImageStorage
        image.SOPInstanceUID = self._identity.instance(role, source)
        image.InstanceNumber = number
        image.DerivationDescription = headers.encodable(derivation, self._source)
        image.ImageComments = headers.encodable(f"{comment} {DISCLAIMER}.", self._source)
        set_pixels(image, picture)
        set_file_meta(image)
        return image


def set_pixels(image: Dataset, picture: Picture) -> None:
    """Image Pixel module of RGB uint8 [rows, columns, 3] or [frames, rows, columns, 3] (PS3.3 C.7.6.3)."""
    image.SamplesPerPixel = 3
    image.PhotometricInterpretation = "RGB"
    image.PlanarConfiguration = 0
    image.Rows, image.Columns = picture.shape[-3:-1]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    data = picture.tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    image["PixelData"].VR = "OB"


def set_file_meta(image: Dataset) -> None:
    """File meta information of a native little endian object (PS3.10 7.1)."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID


def set_plane(image: Dataset, source: Slice) -> None:
    """Put an image exactly where a source slice lies (PS3.3 C.7.6.2, C.7.4.1)."""
    headers.copy_elements(image, source.plane, PLANE)
    headers.copy_elements(image, source.header, FRAME_OF_REFERENCE, empty=("PositionReferenceIndicator",))
    image.PatientOrientation = list(overlay.patient_orientation(source.grid.orientation))


def source_items(sources: Iterable[Slice], preserved: bool) -> list[Dataset]:
    """Items of Source Image Sequence (PS3.3 C.7.6.1.1.4); `preserved`: a pixel here is the same place as there."""
    items, common = [], Dataset()
    common.PurposeOfReferenceCodeSequence = [headers.code_item(SOURCE_IMAGE)]
    common.SpatialLocationsPreserved = "YES" if preserved else "NO"
    for source in sources:
        item = Dataset()
        item.update(common)  # the same elements: there may be a thousand items
        item.ReferencedSOPClassUID = source.header.SOPClassUID
        item.ReferencedSOPInstanceUID = source.header.SOPInstanceUID
        if source.frame_number is not None:
            item.ReferencedFrameNumber = source.frame_number
        items.append(item)
    return items


# --- overlays ------------------------------------------------------------------------------------------------------


def _overlay(
    series: Series,
    analysis: Analysis,
    volume: Volume,
    key: KeySlice,
    caption: Caption,
    content: Content,
    number: int,
) -> Dataset:
    card, source = analysis.card, Slice.of(volume, key.slice_index)
    share = _slice_share(analysis, key, content)
    words = overlay.Words(
        title=caption.title,
        details=tuple(part for part in (caption.where, " · ".join((*caption.position, *share))) if part),
        corner=(content.banner, f"{card.id} {card.version}"),
        scale=content.activation,
        disclaimer=DISCLAIMER,
    )
    picture = overlay.picture(volume.hu[key.slice_index], key.heat, card.cam_threshold, source.grid, words)
    derivation = (
        f"{card.id} {card.version}: CT, window {overlay.WINDOW_CENTRE}/{overlay.WINDOW_WIDTH} HU, class activation map "
        f"of {key.label}, contour at {card.cam_threshold:g}"
    )
    comment = ", ".join((caption.title, *words.details)) + "."
    image = series.image(picture, "overlay", overlay_name(volume, key), number, derivation, comment)
    set_plane(image, source)
    image.SourceImageSequence = source_items([source], preserved=True)
    return image


def overlay_name(volume: Volume, key: KeySlice) -> str:
    """What tells an overlay from its siblings: its UID is that of role "overlay" with this as its source."""
    source = Slice.of(volume, key.slice_index)
    return f"{source.header.SOPInstanceUID} {source.frame_number or 0} {key.label}"


def _slice_share(analysis: Analysis, key: KeySlice, content: Content) -> tuple[str, ...]:
    """The probability on this slice alone; the title has the one of the whole study."""
    if analysis.prediction is None:
        return ()
    share = float(analysis.prediction.slice_probability[key.slice_index, LABELS.index(key.label)])
    return (percentage(share, WORDINGS[content.language]),)


def _numbered_from_the_head(volume: Volume) -> bool:
    """Whether the source's own numbers run from head to foot, so that a viewer that goes by them shows it that way."""
    if volume.frame_numbers:
        return volume.frame_numbers[0] > volume.frame_numbers[-1]
    first, last = (reading.number(volume.headers[index], "InstanceNumber") for index in (0, -1))
    return first is not None and last is not None and first > last


# --- summary page --------------------------------------------------------------------------------------------------


def _summary(series: Series, analysis: Analysis, content: Content) -> Dataset:
    source = _reference(analysis)
    header = source.header if source else Dataset()
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    shape = summary_page.page_shape(rows, columns) if rows and columns else (summary_page.SMALLEST,) * 2
    squeeze = source.grid.squeeze if source else (1.0, 1.0)
    page = _page(analysis, content, side=min(shape) // THUMBNAILS)
    picture = summary_page.draw_page(page, *shape, squeeze)
    derivation = f"{analysis.card.id} {analysis.card.version}: summary of the result"
    image = series.image(picture, "summary page", "", 1, derivation, content.summary)
    image.PatientOrientation = None
    if source is not None:
        set_plane(image, source)
        _lower(image, analysis.volume, rows / shape[0] if rows else 1.0)
    distinct = {str(each.SOPInstanceUID): Slice(each, each, None) for each in analysis.headers}
    image.SourceImageSequence = source_items(distinct.values(), preserved=False)
    return image


def _reference(analysis: Analysis) -> Slice | None:
    """The lowest slice; of a series without a volume the first that says where it lies and that a page can be like."""
    if analysis.volume is not None:
        return Slice.of(analysis.volume, 0)
    for header in analysis.headers:
        try:
            plane = geometry.planes_of(header)[0]
        except (UnusableSeries, IndexError):
            continue
        if not _is_drawable(plane):
            continue
        return Slice(header, geometry.frame_attributes(header, plane.frame_number), plane.frame_number)
    return None


def _is_drawable(plane: geometry.Plane) -> bool:
    """Whether a page of this size and shape can be drawn: a header may claim 65,535 rows, or pixels like needles."""
    smallest, largest = PAGE_SIZES
    sensible = smallest <= min(plane.shape) and max(plane.shape) <= largest
    return sensible and max(plane.pixel_mm) <= MOST_OBLONG * min(plane.pixel_mm)


def _lower(image: Dataset, volume: Volume | None, factor: float) -> None:
    """Move the page a stack height below the stack, and shrink its pixels if it was enlarged (`factor` < 1)."""
    step = np.zeros(3)
    if volume is not None:
        step = volume.positions_mm[0] - volume.positions_mm[-1]
    cosines = np.asarray(image.ImageOrientationPatient, float)
    spacing = np.asarray(image.PixelSpacing, float)
    corner = 0.5 * (factor - 1) * (cosines[:3] * spacing[1] + cosines[3:] * spacing[0])  # same edges, smaller pixels
    position = np.asarray(image.ImagePositionPatient, float) + step + corner
    image.ImagePositionPatient = _decimals(position)
    image.PixelSpacing = _decimals(spacing * factor)
    if "SliceLocation" in image:
        del image.SliceLocation


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    return [DSfloat(round(float(value), 6), auto_format=True) for value in values]


def _page(analysis: Analysis, content: Content, side: int) -> summary_page.Page:
    analysed = analysis.status == "analysed"
    partial = any(warning.code in PARTIAL for warning in analysis.warnings)  # says itself what was scanned
    rows = [
        summary_page.Row(
            answer.name,
            None if answer.also_possible else answer.probability,
            answer.threshold,
            answer.percent,
            answer.present,
            answer.where_first or (answer.verdict if answer.also_possible else ""),
            answer.slice_range + (f" ({answer.images})" if answer.images else ""),
        )
        for answer in content.answers
    ]
    measured = (content.measured,) if analysed and content.measured else ()
    unanswered = " ".join(part for part in (WORDINGS[content.language].no_priority, _sentence(content.instead)) if part)
    return summary_page.Page(
        tone=content.tone,
        banner=content.banner,
        banner_note=content.banner_note,
        verdict=content.headline if analysed else content.explanation,
        explanation=content.explanation if analysed else unanswered,
        looked_at="" if any(finding.present for finding in analysis.findings) or partial else content.looked_at,
        headings=content.headings,
        rows=tuple(rows),
        thumbnails=tuple(_thumbnails(analysis, content, side)),
        warnings=content.warnings,
        remarks=content.remarks,
        more=WORDINGS[content.language].more,
        facts=(content.facts[0], " ".join((*content.facts[1:], content.disclaimers[1])), *measured),
        disclaimer=DISCLAIMER,
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _thumbnails(analysis: Analysis, content: Content, side: int) -> Iterable[summary_page.Thumbnail]:
    """The key slices with most of the evidence, every label once before any comes again; else the survey."""
    volume = analysis.volume
    if volume is None:
        return
    threshold = analysis.card.cam_threshold
    if not any(finding.present for finding in analysis.findings):
        for index, name in zip(analysis.survey, content.survey, strict=True):
            nothing = np.zeros(volume.hu.shape[1:], np.float32)
            grid = Slice.of(volume, index).grid
            yield summary_page.Thumbnail(overlay.thumbnail(volume.hu[index], nothing, threshold, grid, side), name)
        return
    for place in best_keys(analysis.key_slices, THUMBNAILS, threshold):
        key = analysis.key_slices[place]
        grid = Slice.of(volume, key.slice_index).grid
        small = overlay.thumbnail(volume.hu[key.slice_index], key.heat, threshold, grid, side)
        position = content.captions[place].position
        yield summary_page.Thumbnail(small, position[0] if position else "")


def lit_pixels(key: KeySlice, threshold: float) -> float:
    """How much of a picture is lit: pixels from the threshold on, then the brightest one."""
    return float(np.count_nonzero(key.heat >= threshold)) + float(key.heat.max(initial=0))


def best_keys(keys: Sequence[KeySlice], count: int, threshold: float) -> list[int]:
    """Indices of the `count` key slices to show first, ascending."""
    brightest = sorted(range(len(keys)), key=lambda index: -lit_pixels(keys[index], threshold))
    chosen: list[int] = []
    for new_label in (True, False):
        for index in brightest:
            labels = {keys[other].label for other in chosen}
            slices = {keys[other].slice_index for other in chosen}
            fresh = keys[index].slice_index not in slices and (not new_label or keys[index].label not in labels)
            if fresh and len(chosen) < count:
                chosen.append(index)
    return sorted(chosen)
