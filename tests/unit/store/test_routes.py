"""Which destination gets which of a job's results."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger_builder import BASIC_TEXT_SR, COMPREHENSIVE_3D_SR, SECONDARY_CAPTURE, configuration, destination

from ich_node.domain.ledger import ResultInstance, ResultMessage
from ich_node.store.routes import plan, route

CLASSES = (SECONDARY_CAPTURE, COMPREHENSIVE_3D_SR, BASIC_TEXT_SR)
RESULTS = [ResultInstance(uid, f"1.{n}", Path(f"/r/1.{n}.dcm")) for n, uid in enumerate(CLASSES)]


def deliver(*pacs, hl7=()):
    return configuration(Path("/s"), *pacs, hl7=list(hl7)).deliver


def owed(config, priority="STAT", sender="CT1"):
    return [(o.destination, o.item) for o in route(RESULTS, config, priority=priority, sender=sender)]


def test_by_default_every_object_goes_to_every_pacs_in_its_order():
    assert owed(deliver(destination("a", 1), destination("b", 2))) == [(n, r) for n in "ab" for r in RESULTS]


@pytest.mark.parametrize(("kind", "index"), [("pictures", 0), ("structured_report", 1), ("text_report", 2)])
def test_a_pacs_may_get_some_kinds_of_object_only(kind, index):
    assert owed(deliver(destination("a", 1, objects=[kind]))) == [("a", RESULTS[index])]


@pytest.mark.parametrize(("priority", "count"), [("STAT", 3), ("HIGH", 0), ("ROUTINE", 0), (None, 3)])
def test_a_destination_may_get_some_priorities_only(priority, count):
    assert len(owed(deliver(destination("a", 1, priorities=["STAT", "NOT_ANALYSED"])), priority)) == count


@pytest.mark.parametrize(("sender", "count"), [("CT1", 3), ("CT22", 0), ("MR1", 0), (None, 0)])
def test_a_destination_may_get_the_studies_of_some_senders_only(sender, count):
    assert len(owed(deliver(destination("a", 1, senders=["CT?"])), sender=sender)) == count


def test_a_message_comes_first_and_there_is_one():
    config = deliver(destination("a", 1), hl7=[{"name": "ris", "host": "ris"}])
    assert owed(config)[0] == ("ris", ResultMessage("result.json", Path("/r/result.json")))
    assert len(owed(config)) == 4


def test_the_plan_names_who_gets_what():
    config = deliver(destination("a", 1), hl7=[{"name": "ris", "host": "ris", "priorities": ["STAT"]}])
    assert plan(config)[:2] == [("STAT", "ris, a"), ("HIGH", "a")]
