"""`ich-node jobs`: what the node has done, does and could not do, for the person who operates it.

Nothing that a stranger wrote is shown but UIDs, AE titles and addresses; reasons and causes are cleaned of what could
act on a terminal. Every decision of an operator goes to the audit trail.
"""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom.uid import UID

from ich_node.commands.tables import show
from ich_node.domain.errors import ConfigError, NoSuchJob, WrongState
from ich_node.domain.ledger import Job, JobState, Owed, hashed
from ich_node.runtime import audit, service
from ich_node.runtime.config import Config
from ich_node.store import copies
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import open_ledger
from ich_node.store.ledger.protocols import Desk
from ich_node.store.ledger.rebuild import result_files
from ich_node.store.routes import route
from ich_node.store.spool import Spool

LISTED = 100  # chosen: a few screens, newest first; who looks for an older job names its study
DECISIONS = ("retry", "drop", "redo", "resend", "hurry")
ACTIONS = ("list", "show", *DECISIONS)
DONE_TO_A_STUDY = {"retry": "U", "drop": "U", "redo": "C", "resend": "R"}  # EventActionCode, PS3.15 A.5.3.3


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to list: everything that is given must fit. patient_id, accession_number are looked up by their hashes."""

    state: str | None = None
    study_uid: str | None = None
    patient_id: str | None = None
    accession_number: str | None = None
    calling_ae_title: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def moment(text: str) -> datetime:
    """A time as people write it, 2026-11-26 or 2026-11-26T08:30, local unless it names an offset."""
    return datetime.fromisoformat(text).astimezone()


def run(
    config: Config, action: str, job_id: int | None, destination: str | None = None, wanted: Wanted | None = None
) -> int:
    """Carry out `ich-node jobs ACTION [ID]`; `wanted` restricts the list, `destination` a resend or a hurry."""
    if action not in ("list", "hurry") and job_id is None:
        raise ConfigError([f"jobs {action} needs the number of a job"])
    _check_destination(config, destination)
    store = open_ledger(config)
    try:
        if action == "list" or (job_id is None and action != "hurry"):
            _list(_found(store, wanted or Wanted()))
        elif action == "show":
            _show(store, job_id or 0)
        else:
            with audit.running(config, "jobs"):
                print(_decide(config, store, action, job_id or 0, destination))
    finally:
        store.close()
    return service.EXIT_OK


# --- decisions -------------------------------------------------------------------------------------------------------


def _decide(config: Config, store: Desk, action: str, job_id: int, destination: str | None) -> str:
    """Carry out an operator's decision; returns what became of it."""
    if action == "hurry":
        names = [destination] if destination else [each.name for each in config.deliver.everywhere]
        count = store.hurry(names)
        waiting = [_held(store, job) for job in store.jobs(JobState.DELIVERING, limit=LISTED)]
        audit.get().decided(_operator(), f"jobs hurry to {', '.join(names)}", "R", waiting)
        return f"{count} items wait for {', '.join(names) or 'nobody'}: they go now"
    spool = Spool(config.state_dir, min_free_bytes=0)  # to read
    deeds: dict[str, Callable[[], str]] = {
        "retry": lambda: f"job {job_id} is {store.retry(job_id).state} again",
        "drop": lambda: _drop(store, job_id),
        "redo": lambda: f"job {copies.redo(store, spool, job_id).id} makes the results of job {job_id} anew",
        "resend": lambda: f"{_resend(config, store, job_id, destination)} items of job {job_id} go out again",
    }
    outcome = deeds[action]()
    job = store.job(job_id)
    if job is not None:
        audit.get().decided(_operator(), f"jobs {action} {job_id}", DONE_TO_A_STUDY[action], [_held(store, job)])
    return outcome


def _held(store: Desk, job: Job) -> audit.Held:
    """The results of a job, for the audit trail."""
    instances = {item.item: item for item in store.deliveries(job.id) if item.is_instance}
    sample = next((item.path for item in instances.values() if item.path.exists()), None)
    return audit.Held(job.study_uid, Counter(item.sop_class_uid for item in instances.values()), sample)


