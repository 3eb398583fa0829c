"""Under load no response gets lost, on either side of an association: one that does costs a whole time-out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_builder import BASIC_TEXT_SR, configuration, destination, write_instance
from odd_pacs import OddPacs
from raw_scu import ASSOCIATE_AC, P_DATA, RELEASE_RP, RawScu, dataset, message, status_of
from receive_bench import Receiver

from ich_node.deliver.answer import Verdict
from ich_node.deliver.dicom import scu

ASSOCIATIONS = 8
AHEAD = 16
"""Requests that are on their way at a time on one association, which nobody has to negotiate for a receiver to bear."""
MANY = pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])


def side_by_side(work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(ASSOCIATIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@MANY
def test_everything_that_is_sent_is_answered_to_the_sender(tmp_path: Path, count: int) -> None:
    file = scu.describe(write_instance(tmp_path / "1.dcm", BASIC_TEXT_SR, "1.2.3"))
    answers: list[Verdict] = []
    with OddPacs() as pacs:
        settings = configuration(tmp_path, destination("pacs", pacs.port), dimse_timeout_s=20)

        def send(_number: int) -> None:
            association = scu.associate("ICHNODE", settings.deliver.destinations[0], settings.deliver, proposals)
            answers.extend(association.store([file])[0].verdict for _ in range(count // ASSOCIATIONS))
            association.release()

        proposals = scu.contexts_for([file])
        side_by_side(send)
        assert answers == [Verdict.SENT] * count
        assert len(pacs.stored) == count


@MANY
def test_everything_that_comes_is_answered_and_held(tmp_path: Path, count: int) -> None:
    statuses: list[int] = []
    with Receiver(tmp_path, dimse_timeout_s=60, idle_timeout_s=60) as receiver:

        def send(number: int) -> None:
            with RawScu(receiver.port, timeout_s=60) as sender:
                assert sender.associate()[0] == ASSOCIATE_AC
                uids = [b"1.2.3.%d.%d" % (number, index) for index in range(count // ASSOCIATIONS)]
                for start in range(0, len(uids), AHEAD):
                    part = uids[start : start + AHEAD]
                    series = b"1.2.%d.%d" % (number, start // 512)
                    sender.send(b"".join(message(uid, dataset(uid, series=series)) for uid in part))
                    for _ in part:
                        kind, body = sender.receive()
                        statuses.append(status_of(body) if kind == P_DATA else -1)
                assert sender.release() == RELEASE_RP

        side_by_side(send)
        assert statuses == [0] * count
        assert sum(1 for _ in receiver.spool.incoming.rglob("*.dcm")) == count
