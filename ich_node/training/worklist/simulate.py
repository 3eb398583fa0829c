"""`ich-node simulate`: what a changed reading order buys, on a simulated worklist (discrete events, simpy).

Head CTs arrive at random, a few readers take one after the other. First in, first out (FIFO) is played against a list
whose flagged studies come first; nobody stops a reading that has begun. Both play the same arrivals, hemorrhages and
reading times. Sensitivity and specificity are those that the bundle's manifest states, unless given.

Who waits: "hit" (hemorrhage, flagged), "missed" (hemorrhage, not flagged), "false alarm", "rest".
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

from ich_node.domain.errors import IchNodeError
from ich_node.domain.findings import DISCLAIMER
from ich_node.infer.bundle import Manifest, load
from ich_node.runtime import config
from ich_node.training.evaluate.assess import plain
from ich_node.training.evaluate.command import require
from ich_node.training.evaluate.metrics import Estimate

GROUPS = ("hit", "missed", "false alarm", "rest")
WARM_UP_H = 12.0  # chosen: the queue starts empty; by then it has its usual length


class WorklistError(IchNodeError):
    """The scenario cannot be simulated; the message says why."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A worklist. Reading times are exponential; arrivals are Poisson.

    arrivals_per_h: head CTs. reading_min: mean time of one reading. latency_min: from arrival to flag. adherence: share
    of the readings that begin with the top of the list; the others take the oldest study. days: of one replication.
    """

    arrivals_per_h: float = 8.0
    readers: int = 2
    reading_min: float = 12.0
    prevalence: float = 0.1
    sensitivity: float = 0.9
    specificity: float = 0.9
    latency_min: float = 1.0
    adherence: float = 1.0
    days: float = 7.0

    @property
    def load(self) -> float:
        """Share of the readers' time that is taken."""
        return self.arrivals_per_h * self.reading_min / 60 / self.readers

    @property
    def flagged_share(self) -> float:
        """Share of the studies that is flagged."""
        return self.prevalence * self.sensitivity + (1 - self.prevalence) * (1 - self.specificity)


PUBLISHED = Scenario(
    arrivals_per_h=9.25,
    readers=2,
    reading_min=10.0,
    prevalence=0.1,
    sensitivity=0.962,
    specificity=0.948,
    latency_min=3.0,
    adherence=0.09,
    days=28,
)
"""The case of O'Neill et al. 2021 (PMC8043365): AI-negative studies waited 15.45 min, AI-positive ones 12.02.

Chosen: readers, reading time, prevalence, latency; sensitivity and specificity are those of a clearance of such a
product (K221240). Fitted: arrivals to the wait of the AI-negative, adherence to the wait of the AI-positive.
"""

PUBLISHED_WAITS_MIN = {"AI-negative": 15.45, "AI-positive": 12.02}


@dataclass(slots=True)
class Exam:
    """One study on the list; times in minutes."""

    arrived: float
    reading: float
    hemorrhage: bool
    flagged: bool
    obedient: bool
    begun: float = math.nan

    @property
    def group(self) -> str:
        """Who it is, out of GROUPS."""
        if self.hemorrhage:
            return "hit" if self.flagged else "missed"
        return "false alarm" if self.flagged else "rest"


# --- simulation ------------------------------------------------------------------------------------------------------


def exams(scenario: Scenario, rng: np.random.Generator) -> list[Exam]:
    """The studies of one replication, in the order of arrival."""
    expected = int(scenario.arrivals_per_h * 24 * scenario.days)
    arrived = np.cumsum(rng.exponential(60 / scenario.arrivals_per_h, expected))
    reading = rng.exponential(scenario.reading_min, expected)
    hemorrhage = rng.random(expected) < scenario.prevalence
    flagged = rng.random(expected) < np.where(hemorrhage, scenario.sensitivity, 1 - scenario.specificity)
    obedient = rng.random(expected) < scenario.adherence
    columns = (arrived.tolist(), reading.tolist(), hemorrhage.tolist(), flagged.tolist(), obedient.tolist())
    return [Exam(*row) for row in zip(*columns, strict=True)]


def play(arriving: Sequence[Exam], readers: int, *, prioritise: bool, latency_min: float = 0.0) -> list[Exam]:
    """Let `readers` read the studies; returns copies with the time at which each reading began."""
    import simpy  # noqa: PLC0415  # only with the extra [train]

    world = simpy.Environment()
    waiting: list[Exam] = []
    work = simpy.Container(world)
    done: list[Exam] = []

    def arrivals() -> Generator[Any, Any, None]:
        for exam in arriving:
            yield world.timeout(exam.arrived - world.now)
            waiting.append(replace(exam))
            yield work.put(1)

    def reader() -> Generator[Any, Any, None]:
        while True:
            yield work.get(1)
            position = _next(waiting, world.now, latency_min) if prioritise else 0
            exam = waiting.pop(position)
            exam.begun = world.now
            done.append(exam)
            yield world.timeout(exam.reading)

    world.process(arrivals())
    for _ in range(readers):
        world.process(reader())
    world.run()
    return done


