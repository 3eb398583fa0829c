"""What goes wrong in a cluster, at seeded random moments, and what was promised compared with what is there."""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.site import ROLES, Scanner, Site
from tests.crash.evidence import Verdict, judge, wait_until_done
from tests.crash.faults import say
from tests.crash.scanner import Patients

END_WITHIN_S = 900
BETWEEN_S = 0.1, 1.0  # two faults: shorter than what most of them take to recover


@dataclass
class Harm:
    """One kind of fault: how often, and when each was over (time.monotonic())."""

    name: str
    count: int = 0
    healed: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """What a run showed. verdicts: for each PACS. recovery_s: from the end of a fault to the next result in a PACS.

    corrected: published jobs of a series beyond the first, which correct it for what came late. told_twice: jobs that
    workers say they have published twice. in_charge: hosts whose database takes writes.
    """

    counts: dict[str, int]
    recovery_s: dict[str, list[float]]
    verdicts: dict[str, Verdict]
    series: int
    corrected: int
    told_twice: list[int]
    in_charge: list[str]
    seconds: float
    unexpected: dict[str, list[int]]

    @property
    def broken(self) -> list[str]:
        """Which promises were not kept, in words; empty when all were."""
        found = [f"{host}: {what}" for host, verdict in self.verdicts.items() for what in _broken(verdict)]
        found += [f"published twice: {self.told_twice}"] if self.told_twice else []
        found += [f"databases that take writes: {self.in_charge}"] if len(self.in_charge) != 1 else []
        return found

    def rows(self) -> Iterator[str]:
        """The rows of the table."""
        for name, count in self.counts.items():
            waits = self.recovery_s[name]
            recovery = f"{statistics.median(waits):.1f} / {max(waits):.1f}" if waits else "–"
            yield f"| {name} | {count} | {recovery} |"


