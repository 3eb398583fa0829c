"""The infer role: claim a job, tell its story (pipeline.py), make its results durable, publish.

One thread around one engine for life. READY only after checksum, self-test tensor and the execution provider that
really runs are known. Retry is decided here and nowhere else on this side of the queue.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pydicom

from ich_node.domain.errors import EngineFailure, IchNodeError, SpoolFull, StoreError, UnusableSeries
from ich_node.domain.findings import Analysis
from ich_node.domain.ledger import Job, ResultFile
from ich_node.domain.reasons import Reason, Why
from ich_node.infer import bundle, pipeline
from ich_node.infer.engine import open_engine
from ich_node.report import build, files
from ich_node.report.said.reasons import english
from ich_node.report.sr.predecessor import Predecessor
from ich_node.runtime import logs, service
from ich_node.runtime.config import Config
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.spool import Spool

POLL_S = 0.2
SPACE_WAIT_S = 10.0
WORKER_NAME_VARIABLE = "ICH_NODE_WORKER"  # set by ich-node-infer@NAME.service

log = logs.get()


def run(config: Config, stop: service.Stop) -> None:
    """Work until `stop` is set; the job in hand is finished first."""
    worker = Worker(config)
    log.info("engine_ready", provider=worker.engine.name, model=worker.model.card.id, sha256=worker.model.card.sha256)
    heartbeat = service.Heartbeat()
    status = f"{worker.engine.name}, model {worker.model.card.id} {worker.model.card.version}"
    service.notify("READY=1", f"STATUS={status}")
    try:
        while not stop.is_set():
            heartbeat.beat(status)
            if not worker.work_once():
                stop.wait(POLL_S)
    finally:
        worker.close()


class Worker:
    """One worker with its engine."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._name = os.environ.get(WORKER_NAME_VARIABLE, "1")
        self.model = bundle.load(config.bundle_dir)
        self.engine = open_engine(config.infer, self.model)
        self.engine.self_test()
        self._waits_until = 0.0
        self._jobs = JobStore.open(config.state_dir)
        self._spool = Spool(config.state_dir, min_free_bytes=int(config.store.min_free_gb * 1e9))
        if recovered := self._jobs.recover(self._name):
            log.warning("jobs_recovered", count=recovered)

    def close(self) -> None:
        """Give back the database."""
        self._jobs.close()

    def work_once(self) -> bool:
        """Do the next job, if there is one; False when the queue is empty, or the disk full."""
        started = time.monotonic()
        job = self._jobs.claim(self._name) if started >= self._waits_until else None
        if job is None:
            return False
        try:
            analysis = self._analysis(job)
            self._publish(job, analysis)
            log.info(
                "job_finished",
                job=job.id,
                status=analysis.status,
                priority=analysis.priority,
                slices=len(analysis.headers),
                provider=analysis.provider,
                seconds=round(time.monotonic() - started, 3),
            )
        except StoreError:
            raise  # the database is in doubt: exit, and let the next start recover
        except SpoolFull as error:  # no fault of the job, and the next one would fare no better
            log.error("job_retried", job=job.id, attempt=job.attempts, wait_s=SPACE_WAIT_S, reason=str(error))
            self._jobs.give_back(job, str(error))
            self._waits_until = time.monotonic() + SPACE_WAIT_S
        except EngineFailure as error:
            self._again(job, str(error))
            if not self.engine.recoverable:
                raise  # a fresh process is
        except UnusableSeries as error:
            self._again(job, english(error.reason))
        except IchNodeError as error:
            self._again(job, str(error))
        except Exception as error:  # a defect of ours must not stop the queue: it is logged, retried, then told
            log.exception("job_failed", job=job.id, error=type(error).__name__)
            self._again(job, f"internal error ({type(error).__name__})")
        return True

    def _analysis(self, job: Job) -> Analysis:
        paths = self._spool.paths(job.series_uid, job.sop_instance_uids)
        if job.attempts > self._config.infer.max_attempts + 1:
            raise UnusableSeries(Reason(Why.WORKER_DIED, times=job.attempts - 1))
        if job.attempts > self._config.infer.max_attempts:
            reason = Reason(Why.ANALYSIS_FAILED, times=job.attempts - 1, message=job.reason or "?")
            headers = pipeline.read_headers(paths)
            return pipeline.not_analysed(headers, self.model.card, self.engine.name, reason)
        return pipeline.analyse(paths, self.model, self.engine, self._config)

    def _publish(self, job: Job, analysis: Analysis) -> None:
        """The results are durable before the one transaction that owes them."""
        published = self._publish_files(job, analysis)
        destinations = [destination.name for destination in self._config.deliver.destinations]
        reason = None if analysis.reason is None else english(analysis.reason)
        self._jobs.publish(job, published, destinations, priority=analysis.priority, reason=reason)

    def _publish_files(self, job: Job, analysis: Analysis) -> list[ResultFile]:
        """Write the results of a job; a second attempt at the same analysis writes the same bytes."""
        results = build.results(
            analysis,
            options=self._config.report,
            device_name=self._config.ae_title,
            made_at=datetime.fromtimestamp(job.created_at, UTC),  # every time comes from the job
            predecessor=self._predecessor(job),
        )
        folder = self._spool.write_results(job.id, files.encode(analysis, results, job.predecessor))
        return [
            ResultFile(item.sop_class_uid, item.sop_instance_uid, folder / item.file_name)
            for item in files.objects(results)
        ]

    def _predecessor(self, job: Job) -> Predecessor | None:
        """The reports that this job's corrected ones replace, in the forms in which they went out or are to go out."""
        if job.predecessor is None:
            return None
        folder = self._spool.results / str(job.predecessor)
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*.dcm"))]
        owed = self._jobs.deliveries(job.predecessor)
        named = {item.sent_sop_instance_uid or item.sop_instance_uid for item in owed}
        return Predecessor.of(header for header in headers if header.SOPInstanceUID in named)

    def _again(self, job: Job, reason: str) -> None:
        """The last attempt only tells the PACS that there was no analysis; when even that fails, the job fails."""
        if job.attempts > self._config.infer.max_attempts:
            log.error("job_failed", job=job.id, reason=reason)
            self._jobs.fail(job, reason)
            return
        wait_s = self._config.infer.retry_base_s * 2 ** (job.attempts - 1)
        log.warning("job_retried", job=job.id, attempt=job.attempts, wait_s=wait_s, reason=reason)
        self._jobs.retry_later(job, reason, time.time() + wait_s)
