"""The database again from the files, when node.db is gone.

Every results folder with a readable result.json becomes a job that owes its results once more: a destination that has
them gets the same bytes under the same UIDs, which changes nothing there. Series without results have no row, so that
assembly queues them again. What is not in the files (attempts, refusals, who dropped what) is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ich_node.domain.dicom import input_digest
from ich_node.domain.ledger import JobState, ResultInstance
from ich_node.runtime import logs
from ich_node.store.layout import StateDir
from ich_node.store.ledger.tables import job


def restore_jobs(db: sa.Connection, state: StateDir, now: float) -> int:
    """Insert a job for every finished result in `state`, in the caller's transaction; returns how many."""
    restored = 0
    for job_id, result in _results(state.results):
        uids = sorted(result["sop_instance_uids"])
        row = {
            "id": job_id,
            "study_uid": result["study_instance_uid"],
            "series_uid": result["series_instance_uid"],
            "input_digest": input_digest(uids),
            "sop_instance_uids": "\n".join(uids),
            "revision": int(result.get("revision", 0)),
            "state": JobState.DELIVERING,
            "rank": 0,
            "attempts": 1,
            "claims": 1,
            "not_before": 0.0,
            "publish_after": 0.0,
            "refusal": result["reason"],
            "priority": result["priority"],
            "created_at": now,
            "updated_at": now,
        }
        db.execute(sa.insert(job), row)
        restored += 1
    if restored:
        logs.get().warning("database_rebuilt", jobs=restored)
    return restored


def result_files(state: StateDir, job_id: int) -> list[ResultInstance]:
    """The result objects of a job in the order of delivery, as its result.json lists them."""
    folder = state.results_of(job_id)
    listed = json.loads((folder / "result.json").read_bytes())["objects"]
    return [
        ResultInstance(item["sop_class_uid"], item["sop_instance_uid"], folder / f"{item['sop_instance_uid']}.dcm")
        for item in listed
    ]


def _results(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(job id, result) of every complete results folder, oldest first; of two of the same input and revision one."""
    seen = set()
    for path in sorted(folder.glob("*/result.json"), key=lambda p: (len(p.parent.name), p.parent.name)):
        if not path.parent.name.isdecimal():
            continue
        try:
            result = json.loads(path.read_bytes())
            identity = (
                result["series_instance_uid"],
                input_digest(result["sop_instance_uids"]),
                result.get("revision", 0),
            )
            result["objects"], result["reason"], result["priority"], result["study_instance_uid"]
        except (ValueError, KeyError, TypeError):
            continue  # not a result of ours: assembly takes the series up again
        if identity not in seen:
            seen.add(identity)
            yield int(path.parent.name), result
