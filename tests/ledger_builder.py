"""A store with published jobs whose result files are real, small DICOM files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from ich_node.deliver import role as deliver_role
from ich_node.domain.dicom import Instance, Series
from ich_node.domain.ledger import Delivery, Job, Owed, ResultInstance, Sent, dimse_code
from ich_node.runtime.config import Config, DestinationConfig, parse
from ich_node.store.ledger.jobs import JobStore

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


class Clock:
    """A clock that moves when told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def configuration(state_dir: Path, *destinations: dict[str, object], **deliver: object) -> Config:
    """A configuration with these destinations, quick time-outs unless told otherwise."""
    quick = {"retry_base_s": 0.1, "retry_max_s": 0.4, "connect_timeout_s": 10, "dimse_timeout_s": 10, "linger_s": 0.3}
    return parse(
        {
            "store": {"state_dir": str(state_dir)},
            "deliver": {"destinations": list(destinations), **quick, **deliver},
        },
        state_dir,
    )


def destination(name: str, port: int, **more: object) -> dict[str, object]:
    """A destination on loopback, called PACS."""
    return {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": port, **more}


def destination_config(name: str = "pacs", port: int = 1, **more: object) -> DestinationConfig:
    """The same as an object."""
    return DestinationConfig.model_validate(destination(name, port, **more))


def write_instance(path: Path, sop_class_uid: str, sop_instance_uid: str, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """A minimal but real DICOM file; a secondary capture has 16 × 16 RGB pixels that depend on its UID."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, sop_instance_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", f"1.2.3.{sop_class_uid.rsplit('.', 1)[-1]}"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "TEST-1", "DELIVERY^TEST", "OT"
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.StudyID = ""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if sop_class_uid == SECONDARY_CAPTURE:
        _add_pixels(dataset)
        if syntax == RLELossless:
            dataset.compress(RLELossless, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _add_pixels(dataset: Dataset) -> None:
    seed = sum(map(ord, dataset.SOPInstanceUID))
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    dataset.Rows = dataset.Columns = 16
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()


def publish_job(
    store: JobStore,
    state_dir: Path,
    destinations: Sequence[str],
    *,
    series_uid: str = "1.2.3.4",
    classes: Sequence[str] = (SECONDARY_CAPTURE, SECONDARY_CAPTURE, BASIC_TEXT_SR),
    priority: str = "ROUTINE",
    syntax: UID = ExplicitVRLittleEndian,
    owe: Callable[[list[ResultInstance]], list[Owed]] | None = None,
) -> tuple[Job, list[ResultInstance]]:
    """A job in state delivering, with one file per entry of `classes`; a 3D SR gets its alternates beside it.

    owe: what is owed, when that is not every file to each of `destinations`.
    """
    instance = Instance(
        "1.2.3", series_uid, "1.2.840.10008.5.1.4.1.1.2", f"{series_uid}.1", "1.2.840.10008.1.2", Path()
    )
    store.enqueue(Series("1.2.3", series_uid, (instance,)))
    job = store.claim("test")
    assert job is not None
    files = []
    for number, sop_class_uid in enumerate(classes):
        uid = f"2.25.{job.id}{number:03d}"
        folder = state_dir / "results" / str(job.id)
        path = write_instance(folder / f"{uid}.dcm", sop_class_uid, uid, syntax)
        if sop_class_uid == COMPREHENSIVE_3D_SR:
            write_instance(folder / f"{uid}.comprehensive.dcm", COMPREHENSIVE_SR, f"{uid}1")
            write_instance(folder / f"{uid}.enhanced.dcm", ENHANCED_SR, f"{uid}2")
        files.append(ResultInstance(sop_class_uid, uid, path))
    owed = owe(files) if owe else [Owed(file, name) for name in destinations for file in files]
    store.publish(job, owed, priority=priority)
    return job, files


@contextmanager
def delivering(config: Config) -> Iterator[None]:
    """The whole deliver role in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=deliver_role.run, args=(config, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive(), "the role did not stop"


def say_sent(store: JobStore, *items: Delivery, status: int = 0) -> None:
    """A destination has taken these."""
    store.sent_all([Sent(item, dimse_code(status)) for item in items])