def _drop(store: Desk, job_id: int) -> str:
    store.drop(job_id)
    return f"job {job_id} is dropped"


def _resend(config: Config, store: Desk, job_id: int, destination: str | None) -> int:
    """Also to a destination that the job never owed anything: it gets what its route says."""
    job = store.job(job_id)
    if job is None:
        raise NoSuchJob(job_id)
    files = StateDir(config.state_dir).results_of(job_id)
    if not files.is_dir():
        raise WrongState(
            f"the results of job {job_id} are no longer here: `ich-node jobs redo {job_id}` makes them anew"
        )
    owed: Sequence[Owed] = ()
    if destination is not None:
        instances = result_files(StateDir(config.state_dir), job_id)
        routed = route(instances, config.deliver, priority=job.priority, sender=job.calling_ae_title)
        owed = [one for one in routed if one.destination == destination]
    return store.resend(job_id, destination, owed)


def _check_destination(config: Config, name: str | None) -> None:
    names = [destination.name for destination in config.deliver.everywhere]
    if name is not None and name not in names:
        raise ConfigError([f"there is no destination {name!r}; configured: {', '.join(names) or 'none'}"])


def _operator() -> str:
    """The account that decides."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in containers
        return "unknown"


# --- tables ----------------------------------------------------------------------------------------------------------


def _found(store: Desk, wanted: Wanted) -> list[Job]:
    return store.jobs(
        None if wanted.state is None else JobState(wanted.state),
        study_uid=wanted.study_uid,
        patient_hash=None if wanted.patient_id is None else hashed(wanted.patient_id),
        accession_hash=None if wanted.accession_number is None else hashed(wanted.accession_number),
        calling_ae_title=wanted.calling_ae_title,
        since=None if wanted.since is None else wanted.since.timestamp(),
        until=None if wanted.until is None else wanted.until.timestamp(),
        limit=LISTED,
    )


def _list(jobs: list[Job]) -> None:
    head = ("id", "created (UTC)", "state", "priority", "tries", "from", "series", "why")
    show(
        head,
        [
            (
                job.id,
                _moment(job.created_at),
                job.state,
                job.priority,
                job.attempts,
                job.calling_ae_title,
                job.series_uid,
                job.refusal or job.trouble,
            )
            for job in jobs
        ],
        shorten=("series",),
    )


def _show(store: Desk, job_id: int) -> None:
    job = store.job(job_id)
    if job is None:
        raise NoSuchJob(job_id)
    show(("", ""), _facts(job))
    head = ("destination", "#", "state", "tries", "answer", "cause", "SOP class", "item")
    show(
        head,
        [
            (
                item.destination,
                item.sequence,
                item.state,
                item.attempts,
                item.code,
                item.cause,
                _class_name(item.sent_sop_class_uid or item.sop_class_uid),
                item.sent_sop_instance_uid or item.item,
            )
            for item in store.deliveries(job_id)
        ],
        shorten=("item",),
    )


def _facts(job: Job) -> Iterable[tuple[str, object]]:
    yield from (
        ("id", job.id),
        ("state", job.state),
        ("priority", job.priority),
        ("not analysed, because", job.refusal),
        ("trouble", job.trouble),
        ("study", job.study_uid),
        ("series", job.series_uid),
        ("images", len(job.sop_instance_uids) or "removed"),
        ("sent by", " at ".join(each for each in (job.calling_ae_title, job.calling_address) if each)),
        ("attempts", job.attempts),
        ("worker", job.worker),
        ("corrects job", job.predecessor),
        ("done anew", f"{job.revision} times before this" if job.revision else None),
        ("created (UTC)", _moment(job.created_at)),
        ("last change (UTC)", _moment(job.updated_at)),
    )


def _class_name(sop_class_uid: str) -> str:
    return UID(sop_class_uid).name.removesuffix(" Storage") if sop_class_uid else "message"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
