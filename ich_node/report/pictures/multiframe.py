"""The overlays as one Multi-frame True Color Secondary Capture, for viewers that play stacks (off by default).

In: the single-frame images of the series, in order. Out: one dataset (PS3.3 A.8.4) with a frame per overlay in the same
order, each with its plane in the functional groups. The summary page is not a frame: frames share one geometry.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage

from ich_node.report.headers import copy_elements
from ich_node.report.identifiers import Identity
from ich_node.report.pictures import secondary_capture

SERIES_NUMBER_OFFSET = 2  # one for each series of ours, in the order in which viewers should list them
SLICE_LOCATION_VECTOR = 0x00182005  # the tag to which Frame Increment Pointer points
PER_IMAGE = (
    *secondary_capture.PLANE,
    "SourceImageSequence",
    "InstanceNumber",
    "PixelData",
)


def multi_frame(overlays: Sequence[Dataset], identity: Identity, series_number: int) -> Dataset:
    """All overlays, which are of one size and orientation, as frames of one image. ValueError without any."""
    if not overlays:
        raise ValueError("a multi-frame image needs at least one overlay")
    image = copy.deepcopy(overlays[0])
    for keyword in PER_IMAGE:
        if keyword in image:
            delattr(image, keyword)
    image.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage
    image.SOPInstanceUID = identity.instance("multi-frame")
    image.SeriesInstanceUID = identity.series("multi-frame")
    image.SeriesNumber = series_number
    image.InstanceNumber = 1
    image.NumberOfFrames = len(overlays)
    image.SharedFunctionalGroupsSequence = [_shared(overlays[0])]
    image.PerFrameFunctionalGroupsSequence = [_frame(overlay) for overlay in overlays]
    image.FrameIncrementPointer = SLICE_LOCATION_VECTOR
    image.SliceLocationVector = [_height(overlay) for overlay in overlays]
    image.SourceImageSequence = [item for overlay in overlays for item in copy.deepcopy(overlay.SourceImageSequence)]
    secondary_capture.set_pixels(image, np.stack([pixels(overlay) for overlay in overlays]))
    secondary_capture.set_file_meta(image)
    return image


def pixels(image: Dataset) -> npt.NDArray[np.uint8]:
    """RGB uint8 [rows, columns, 3] of a native single-frame picture."""
    count = image.Rows * image.Columns * 3
    return np.frombuffer(image.PixelData, np.uint8, count).reshape(image.Rows, image.Columns, 3)


def _height(image: Dataset) -> float:
    """Distance in mm of the plane from the origin along its normal (PS3.3 C.8.6.5: the slice location of a frame)."""
    cosines = np.asarray(image.ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    return round(float(normal @ np.asarray(image.ImagePositionPatient, float)), 4)


def _shared(image: Dataset) -> Dataset:
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    copy_elements(measures, image, ("PixelSpacing", "SliceThickness"))
    copy_elements(orientation, image, ("ImageOrientationPatient",))
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    return shared


def _frame(image: Dataset) -> Dataset:
    position, frame = Dataset(), Dataset()
    copy_elements(position, image, ("ImagePositionPatient",))
    frame.PlanePositionSequence = [position]
    return frame