class Chaos:
    """Injects one fault after the other."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._kinds: dict[str, tuple[Callable[[], None], int]] = {
            "SIGKILL of a receiver": (lambda: self._kill("receive"), 4),
            "SIGKILL of a worker": (lambda: self._kill("infer"), 4),
            "SIGKILL of a sender": (lambda: self._kill("deliver"), 4),
            "a host is cut off": (self._cut, 5),
            "a slow line (2 Mbit/s)": (self._slow, 4),
            "PostgreSQL killed and started again": (self._restart, 2),
            "PostgreSQL: fail-over to the standby": (self._fail_over, 1),
            "PostgreSQL cut off, then fail-over": (self._cut_and_fail_over, 1),
            "Triton killed": (self._kill_triton, 1),
            "a PACS down": (self._pacs_down, 2),
        }
        """With how often each comes, relative to the others: a fail-over takes as long as ten kills."""
        self.done = {name: Harm(name) for name in self._kinds}

    def inject(self, faults: int, longest_s: float) -> None:
        """Every kind once, in any order, then at random by its weight; as many as there is time for."""
        end = time.monotonic() + longest_s
        order = list(self._kinds)
        self._random.shuffle(order)
        weights = [weight for _, weight in self._kinds.values()]
        order = order[:faults] + self._random.choices(list(self._kinds), weights, k=max(0, faults - len(order)))
        for number, name in enumerate(order, start=1):
            self._wait(*BETWEEN_S)
            if time.monotonic() > end:
                return
            self._kinds[name][0]()
            self.done[name].count += 1
            self.done[name].healed.append(time.monotonic())
            if number % max(1, faults // 20) == 0:
                say(f"{number} of {faults}")

    def _wait(self, shortest_s: float, longest_s: float) -> None:
        time.sleep(self._random.uniform(shortest_s, longest_s))

    def _any(self, role: str) -> str:
        return self._random.choice([host for host, its in ROLES.items() if its == role])

    def _kill(self, role: str) -> None:
        self._site.roles[self._any(role)].kill()

    def _cut(self) -> None:
        with self._off(self._random.choice([*ROLES, "triton", "pacs1", "pacs2", "db2", "db1"])):
            self._wait(1, 8)

    @contextmanager
    def _off(self, host: str) -> Iterator[None]:
        self._site.network.cut(host)
        try:
            yield
        finally:
            self._site.network.heal(host)

    def _slow(self) -> None:
        host = self._random.choice([*ROLES, "triton", "pacs1", "pacs2"])
        self._site.network.slow(host)
        try:
            self._wait(1, 6)
        finally:
            self._site.network.quick(host)

    def _restart(self) -> None:
        self._site.databases.restart()

    def _fail_over(self) -> None:
        self._site.databases.fail_over()
        self._wait(0, 2)
        self._site.databases.repair()

    def _cut_and_fail_over(self) -> None:
        """Nobody hears of the old primary again: who talks to it has to notice by itself."""
        with self._off(self._site.databases.primary.host):
            self._wait(0, 3)
            self._site.databases.fail_over()
            self._wait(2, 6)
        self._site.databases.repair()

    def _kill_triton(self) -> None:
        self._site.triton.kill()

    def _pacs_down(self) -> None:
        if self._random.random() < 0.5:
            self._site.pacs2.process.kill()
            return
        self._site.pacs1.stop()
        try:
            self._wait(1, 4)
        finally:
            self._site.start_pacs1()


def _broken(verdict: Verdict) -> list[str]:
    wrong = {
        "acknowledged images lost": verdict.lost,
        "results missing": verdict.missing,
        "results doubled": verdict.doubled,
    }
    found = [f"{len(items)} {what}, e.g. {items[0]}" for what, items in wrong.items() if items]
    found += [f"{verdict.unfinished} jobs not ended"] if verdict.unfinished else []
    return found + ([f"{verdict.failed} jobs failed"] if verdict.failed else [])


def run(folder: Path, faults: int, seed: int, *, longest_s: float = math.inf, longest_pause_s: float = 4.0) -> Found:
    """A cluster under `faults` faults while a scanner sends; then everything ends, and is judged."""
    started = time.monotonic()
    with Site(folder) as site:
        patients = Patients(folder / "sent", seed=seed)
        scanner = Scanner(site, patients, seed, longest_pause_s)
        scanner.start()
        chaos = Chaos(site, seed)
        chaos.inject(faults, longest_s)
        say("working off the queue")
        scanner.finish()
        for role in (*site.roles.values(), site.triton, site.pacs2.process):
            role.wait_ready()
        wait_until_done(site.state_dir, scanner.series, time.monotonic() + END_WITHIN_S, site.ask)
        pacs = {"pacs1": site.pacs1, "pacs2": site.pacs2}
        return Found(
            counts={name: harm.count for name, harm in chaos.done.items()},
            recovery_s={name: _recovery(harm.healed, site.pacs1.times) for name, harm in chaos.done.items()},
            verdicts={name: judge(site.state_dir, scanner.acknowledged, one, site.ask) for name, one in pacs.items()},
            series=len(scanner.series),
            corrected=_corrected(site),
            told_twice=_told_twice(site),
            in_charge=site.databases.in_charge(),
            seconds=time.monotonic() - started,
            unexpected={host: role.unexpected for host, role in site.roles.items() if role.unexpected},
        )


def _recovery(healed: list[float], arrivals: list[float]) -> list[float]:
    places = ((moment, bisect(arrivals, moment)) for moment in healed)
    return [arrivals[place] - moment for moment, place in places if place < len(arrivals)]


def _corrected(site: Site) -> int:
    rows = site.ask("SELECT series_uid FROM job WHERE state = 'done'")
    return sum(count - 1 for count in Counter(uid for (uid,) in rows).values())


def _told_twice(site: Site) -> list[int]:
    """Jobs that were published more than once, by what the workers' logs say."""
    finished: Counter[int] = Counter()
    for log in site.folder.glob("w*.log"):
        for line in log.read_text().splitlines():
            if '"job_finished"' in line:
                finished[json.loads(line)["job"]] += 1
    return sorted(job for job, times in finished.items() if times > 1)
