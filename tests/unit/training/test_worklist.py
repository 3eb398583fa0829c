"""The simulated worklist against closed forms and against what must hold whatever is drawn."""

import argparse
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs the extra [train]")

from ich_node.training.worklist import simulate as worklist
from ich_node.training.worklist.simulate import Exam, Scenario, WorklistError

pytestmark = pytest.mark.train
IDEAL = Scenario(arrivals_per_h=8, readers=2, reading_min=12, prevalence=0.2, latency_min=0, days=21)


def exam(arrived, reading, *, flagged=False, obedient=True):
    return Exam(arrived, reading, hemorrhage=flagged, flagged=flagged, obedient=obedient)


def begun(done):
    return {item.arrived: item.begun for item in done}


def test_an_idle_reader_begins_at_once():
    done = worklist.play([exam(1, 5), exam(20, 5)], readers=1, prioritise=False)
    assert begun(done) == {1: 1, 20: 20}


def test_first_in_first_out_keeps_the_order_of_arrival():
    done = worklist.play([exam(0, 10), exam(1, 10), exam(2, 10, flagged=True)], readers=1, prioritise=False)
    assert begun(done) == {0: 0, 1: 10, 2: 20}


def test_a_flagged_study_goes_first_but_stops_no_reading():
    done = worklist.play([exam(0, 10), exam(1, 10), exam(2, 10, flagged=True)], readers=1, prioritise=True)
    assert begun(done) == {0: 0, 2: 10, 1: 20}


def test_a_flag_that_has_not_arrived_yet_changes_nothing():
    studies = [exam(0, 10), exam(1, 10), exam(2, 10, flagged=True)]
    done = worklist.play(studies, readers=1, prioritise=True, latency_min=9)
    assert begun(done) == {0: 0, 1: 10, 2: 20}


def test_a_reader_who_ignores_the_list_takes_the_oldest_study():
    studies = [exam(0, 10), exam(1, 10, obedient=False), exam(2, 10, flagged=True)]
    assert begun(worklist.play(studies, readers=1, prioritise=True)) == {0: 0, 1: 10, 2: 20}


def test_several_readers_share_one_list():
    done = worklist.play([exam(0, 10), exam(1, 10), exam(2, 10)], readers=2, prioritise=False)
    assert begun(done) == {0: 0, 1: 1, 2: 10}


def test_the_simulation_agrees_with_the_closed_form_for_priorities():
    """Cobham 1954: M/M/c with two classes, first come first served within a class, no interruption."""
    fifo, urgent, other = worklist.cobham_min(IDEAL)
    waits = worklist.simulate(IDEAL, replications=24, seed=3)
    assert waits["all"]["fifo"].value == pytest.approx(fifo, rel=0.1)
    assert waits["AI-positive"]["prioritised"].value == pytest.approx(urgent, rel=0.1)
    assert waits["AI-negative"]["prioritised"].value == pytest.approx(other, rel=0.12)


def test_the_closed_form_for_one_reader_is_the_textbook_one():
    one = Scenario(arrivals_per_h=3, readers=1, reading_min=10)
    assert worklist.cobham_min(one)[0] == pytest.approx(0.5 * 10 / 0.5)


def test_reordering_saves_nothing_in_total():
    """Conservation (Kleinrock 1965): with one distribution of reading times the mean wait of all does not change."""
    waits = worklist.simulate(IDEAL, replications=12, seed=1)
    assert waits["all"]["saved"].value == pytest.approx(0, abs=0.05 * waits["all"]["fifo"].value)
    assert waits["hit"]["saved"].low > 0
    assert waits["missed"]["saved"].high < 0


def test_a_perfect_model_leaves_no_missed_and_no_false_alarm():
    waits = worklist.simulate(replace(IDEAL, sensitivity=1, specificity=1, days=3), replications=2)
    assert math.isnan(waits["missed"]["fifo"].value)
    assert math.isnan(waits["false alarm"]["fifo"].value)


def test_the_same_seed_gives_the_same_waits():
    short = replace(IDEAL, days=2)
    first, second = (worklist.simulate(short, replications=2, seed=5) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("change", [{"arrivals_per_h": 12}, {"prevalence": 1.2}, {"readers": 0}, {"days": 0.5}])
def test_a_list_that_nobody_can_keep_up_with_or_that_is_none_is_refused(change):
    with pytest.raises(WorklistError):
        worklist.simulate(replace(IDEAL, **change), replications=1)


def test_the_interval_over_replications_is_students():
    estimate = worklist.interval([1.0, 2.0, 3.0])
    assert estimate.value == 2
    assert estimate.high - 2 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)


def test_options_override_the_published_case():
    parser = argparse.ArgumentParser()
    worklist.add_arguments(parser)
    arguments = parser.parse_args(["--out", "x", "--case", "published", "--readers", "3"])
    assert worklist.scenario_of(arguments) == replace(worklist.PUBLISHED, readers=3)


def test_a_run_leaves_figures_and_a_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs the extra [train]")
    parser = argparse.ArgumentParser()
    worklist.add_arguments(parser)
    options = ["--sensitivity", "0.9", "--specificity", "0.9", "--days", "2", "--replications", "2"]
    assert worklist.run(parser.parse_args(["--out", str(tmp_path), *options])) == 0
    assert (tmp_path / "waiting.png").read_bytes().startswith(b"\x89PNG")
    assert '"hit"' in (tmp_path / "figures.json").read_text()
    assert "hit" in capsys.readouterr().out


def test_studies_of_a_replication_have_the_shares_of_the_scenario():
    drawn = worklist.exams(replace(IDEAL, days=200), np.random.default_rng(0))
    assert np.mean([item.hemorrhage for item in drawn]) == pytest.approx(IDEAL.prevalence, abs=0.01)
    assert np.mean([item.flagged for item in drawn]) == pytest.approx(IDEAL.flagged_share, abs=0.01)


def test_sensitivity_and_specificity_come_from_the_manifest():
    point = {"sensitivity": "0.917 [0.742–0.977]", "specificity": "0.839 [0.674–0.929]"}
    manifest = SimpleNamespace(present_at="high", metrics={"x": {"studies": 9}, "folds": {"study_any_high": point}})
    assert worklist.measured(manifest) == {"sensitivity": 0.917, "specificity": 0.839}


@pytest.mark.parametrize("metrics", [{}, {"folds": {"patients": 55}}])
def test_a_bundle_that_was_not_measured_asks_for_the_figures(metrics):
    with pytest.raises(WorklistError, match="--sensitivity"):
        worklist.measured(SimpleNamespace(present_at="high", metrics=metrics))