def _next(waiting: Sequence[Exam], now: float, latency_min: float) -> int:
    """The oldest study whose flag has arrived, for a reader who follows the list; else the oldest study.

    Whether this reading follows the list is drawn with the oldest study, so that both policies meet the same draws.
    """
    if not waiting[0].obedient:
        return 0
    known = (i for i, exam in enumerate(waiting) if exam.flagged and exam.arrived + latency_min <= now)
    return next(known, 0)


def mean_waits(done: Iterable[Exam], groups: Sequence[str] = GROUPS) -> dict[str, float]:
    """Mean minutes from arrival to the begin of the reading, per group, without the warm-up; NaN for an empty group."""
    waits: dict[str, list[float]] = {group: [] for group in groups}
    for exam in done:
        if exam.arrived >= WARM_UP_H * 60:
            waits[exam.group].append(exam.begun - exam.arrived)
    return {group: float(np.mean(values)) if values else math.nan for group, values in waits.items()}


def simulate(scenario: Scenario, *, replications: int = 30, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Group → policy → mean wait in minutes with its 95 % interval over the replications.

    The policies are "fifo", "prioritised" and "saved", their paired difference. The groups are GROUPS, "AI-positive",
    "AI-negative" and "all". Raises WorklistError when the readers cannot keep up.
    """
    check(scenario)
    rows: dict[tuple[str, str], list[float]] = {}
    for number in track(range(replications), "replications", console=Console(stderr=True), transient=True):
        arriving = exams(scenario, np.random.default_rng((seed, number)))
        waits = {
            policy: _waits(play(arriving, scenario.readers, prioritise=first, latency_min=scenario.latency_min))
            for policy, first in (("fifo", False), ("prioritised", True))
        }
        for group in waits["fifo"]:
            for policy, of_group in waits.items():
                rows.setdefault((group, policy), []).append(of_group[group])
            rows.setdefault((group, "saved"), []).append(waits["fifo"][group] - waits["prioritised"][group])
    groups = dict.fromkeys(group for group, _ in rows)
    return {g: {p: interval(rows[g, p]) for p in ("fifo", "prioritised", "saved")} for g in groups}


def _waits(done: Sequence[Exam]) -> dict[str, float]:
    counted = [exam for exam in done if exam.arrived >= WARM_UP_H * 60]
    waits = mean_waits(counted)
    for name, wanted in (("AI-positive", True), ("AI-negative", False)):
        waits[name] = _mean(exam.begun - exam.arrived for exam in counted if exam.flagged == wanted)
    waits["all"] = _mean(exam.begun - exam.arrived for exam in counted)
    return waits


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else math.nan


def interval(values: Sequence[float]) -> Estimate:
    """Mean with its 95 % interval by Student's t over the replications that have a value."""
    known = np.asarray(values)[~np.isnan(values)]
    if len(known) < 2:
        return Estimate(float(known.mean()) if len(known) else math.nan, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / math.sqrt(len(known)))
    return Estimate(float(known.mean()), float(known.mean()) - half, float(known.mean()) + half)


def check(scenario: Scenario) -> None:
    """Raise WorklistError for a scenario that has no steady state or is no scenario."""
    shares = ("prevalence", "sensitivity", "specificity", "adherence")
    wrong = [name for name in shares if not 0 <= getattr(scenario, name) <= 1]
    if wrong or scenario.readers < 1 or min(scenario.arrivals_per_h, scenario.reading_min, scenario.days) <= 0:
        raise WorklistError(f"not a worklist: {', '.join(wrong) or 'readers, arrivals, reading time and days'}")
    if scenario.load >= 1:
        raise WorklistError(f"the readers cannot keep up: load {scenario.load:.2f}, must be below 1")
    if scenario.days * 24 <= 2 * WARM_UP_H:
        raise WorklistError(f"too short: the first {WARM_UP_H:g} h are warm-up, simulate more than a day")


def cobham_min(scenario: Scenario) -> tuple[float, float, float]:
    """Closed-form mean wait in minutes: FIFO (Erlang C), flagged first, not flagged (Cobham 1954, M/M/c).

    Holds for exponential readings, full adherence and no latency.
    """
    offered, c = scenario.load * scenario.readers, scenario.readers
    queueing = offered**c / (math.factorial(c) * (1 - scenario.load))
    delayed = queueing / (sum(offered**k / math.factorial(k) for k in range(c)) + queueing)
    base = delayed * scenario.reading_min / c
    urgent = scenario.load * scenario.flagged_share
    return base / (1 - scenario.load), base / (1 - urgent), base / ((1 - urgent) * (1 - scenario.load))


# --- command line ----------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb; every number of the scenario is one."""
    usual = Scenario()
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where table, plot and figures go")
    parser.add_argument("--case", choices=("published",), help="the study of O'Neill 2021 (PMC8043365)")
    parser.add_argument(
        "--arrivals-per-h", type=float, metavar="N", help=f"head CTs per hour ({usual.arrivals_per_h:g})"
    )
    parser.add_argument("--readers", type=int, metavar="N", help=f"people reading ({usual.readers})")
    parser.add_argument("--reading-min", type=float, metavar="M", help=f"mean reading time ({usual.reading_min:g})")
    parser.add_argument("--prevalence", type=float, metavar="P", help=f"share with hemorrhage ({usual.prevalence:g})")
    parser.add_argument("--sensitivity", type=float, metavar="P", help="none: the bundle's, measured")
    parser.add_argument("--specificity", type=float, metavar="P", help="none: the bundle's, measured")
    parser.add_argument("--latency-min", type=float, metavar="M", help=f"arrival to flag ({usual.latency_min:g})")
    parser.add_argument("--adherence", type=float, metavar="P", help="share of readings that follow the list (1)")
    parser.add_argument("--days", type=float, metavar="N", help=f"length of a replication ({usual.days:g})")
    parser.add_argument("--replications", type=int, default=30, metavar="N", help="repetitions (30)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random numbers (0)")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="another model than the one that ships")


