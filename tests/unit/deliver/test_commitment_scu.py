"""When Storage Commitment is asked for, and what a report does to the ledger."""

from __future__ import annotations

import random

import pytest
from ledger_builder import SECONDARY_CAPTURE, Clock, configuration, destination, publish_job, say_sent
from pydicom import Dataset

from ich_node.deliver.dicom.commitment import Committer, transaction_uid
from ich_node.domain.errors import PeerRefused, PeerUnavailable
from ich_node.domain.ledger import DeliveryState, JobState
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.proof import Report, settle


class FakeRequester:
    """Takes requests; raises what it is told to."""

    def __init__(self):
        self.requests = []
        self.failure = None
        self.report = None

    def connect(self, on_report):
        self.on_report = on_report
        return self

    def request_commitment(self, uid, references):
        if self.failure is not None:
            raise self.failure
        self.requests.append((uid, [sop for _, sop in references]))
        if self.report is not None:
            self.on_report(self.report(uid, references))

    def listen(self, until, seconds):
        pass

    def release(self):
        pass

    def interrupt(self):
        pass


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = JobStore.open(tmp_path, clock=clock)
    yield store
    store.close()


@pytest.fixture
def requester():
    return FakeRequester()


@pytest.fixture
def config(tmp_path):
    target = destination("pacs", 1, commitment=True)
    return configuration(tmp_path, target, linger_s=0, commitment_timeout_s=600, retry_base_s=5, retry_max_s=900)


@pytest.fixture
def committer(config, store, requester, clock):
    target = config.deliver.destinations[0]
    return Committer(config, target, store, requester.connect, clock=clock, random_source=random.Random(1))


def sent_job(store, tmp_path, clock, count=2):
    job, files = publish_job(store, tmp_path, ["pacs"], classes=[SECONDARY_CAPTURE] * count)
    for item in store.due("pacs"):
        say_sent(store, item)
    clock.now += 2
    return job, [file.sop_instance_uid for file in files]


def states(store, job):
    return {item.state for item in store.deliveries(job.id)}


def test_a_job_is_asked_for_in_one_request_and_only_once(committer, store, requester, clock, tmp_path):
    _, uids = sent_job(store, tmp_path, clock)
    committer.step()
    committer.step()
    assert [request[1] for request in requester.requests] == [uids]


def test_results_that_have_just_gone_out_wait_for_the_rest_of_their_job(committer, store, requester, clock, tmp_path):
    sent_job(store, tmp_path, clock)
    clock.now -= 2
    committer.step()
    assert requester.requests == []


def test_the_transaction_is_in_the_ledger_before_the_request_goes_out(committer, store, requester, clock, tmp_path):
    job, _ = sent_job(store, tmp_path, clock)
    known = []
    requester.report = lambda uid, _references: known.extend(store.of_transaction(uid)) or Report(uid, frozenset(), {})
    committer.step()
    assert len(known) == 2
    assert states(store, job) == {DeliveryState.SENT}


def test_without_a_report_it_is_asked_again_after_its_time_under_a_new_uid(
    committer, store, requester, clock, tmp_path
):
    sent_job(store, tmp_path, clock)
    committer.step()
    clock.now += 599
    committer.step()
    assert len(requester.requests) == 1
    clock.now += 2
    committer.step()
    assert len({uid for uid, _ in requester.requests}) == 2


def test_a_peer_that_is_away_is_asked_again_after_the_back_off(committer, store, requester, clock, tmp_path):
    sent_job(store, tmp_path, clock)
    requester.failure = PeerUnavailable("cannot connect")
    committer.step()
    requester.failure = None
    committer.step()
    assert requester.requests == []
    clock.now += 6
    committer.step()
    assert len(requester.requests) == 1


