"""The newest copies of the images of a job, for results anew: a sender that has corrected a header sends it again.

In: the job and the spool, where another dataset under the same SOP Instance UID lies as `<UID>~2.dcm`. Out: the files
that a job of today would be made of. What another sender sent under the same UIDs counts for nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from ich_node.dicom import owner
from ich_node.dicom.part10 import read_header, read_instance
from ich_node.dicom.reading import text
from ich_node.domain.errors import NoSuchJob, UnidentifiableInstance
from ich_node.domain.ledger import Job, Origin, hashed
from ich_node.store.ledger.protocols import Desk
from ich_node.store.spool import Spool


def redo(desk: Desk, spool: Spool, job_id: int) -> Job:
    """Make the results of a job anew, from the newest copies. Raises NoSuchJob, or WrongState as `Desk.redo`."""
    job = desk.job(job_id)
    if job is None:
        raise NoSuchJob(job_id)
    return desk.redo(job_id, *newest(job, spool))


def newest(job: Job, spool: Spool) -> tuple[tuple[str, ...], Origin]:
    """The newest copy of each image of a job by its sender, else the one that it has: file names without their ending,
    and whose they are now.
    """
    names: dict[str, str] = {}
    for name in job.sop_instance_uids:
        uid = name.partition("~")[0]
        names[uid] = max(_copies(job, spool, uid), default=(0, name))[1]
    origin = Origin(job.calling_ae_title, job.calling_address, job.patient_hash, job.accession_hash)
    if set(names.values()) != set(job.sop_instance_uids):
        (path, *_) = spool.paths(job.series_uid, list(names.values()))
        with suppress(UnidentifiableInstance, OSError):
            header = read_header(path, (*owner.KEYWORDS, "AccessionNumber"))
            number = text(header, "AccessionNumber")
            patient_hash, accession_hash = hashed(owner.Owner.of(header).patient_id), hashed(number) if number else None
            origin = replace(origin, patient_hash=patient_hash, accession_hash=accession_hash)
    return tuple(names.values()), origin


def _copies(job: Job, spool: Spool, uid: str) -> list[tuple[int, str]]:
    """When each copy of an image by the sender of the job was written, and its name."""
    found = []
    for path in spool.copies(job.series_uid, uid):
        with suppress(UnidentifiableInstance, OSError):
            sender = read_instance(path).sender
            if sender is None or (sender.ae_title, sender.address) == (job.calling_ae_title, job.calling_address):
                found.append((path.stat().st_mtime_ns, path.stem))
    return found
