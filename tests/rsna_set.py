"""A small data set in the layout of the RSNA 2019 challenge, made of ellipses."""

import csv

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ich_node.domain.findings import LABELS

ROWS = 64
PIXEL_MM = 3.6
SLICE_MM = 5.0
BLEEDING = (3, 4)


def write_rsna_set(root, *, patients=6, slices=8, test_patients=1):
    """stage_2_train.csv, stage_2_train/ and stage_2_test/ in `root`; the image IDs of the training part."""
    rows, ids = [], []
    for number in range(patients + test_patients):
        kind = None if number % 2 else number // 2 % 5
        hu = _stack(np.random.default_rng(number), slices, kind)
        folder = root / ("stage_2_train" if number < patients else "stage_2_test")
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(slices):
            image = f"ID_{(number * 7919 + index * 104729) % 16**6:012x}"
            _write(folder / f"{image}.dcm", hu[index], number, index)
            if number < patients:
                ill = kind is not None and index in BLEEDING
                values = [int(ill), *(int(ill and kind == j) for j in range(5))]
                rows += [(f"{image}_{name}", value) for name, value in zip(LABELS, values, strict=True)]
                ids.append(image)
    with (root / "stage_2_train.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("ID", "Label"))
        writer.writerows(rows + rows[:6])  # the published file repeats some rows
    return ids


def _stack(rng, slices, kind):
    r, c = np.mgrid[:ROWS, :ROWS] - ROWS / 2
    hu = np.full((slices, ROWS, ROWS), -1000.0)
    hu[:, (r / 27) ** 2 + (c / 21) ** 2 < 1] = 1000
    hu[:, (r / 25) ** 2 + (c / 19) ** 2 < 1] = 32
    hu[:, (r / 8) ** 2 + (c / 3) ** 2 < 1] = 8
    if kind is not None:
        for index in BLEEDING:
            hu[index][(r - 8 + 4 * kind) ** 2 + (c - 8) ** 2 < 25] = 70
    return np.round(hu + rng.normal(0, 3, hu.shape)).astype(np.int16)


def _write(path, hu, number, index):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}.{index}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.PatientID = "CT", f"ID_{number:08x}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.3.{number}", f"1.2.3.{number}.0"
    ds.ImagePositionPatient = [-115, -115, index * SLICE_MM]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [PIXEL_MM, PIXEL_MM]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = hu.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
    ds.PixelData = (np.maximum(hu, -1024).astype(np.int32) + 1024).astype(np.int16).tobytes()
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