def run(arguments: argparse.Namespace) -> int:
    """Simulate, print the table, write figures.json and waiting.png."""
    require("simpy", "matplotlib")
    from ich_node.training.worklist.plot import draw  # noqa: PLC0415  # matplotlib comes with the extra [train]

    scenario = scenario_of(arguments)
    waits = simulate(scenario, replications=arguments.replications, seed=arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    closed = dict(zip(("fifo", "flagged", "not flagged"), cobham_min(scenario), strict=True))
    figures = {"scenario": asdict(scenario), "load": scenario.load, "waits_min": waits, "cobham_min": closed}
    if arguments.case:
        figures["published_min"] = PUBLISHED_WAITS_MIN
    figures["notice"] = DISCLAIMER
    (arguments.out / "figures.json").write_text(json.dumps(plain(figures), indent=1) + "\n", encoding="utf-8")
    draw(scenario, waits, arguments.out / "waiting.png", PUBLISHED_WAITS_MIN if arguments.case else {})
    console = Console()
    console.print(_table(scenario, waits))
    console.print(
        f"Closed form for a list that is followed at once: FIFO {closed['fifo']:.1f}, flagged {closed['flagged']:.1f}, "
        f"not flagged {closed['not flagged']:.1f} min. Plot: {arguments.out / 'waiting.png'}"
    )
    return 0


def scenario_of(arguments: argparse.Namespace) -> Scenario:
    """The scenario that the options ask for; sensitivity and specificity from the manifest where they are not given."""
    given = {name: getattr(arguments, name) for name in Scenario.__dataclass_fields__}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.case == "published":
        return replace(PUBLISHED, **given)
    if not {"sensitivity", "specificity"} <= set(given):
        given = measured(load(arguments.bundle or config.default_bundle()).manifest) | given
    return Scenario(**given)


def measured(manifest: Manifest) -> dict[str, float]:
    """Sensitivity and specificity for "any" where a finding is called present, from the first data set that has them.

    The manifest holds them as `metrics.<data set>.study_any_<operating point>`, a number followed by its interval.
    Raises WorklistError without them.
    """
    wanted = f"study_any_{manifest.present_at}"
    for of_data_set in manifest.metrics.values():
        if wanted in of_data_set:
            point = of_data_set[wanted]
            return {name: float(str(point[name]).split()[0]) for name in ("sensitivity", "specificity")}
    raise WorklistError("the manifest states no sensitivity and specificity: give --sensitivity and --specificity")


def _table(scenario: Scenario, waits: Mapping[str, Mapping[str, Estimate]]) -> Table:
    title = (
        f"Waiting for a reader, min [95 % interval]; load {scenario.load:.2f}, "
        f"sensitivity {scenario.sensitivity:.2f}, specificity {scenario.specificity:.2f}"
    )
    table = Table("study", "FIFO", "prioritised", "saved", title=title)
    for group, of_policy in waits.items():
        cells = (of_policy[policy] for policy in ("fifo", "prioritised", "saved"))
        table.add_row(group, *(f"{cell.value:.1f} [{cell.low:.1f}, {cell.high:.1f}]" for cell in cells))
    return table
