"""The picture of `ich-node simulate`: who waits how long, first in first out against prioritised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ich_node.training.evaluate.metrics import Estimate

if TYPE_CHECKING:
    from ich_node.training.worklist.simulate import Scenario

POLICIES = (("fifo", "first in, first out", "0.6"), ("prioritised", "flagged first", "tab:blue"))


def draw(
    scenario: Scenario,
    waits: Mapping[str, Mapping[str, Estimate]],
    path: Path,
    published_min: Mapping[str, float],
) -> None:
    """Bars of the mean waits with their intervals, as PNG; published waits as crosses."""
    groups = list(waits)
    figure = Figure(figsize=(8.5, 4.2))
    axes = figure.subplots()
    for offset, (policy, name, colour) in zip((-0.2, 0.2), POLICIES, strict=True):
        values = [waits[group][policy] for group in groups]
        errors = [[v.value - v.low for v in values], [v.high - v.value for v in values]]
        places = [index + offset for index in range(len(groups))]
        axes.bar(places, [v.value for v in values], 0.38, yerr=errors, capsize=3, color=colour, label=name)
    for index, group in enumerate(groups):
        if group in published_min:
            label = "published" if group == next(iter(published_min)) else None
            axes.plot(index + 0.2, published_min[group], "kx", ms=9, mew=2, label=label)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel("mean wait for a reader, min")
    axes.set_title(
        f"{scenario.arrivals_per_h:g} head CTs per hour, {scenario.readers} readers, load {scenario.load:.2f}, "
        f"{scenario.prevalence:.0%} with hemorrhage",
        fontsize=10,
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False)
    figure.savefig(path, dpi=120, bbox_inches="tight")
