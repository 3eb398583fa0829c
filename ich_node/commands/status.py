"""`ich-node status`: is it well, what does it do, what came out last; and `ich-node why`: the story of one study.

Tables on a terminal, fitted to its width (80 columns are enough); tab-separated lines in a pipe; JSON for programs.
No patient data: UIDs, numbers, states and our own words. An accession number is looked up by its hash.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ich_node.board import health, words
from ich_node.board.studies import Card, Studies
from ich_node.board.trend import Trend, book
from ich_node.commands.tables import show
from ich_node.domain.ledger import Job, hashed
from ich_node.runtime import service
from ich_node.runtime.config import Config
from ich_node.store.ledger.jobs import JobStore, open_ledger

NEWEST = 8  # chosen: fits a terminal of 24 lines with everything else
ROLES = ("receive", "infer", "deliver", "board")
AGAIN_S = 2.0  # chosen: as `watch` does


@dataclass(frozen=True, slots=True)
class Line:
    """One fact: what it is about, whether it is well, and what was found."""

    subject: str
    well: bool
    detail: str


def status(config: Config, *, as_json: bool, watch: bool) -> int:
    """Print how the node is, once or again and again; exit code 0 when nothing needs attention."""
    while True:
        store = open_ledger(config)
        try:
            studies = Studies(store, config.state_dir / "results")
            studies.refresh()
            now = time.time()
            facts = health.facts(config, studies, now)
            lines = [*_roles(), *_facts(config, facts), _drift(Trend.open(config, book(config).entries), now)]
            if watch and sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")
            if as_json:
                print(json.dumps(_as_json(lines, facts, studies.cards), ensure_ascii=False))
            else:
                show(("", "", ""), [("ok" if line.well else "LOOK", line.subject, line.detail) for line in lines])
                newest = sorted(studies.cards, key=lambda card: -card.job.id)[:NEWEST]
                print()
                show(("job", "received", "stands", "finding", "results"), [_row(card) for card in newest])
        finally:
            store.close()
        if not watch:
            return service.EXIT_OK if all(line.well for line in lines) else service.EXIT_FAILURE
        time.sleep(AGAIN_S)


def why(config: Config, wanted: str) -> int:
    """Print the story of a study, by Study or Series Instance UID, accession number, Patient ID or job number."""
    store = open_ledger(config)
    try:
        jobs = found(store, wanted)
        if not jobs:
            print(
                f"nothing is known of {wanted!r}: no image of it was kept, or its series still comes in",
                file=sys.stderr,
            )
            return service.EXIT_FAILURE
        studies = Studies(store, config.state_dir / "results")
        for job in jobs:
            card = studies.card(job.id)
            if card is not None:
                _story(card)
    finally:
        store.close()
    return service.EXIT_OK


# --- status ----------------------------------------------------------------------------------------------------------


def running(processes: Path = Path("/proc")) -> set[str]:
    """The roles that run on this machine, by the command lines of its processes (proc(5))."""
    found = set()
    for path in processes.glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # gone, or not ours to see
            continue
        names = [word.decode(errors="replace") for word in words if word]
        for at, name in enumerate(names[:-1]):
            if (name.endswith("/ich-node") or name == "ich_node") and names[at + 1] in ROLES:
                found.add(names[at + 1])
    return found


def _roles() -> list[Line]:
    up = running()
    needed = ("receive", "infer", "deliver")
    lines = [Line(role, role in up, "runs" if role in up else "does not run") for role in needed]
    return [*lines, *([Line("board", True, "runs")] if "board" in up else [])]


def _facts(config: Config, facts: health.Facts) -> list[Line]:
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(facts.jobs.items())) or "none yet"
    provider = f"{facts.model} on {facts.providers[0]}" if facts.providers else "no result yet"
    lines = [
        Line("jobs", facts.queue_s <= health.OVERDUE_S, jobs),
        Line("model", facts.bundle_present, provider),
        Line(
            "disk",
            not facts.refusing,
            f"{facts.free_bytes / 1e9:.1f} GB free, refuses below {config.store.min_free_gb:g}",
        ),
    ]
    for item in facts.waiting:
        why_ = f": {item.cause}" if item.cause else ""
        detail = f"{item.results} results wait, the oldest for {item.oldest_s:.0f} s{why_}"
        lines.append(Line(item.destination, item.oldest_s <= health.OVERDUE_S, detail))
    return lines


def _drift(trend: Trend, now: float) -> Line:
    """What has moved in the last week; reads the record that board and retention keep."""
    drift = trend.drift
    alarms = drift.standing(now)
    if alarms:
        return Line("drift", False, "; ".join(f"{words.EN.moved(alarm)}: {alarm.share:.0%}" for alarm in alarms))
    if not drift.watched:
        return Line("drift", True, f"the reference has {len(drift.reference)} of {drift.baseline} studies")
    return Line("drift", True, "nothing has moved")


def _row(card: Card) -> tuple[str, ...]:
    result = card.result
    findings = [f.label for f in result.findings if f.label != "any" or len(result.findings) == 1] if result else []
    where = " ".join(f"{d.name} {d.sent}/{d.owed}" for d in card.destinations)
    return (
        str(card.job.id),
        datetime.fromtimestamp(card.job.created_at).astimezone().strftime("%d %H:%M:%S"),
        card.standing,
        ", ".join(findings) or (card.reason or ""),
        where,
    )


def _as_json(lines: Sequence[Line], facts: health.Facts, cards: Sequence[Card]) -> dict[str, Any]:
    return {
        "well": all(line.well for line in lines),
        "problems": list(facts.problems),
        "parts": {line.subject: {"well": line.well, "detail": line.detail} for line in lines},
        "jobs": facts.jobs,
        "queue_oldest_s": facts.queue_s,
        "disk_free_bytes": facts.free_bytes,
        "newest": [
            {"job": card.job.id, "series": card.job.series_uid, "standing": card.standing, "reason": card.reason}
            for card in sorted(cards, key=lambda card: -card.job.id)[:NEWEST]
        ],
    }


# --- why -------------------------------------------------------------------------------------------------------------


def found(store: JobStore, wanted: str) -> list[Job]:
    """The jobs of a Study or Series Instance UID, accession number, Patient ID or job number, oldest first."""
    if wanted.isdecimal() and len(wanted) < 10 and (job := store.job(int(wanted))) is not None:
        return [job]
    by_hash = hashed(wanted)
    jobs = store.jobs(study_uid=wanted) or store.jobs_of_series(wanted)
    jobs = jobs or store.jobs(accession_hash=by_hash) or store.jobs(patient_hash=by_hash)
    return sorted(jobs, key=lambda job: job.id)


def _story(card: Card) -> None:
    job, result = card.job, card.result
    told = [
        ("job", f"{job.id}: {card.standing}"),
        ("study", job.study_uid),
        ("series", job.series_uid),
        ("from", f"{job.calling_ae_title or 'not known'} {job.calling_address or ''}".strip()),
        ("whole", f"{_moment(job.created_at)}, {len(job.sop_instance_uids)} images"),
        ("attempts", f"{job.attempts}" + (f"; {job.trouble}" if job.trouble else "")),
    ]
    if card.reason:
        told.append(("not analysed", card.reason))
    if result is not None:
        told.append(("analysed", f"{result.model} on {result.provider}, {result.seconds:.1f} s"))
        for finding in result.findings:
            side = f", {finding.laterality}" if finding.laterality else ""
            told.append(
                ("finding", f"{finding.label} {finding.probability:.0%}{side} {', '.join(finding.sites)}".strip())
            )
        told += [("note", text) for text in result.warnings]
    if job.predecessor:
        told.append(("corrects", f"job {job.predecessor}"))
    if card.successor:
        told.append(("corrected by", f"job {card.successor}"))
    for item in card.destinations:
        trouble = f"; {item.trouble}" if item.trouble else ""
        told.append(("sent to", f"{item.name}: {item.sent} of {item.owed}, last {_moment(item.last_s)}{trouble}"))
    show(("", ""), told)
    print()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
