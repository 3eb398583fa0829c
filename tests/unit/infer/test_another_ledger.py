"""Another ledger in the place of this one, as a database server's would be: the worker notices nothing."""

from __future__ import annotations

import time
from dataclasses import replace

from ich_node.domain.errors import EngineFailure, Superseded
from ich_node.domain.ledger import JobState
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.protocols import Work
from ich_node.store.spool import Spool
from tests.ledger_builder import configuration, destination
from tests.unit.infer.test_worker import FakeEngine, FakeModel, OneHand, failing, positive, queue


class ListLedger:
    """A ledger that forgets with its process."""

    def __init__(self, *jobs):
        self.queued, self.running, self.owed, self.failed = list(jobs), {}, [], {}

    def claim(self, worker):
        if not self.queued:
            return None
        job = self.queued.pop(0)
        claimed = replace(job, state=JobState.RUNNING, worker=worker, attempts=job.attempts + 1, claims=job.claims + 1)
        self.running[job.id] = claimed
        return claimed

    def renew(self, claimed):
        return self.running.get(claimed.id) == claimed

    def recover(self, worker):
        return 0

    def give_back(self, claimed, trouble):
        self.queued.append(replace(self._left(claimed), attempts=claimed.attempts - 1, trouble=trouble))

    def retry_later(self, claimed, trouble, not_before):
        self.queued.append(replace(self._left(claimed), trouble=trouble))

    def fail(self, claimed, trouble):
        self.failed[self._left(claimed).id] = trouble

    def set_aside(self, claimed, refusal):
        self._left(claimed)

    def publish(self, claimed, owed, *, priority, refusal=None, place=None):
        self._left(claimed)
        place()
        self.owed += owed

    def deliveries(self, job_id):
        return []

    def _left(self, claimed):
        if self.running.pop(claimed.id, None) != claimed:
            raise Superseded("taken back")
        return claimed


def test_a_worker_takes_any_ledger_that_has_its_view(tmp_path):
    settings = configuration(tmp_path, destination("pacs", 1))
    store = JobStore.open(tmp_path)
    ledger: Work = ListLedger(queue(store, settings))
    store.close()
    spool = Spool(tmp_path, 0)

    def one(story):
        return OneHand(settings, FakeModel(), FakeEngine(), ledger, spool, time.time, "1", analyse=story)

    assert one(failing(EngineFailure("out of memory"))).work_once()
    assert ledger.queued[0].trouble == "out of memory"
    assert one(positive).work_once()
    assert {owed.destination for owed in ledger.owed} == {"pacs"}
    assert all(owed.item.path.exists() for owed in ledger.owed)
    assert not one(positive).work_once()
