"""`ich-node jobs`: what the node has done, does and could not do, for the person who operates it."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from ich_node.domain.errors import ConfigError, NoSuchJob
from ich_node.domain.ledger import Job
from ich_node.runtime import service
from ich_node.runtime.config import Config
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.protocols import Desk

LISTED = 100


def run(config: Config, action: str, job_id: int | None) -> int:
    """Carry out `ich-node jobs ACTION [ID]`."""
    if action != "list" and job_id is None:
        raise ConfigError([f"jobs {action} needs the number of a job"])
    store = JobStore.open(config.state_dir)
    console = Console()
    try:
        if action == "list" or job_id is None:
            console.print(_jobs(store.jobs(limit=LISTED)))
        elif action == "show":
            _show(store, job_id, console)
        elif action == "retry":
            console.print(f"job {job_id} is {store.retry(job_id).state} again")
        else:
            store.drop(job_id)
            console.print(f"job {job_id} is dropped")
    finally:
        store.close()
    return service.EXIT_OK


def _jobs(jobs: list[Job]) -> Table:
    table = Table("id", "created (UTC)", "state", "priority", "attempts", "series", "reason", box=None)
    for job in jobs:
        table.add_row(
            str(job.id),
            _moment(job.created_at),
            job.state,
            job.priority or "",
            str(job.attempts),
            job.series_uid,
            job.refusal or job.trouble or "",
        )
    return table


def _show(store: Desk, job_id: int, console: Console) -> None:
    job = store.job(job_id)
    if job is None:
        raise NoSuchJob(job_id)
    facts = Table(box=None, show_header=False)
    for name, value in (
        ("id", job.id),
        ("state", job.state),
        ("priority", job.priority),
        ("not analysed, because", job.refusal),
        ("trouble", job.trouble),
        ("study", job.study_uid),
        ("series", job.series_uid),
        ("images", len(job.sop_instance_uids)),
        ("attempts", job.attempts),
        ("corrects job", job.predecessor),
        ("created (UTC)", _moment(job.created_at)),
        ("last change (UTC)", _moment(job.updated_at)),
    ):
        facts.add_row(name, "" if value is None else str(value))
    console.print(facts)
    table = Table("destination", "#", "state", "attempts", "code", "cause", "item", box=None)
    for item in store.deliveries(job_id):
        uid = item.sent_sop_instance_uid or item.item
        table.add_row(
            item.destination, str(item.sequence), item.state, str(item.attempts), item.code or "", item.cause or "", uid
        )
    console.print(table)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