def test_a_peer_without_the_service_is_asked_at_the_slowest_pace(committer, store, requester, clock, tmp_path):
    job, _ = sent_job(store, tmp_path, clock)
    requester.failure = PeerRefused("the peer accepts none of the presentation contexts")
    committer.step()
    requester.failure = None
    clock.now += 400
    committer.step()
    assert requester.requests == []
    assert store.job(job.id).state is JobState.DONE


def test_what_nobody_vouched_for_in_all_that_time_is_no_longer_asked_for(committer, store, requester, clock, tmp_path):
    sent_job(store, tmp_path, clock)
    clock.now += 73 * 3600
    committer.step()
    assert requester.requests == []


def test_transaction_uids_are_valid_and_differ_with_time_and_content(store, tmp_path, clock):
    job, _ = sent_job(store, tmp_path, clock)
    items = store.deliveries(job.id)
    uids = {
        transaction_uid("pacs", items, 1.0),
        transaction_uid("pacs", items, 2.0),
        transaction_uid("pacs", items[:1], 1.0),
        transaction_uid("other", items, 1.0),
    }
    assert len(uids) == 4
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def asked(store, tmp_path, clock, count=2):
    job, uids = sent_job(store, tmp_path, clock, count)
    store.asked_commitment(store.deliveries(job.id), "2.25.1")
    return job, uids


def test_a_report_commits_what_it_names_and_leaves_the_rest(store, config, clock, tmp_path):
    job, (first, _) = asked(store, tmp_path, clock)
    settled = settle(store, Report("2.25.1", frozenset([first]), {}), config.deliver, clock)
    assert (settled.committed, settled.lost, settled.undecided) == (1, 0, 1)
    assert [d.state for d in store.deliveries(job.id)] == [DeliveryState.COMMITTED, DeliveryState.SENT]


def test_a_lost_instance_is_owed_again_after_a_while(store, config, clock, tmp_path):
    job, (first, _) = asked(store, tmp_path, clock)
    settle(store, Report("2.25.1", frozenset(), {first: 0x0112}), config.deliver, clock)
    assert store.job(job.id).state is JobState.DELIVERING
    assert store.due("pacs") == []
    clock.now += 11
    assert [item.sop_instance_uid for item in store.due("pacs")] == [first]
    assert store.due("pacs")[0].cause == "the peer said Success but does not keep it: no such object instance"


@pytest.mark.parametrize("reason", [0x0110, 0x0213, 0x0131, 0x0122])
def test_a_failure_that_is_not_a_loss_does_not_send_again(store, config, clock, tmp_path, reason):
    job, uids = asked(store, tmp_path, clock)
    settled = settle(store, Report("2.25.1", frozenset(), dict.fromkeys(uids, reason)), config.deliver, clock)
    assert settled.undecided == 2
    assert states(store, job) == {DeliveryState.SENT}


def test_a_peer_that_keeps_nothing_is_given_up_in_the_end(store, config, clock, tmp_path):
    job, uids = asked(store, tmp_path, clock)
    clock.now += 73 * 3600
    settle(store, Report("2.25.1", frozenset(), dict.fromkeys(uids, 0x0112)), config.deliver, clock)
    assert states(store, job) == {DeliveryState.FAILED}
    assert store.job(job.id).state is JobState.FAILED


def test_a_repeated_or_unknown_report_changes_nothing(store, config, clock, tmp_path):
    job, uids = asked(store, tmp_path, clock)
    report = Report("2.25.1", frozenset(uids), {})
    settle(store, report, config.deliver, clock)
    again = settle(store, Report("2.25.1", frozenset(), dict.fromkeys(uids, 0x0112)), config.deliver, clock)
    unknown = settle(store, Report("2.25.999", frozenset(uids), {}), config.deliver, clock)
    assert (again.lost, unknown.committed) == (0, 0)
    assert states(store, job) == {DeliveryState.COMMITTED}


def test_a_dataset_that_is_no_report_is_refused():
    with pytest.raises(ValueError, match="not a Storage Commitment report"):
        Report.read(Dataset())
