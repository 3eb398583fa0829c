"""The infer role: claim a job, tell its story (pipeline.py), make its results durable, publish.

One engine for life, for two studies at a time (hands.py). READY only after checksum, self-test tensor and the execution
provider that really runs are known. Retry is decided here and nowhere else on this side of the queue.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
from pydicom import Dataset

from ich_node.domain.errors import (
    EngineFailure,
    IchNodeError,
    ResultConflict,
    SpoolFull,
    StoreError,
    Superseded,
    TooEarly,
    UnusableSeries,
)
from ich_node.domain.findings import Analysis
from ich_node.domain.ledger import Job, ResultInstance
from ich_node.domain.reasons import Reason, Why
from ich_node.infer import bundle, identity_alone, lease, pipeline
from ich_node.infer.air import adds_no_head, ends_above_the_head
from ich_node.infer.engine import Engine, open_engine
from ich_node.infer.hands import Hands, OneAtATime
from ich_node.report import build, files
from ich_node.report.said.reasons import english
from ich_node.report.sr.predecessor import Predecessor
from ich_node.runtime import garbage, host, logs, service
from ich_node.runtime.config import Config
from ich_node.runtime.patience import Patience
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import open_ledger
from ich_node.store.ledger.protocols import Work
from ich_node.store.ledger.turns import AHEAD_S
from ich_node.store.routes import route
from ich_node.store.spool import Spool

SPACE_WAIT_S = 10.0  # chosen: retention and people take longer to make room than a moment
SHORTEST_WAIT_S = 0.005  # between two looks at whether results may go out
LONGEST_RETRY_S = 3600.0  # a reader waits for the answer: an hour is already late
UNREAD = frozenset({Why.HEADERS_TOO_LARGE, Why.NOT_JUDGED})
"""What is told of series whose headers nobody reads again."""
WORKER_NAME_VARIABLE = "ICH_NODE_WORKER"  # set by ich-node-infer@NAME.service

log = logs.get()


def run(config: Config, stop: service.Stop) -> None:
    """Work until `stop` is set; the jobs in hand are finished first."""
    model = bundle.load(config.bundle_dir)
    engine = open_engine(config.infer, model)
    engine.self_test()
    spool = Spool(config.state_dir, min_free_bytes=int(config.store.min_free_gb * 1e9))
    jobs = open_ledger(config, verify=True)
    name = os.environ.get(WORKER_NAME_VARIABLE, "1")
    if config.store.shared:  # there is a worker 1 on every machine
        name = f"{host.name()}-{name}"
    worker = Worker(config, model, OneAtATime(engine), jobs, spool, jobs.now, name)
    garbage.look_seldom()
    log.info("engine_ready", provider=engine.name, model=model.card.id, sha256=model.card.sha256)
    heartbeat = service.Heartbeat()
    status = f"{engine.name}, model {model.card.id} {model.card.version}"
    try:
        with lease.only_one(config.state_dir, name) as alone, jobs.bells.queue.listen() as bell:
            if alone and (recovered := jobs.recover(name)):
                log.warning("jobs_recovered", count=recovered)
            service.notify("READY=1", f"STATUS={status}")
            Hands(worker, jobs, stop).run(bell, lambda: heartbeat.beat(status))
    finally:
        jobs.close()


# --- what to do with a job -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Analyse:
    """Try; for the how-manieth time."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Enough tried: publish "not analysed", with how often it failed."""

    failures: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Even telling kills the worker, or cannot be done: the job fails."""

    failures: int


def plan(attempts: int, limit: int) -> Analyse | Tell | GiveUp:
    """What to do with a job that was claimed for the `attempts`-th time (≥ 1), when `limit` analyses are tried."""
    if attempts <= limit:
        return Analyse(attempts)
    return Tell(attempts - 1) if attempts == limit + 1 else GiveUp(attempts - 1)


class Worker:
    """One worker with its engine, for several threads. clock: Unix seconds; analyse: the story, pipeline.analyse."""

    def __init__(
        self,
        config: Config,
        model: bundle.Model,
        engine: Engine,
        jobs: Work,
        spool: Spool,
        clock: Callable[[], float],
        name: str,
        *,
        analyse: Callable[..., Analysis] = pipeline.analyse,
    ) -> None:
        self._config = config
        self._model = model
        self._engine = engine
        self._jobs = jobs
        self._spool = spool
        self._clock = clock
        self._name = name
        self._analyse = analyse
        self._patience = Patience(config.infer.retry_base_s, LONGEST_RETRY_S)
        self._waits_until = 0.0

    def claim(self) -> Job | None:
        """The next job; None when the queue is empty, or the disk full."""
        if 0 < self._waits_until - self._clock() <= SPACE_WAIT_S:  # longer: the clock was put back
            return None
        return self._jobs.claim(self._name)

    def paths(self, job: Job) -> list[Path]:
        """The files of a job's images."""
        return self._spool.paths(job.series_uid, job.sop_instance_uids)

    def work_on(self, job: Job) -> None:
        """Do a claimed job, whose lease the caller renews. Raises what only a new process mends."""
        what = plan(job.attempts, self._config.infer.max_attempts)
        if isinstance(what, GiveUp):
            self._fail(job, english(Reason(Why.WORKER_DIED, times=what.failures)))
            return
        started = time.monotonic()
        try:
            analysis = replace(self._analysis(job, what), input_digest=job.input_digest)
            if isinstance(what, Analyse) and self._adds_nothing(job, analysis):
                self._set_aside(job, Reason(Why.NOTHING_ADDED))
                return
            held_s = self._publish(job, analysis)
            log.info(
                "job_finished",
                job=job.id,
                status=analysis.status,
                priority=analysis.priority,
                slices=len(analysis.headers),
                provider=analysis.provider,
                seconds=round(time.monotonic() - started, 3),
                held_s=round(held_s, 3),
            )
        except StoreError:
            raise  # the database is in doubt: exit, and let the next start recover
        except Superseded as error:  # whoever took it back decides on it now
            log.warning("job_superseded", job=job.id, reason=str(error))
        except TooEarly as error:  # its series goes on
            self._leave(self._jobs.give_back, job, str(error))
        except ResultConflict as error:  # another attempt would make the same names
            self._fail(job, str(error))
        except SpoolFull as error:  # no fault of the job, and the next one would fare no better
            log.error("job_retried", job=job.id, attempt=job.attempts, wait_s=SPACE_WAIT_S, reason=str(error))
            self._leave(self._jobs.give_back, job, str(error))
            self._waits_until = self._clock() + SPACE_WAIT_S
        except EngineFailure as error:
            self._again(job, str(error))
            if not self._engine.recoverable:
                raise  # a fresh process is
        except UnusableSeries as error:
            self._again(job, english(error.reason))
        except IchNodeError as error:
            self._again(job, str(error))
        except Exception as error:  # a defect of ours must not stop the queue: it is logged, retried, then told
            log.exception("job_failed", job=job.id, error=type(error).__name__)
            self._again(job, f"internal error ({type(error).__name__})")

    def _analysis(self, job: Job, what: Analyse | Tell) -> Analysis:
        paths = self.paths(job)
        if job.told is not None:
            reason = Reason(Why(job.told))
        elif isinstance(what, Tell):
            reason = Reason(Why.ANALYSIS_FAILED, times=what.failures, message=job.trouble or "?")
        else:
            return self._analyse(paths, self._model, self._engine, self._config)
        if isinstance(what, Analyse) and job.told not in UNREAD:
            headers = pipeline.read_headers(paths)
        else:
            headers = self._identity(job, paths)
        return pipeline.not_analysed(headers, self._model.card, self._engine.name, reason)

    def _identity(self, job: Job, paths: Sequence[Path]) -> tuple[Dataset, ...]:
        """All that the last attempt needs: whatever else a header says, it may be what the others failed at."""
        if job.told not in UNREAD:
            with suppress(UnusableSeries, OSError):  # damaged, gone, or on a disk that fails
                return identity_alone.of(pipeline.read_headers(paths))
        return identity_alone.headers(job, paths)

    def _publish(self, job: Job, analysis: Analysis) -> float:
        """Write the results and owe them: durable before the one transaction, in their place within it.

        Returns for how many seconds they then waited for their moment.

        A second attempt at the same analysis writes the same bytes: every time in them comes from the job. A STAT that
        went out is never replaced by something milder: then both stand, and the new one says so.
        """
        predecessor = self._predecessor(job)
        if predecessor is not None and self._is_milder(analysis, job):
            analysis, predecessor = replace(analysis, warnings=(*analysis.warnings, Reason(Why.STAT_BEFORE))), None
        results = build.results(
            analysis,
            options=self._config.report,
            device_name=self._config.ae_title,
            made_at=datetime.fromtimestamp(job.created_at, UTC),
            predecessor=predecessor,
            revision=job.revision,
        )
        encoded = files.encode(analysis, results, job.predecessor, job.revision)
        folder, place = self._spool.draft_results(job.id, job.claims, encoded)
        items = [
            ResultInstance(item.sop_class_uid, item.sop_instance_uid, folder / item.file_name)
            for item in files.objects(results)
        ]
        refusal = None if analysis.reason is None else english(analysis.reason)
        owed = route(items, self._config.deliver, priority=analysis.priority, sender=job.calling_ae_title)
        if job.publish_after and (analysis.volume is None or not ends_above_the_head(analysis.volume)):
            self._jobs.hold(job.id, job.created_at + self._config.receive.quiet_period_s)
        held_s = 0.0
        while True:
            try:
                self._jobs.publish(job, owed, priority=analysis.priority, refusal=refusal, place=place)
                return held_s
            except TooEarly as early:
                left_s = early.until - self._clock()
                if left_s > AHEAD_S:
                    raise
                held_s += max(left_s, SHORTEST_WAIT_S)
                time.sleep(max(left_s, SHORTEST_WAIT_S))

    def _predecessor(self, job: Job) -> Predecessor | None:
        """The reports that this job's corrected ones replace, in the forms in which they went out or are to go out."""
        if job.predecessor is None:
            return None
        folder = StateDir(self._config.state_dir).results_of(job.predecessor)
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*.dcm"))]
        owed = self._jobs.deliveries(job.predecessor)
        named = {item.sent_sop_instance_uid or item.sop_instance_uid for item in owed}
        return Predecessor.of(header for header in headers if header.SOPInstanceUID in named)

    def _adds_nothing(self, job: Job, analysis: Analysis) -> bool:
        """Whether this job's series was answered, and what came since shows no head: the answer stands as it is.

        Not where an operator wants it all the same: for a retry the attempts begin anew.
        """
        if job.predecessor is None or job.revision or job.told is not None or job.claims > job.attempts:
            return False
        return adds_no_head(analysis, self.paths(job), self._said_by(job.predecessor))

    def _said_by(self, job_id: int) -> Path:
        return StateDir(self._config.state_dir).results_of(job_id) / files.RESULT_JSON

    def _is_milder(self, analysis: Analysis, job: Job) -> bool:
        """Whether the job that this one corrects said STAT, and this one does not."""
        try:
            said = json.loads(self._said_by(job.predecessor or 0).read_bytes()).get("priority")
        except (OSError, ValueError):
            return False
        return bool(said == "STAT" and analysis.priority != "STAT")

    # --- a job that is not done --------------------------------------------------------------------------------------

    def _again(self, job: Job, trouble: str) -> None:
        """The last attempt only tells the PACS that there was no analysis; when even that fails, the job fails."""
        if job.attempts > self._config.infer.max_attempts:
            self._fail(job, trouble)
            return
        wait_s = self._patience.wait(job.attempts)
        log.warning("job_retried", job=job.id, attempt=job.attempts, wait_s=round(wait_s, 1), reason=trouble)
        self._leave(self._jobs.retry_later, job, trouble, self._clock() + wait_s)

    def _set_aside(self, job: Job, reason: Reason) -> None:
        log.info("series_ineligible", series=job.series_uid, images=len(job.sop_instance_uids), reason=str(reason))
        self._leave(self._jobs.set_aside, job, english(reason))

    def _fail(self, job: Job, trouble: str) -> None:
        log.error("job_failed", job=job.id, reason=trouble)
        self._leave(self._jobs.fail, job, trouble)

    def _leave(self, move: Callable[..., None], job: Job, *how: object) -> None:
        try:
            move(job, *how)
        except Superseded as error:
            log.warning("job_superseded", job=job.id, reason=str(error))
