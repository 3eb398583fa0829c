"""`ich-node evaluate`: a bundle on labelled studies, with everything that a reader of the figures may ask.

In: DICOM studies and a label file (cases.py says which forms), or the CT-ICH data set. Every study goes through
`infer.pipeline.analyse`, the code that the node runs. Out, in one folder: report.html (self-contained), figures.json,
studies.csv and slices.csv.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from ich_node.domain.errors import IchNodeError
from ich_node.domain.findings import DISCLAIMER, LABELS
from ich_node.infer.bundle import load
from ich_node.infer.engine import open_engine
from ich_node.runtime import config
from ich_node.training.data import sources
from ich_node.training.evaluate import assess, metrics
from ich_node.training.evaluate.measure import Outcome, measure

MAX_CURVES = 24  # chosen: each costs two dozen runs of the model
REPORT_MODULES = ("matplotlib",)


class MissingExtra(IchNodeError):
    """The extra [train] is not installed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--studies", type=Path, metavar="DIR", help="DICOM files in any arrangement of folders")
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="labels per study or per slice, see docs/evaluation.md"
    )
    parser.add_argument("--masks", type=Path, metavar="DIR", help="<SOP Instance UID>.png: what is not black is blood")
    parser.add_argument("--data", choices=sources.DATA, help="a known data set instead of --studies and --labels")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the data set of --data lies")
    parser.add_argument("--phantoms", type=int, default=8, metavar="N", help="of --data phantoms, per type (8)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the report goes")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="another model than the one that ships")
    parser.add_argument(
        "--provider", choices=("auto", "cuda", "cpu"), default="auto", help="where inference runs (auto)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and write the report; 0 when at least one study was analysed."""
    require(*REPORT_MODULES)
    from ich_node.training.evaluate import evaluation_report  # noqa: PLC0415  # matplotlib comes with the extra [train]

    model = load(arguments.bundle or config.default_bundle())
    engine = open_engine(config.InferConfig(provider=arguments.provider), model)
    settings = config.Config()
    with sources.opened(arguments) as (title, count, stream):
        arguments.out.mkdir(parents=True, exist_ok=True)
        outcomes: list[Outcome] = []
        for case in track(stream, "studies", total=count, console=Console(stderr=True)):
            curves_so_far = sum(outcome.curves is not None for outcome in outcomes)
            outcomes.append(measure(case, model, engine, settings, faithful=curves_so_far < MAX_CURVES))
    figures = summarise(outcomes, model.card.thresholds, model.card.stat_threshold)
    figures = {"model": f"{model.card.id} {model.card.version}", "sha256": model.card.sha256, **figures}
    figures |= {"data": title, "provider": engine.name, "notice": DISCLAIMER}
    write_tables(arguments.out, outcomes)
    (arguments.out / "figures.json").write_text(json.dumps(assess.plain(figures), indent=1) + "\n", encoding="utf-8")
    page = evaluation_report.page(title, outcomes, figures, model.card)
    (arguments.out / "report.html").write_text(page, encoding="utf-8")
    for line in headline(figures):
        print(line)
    print(f"report: {arguments.out / 'report.html'}")
    return 0 if any(outcome.analysed for outcome in outcomes) else 1


def require(*modules: str) -> None:
    """Raise MissingExtra, with what to do, when a module of the extra [train] is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f"needs {', '.join(missing)}: pip install 'ich-node[train]'")


# --- figures and tables ----------------------------------------------------------------------------------------------


def summarise(
    outcomes: Sequence[Outcome], thresholds: Mapping[str, float], stat_threshold: float, *, replicates: int = 1000
) -> dict[str, Any]:
    """All figures of an evaluation; see `assess.figures` for slices and studies."""
    analysed = [outcome for outcome in outcomes if outcome.analysed]
    studies = assess.joined([outcome.scored_study() for outcome in analysed])
    slices = assess.joined([outcome.scored_slices() for outcome in analysed])
    truth = np.array([outcome.truth[0] for outcome in outcomes])
    result: dict[str, Any] = {
        "studies": assess.figures(studies, thresholds, replicates=replicates),
        "slices": assess.figures(slices, replicates=replicates),
        "not_analysed": {
            "count": len(outcomes) - len(analysed),
            "positives": int(sum(o.truth[0] == 1 for o in outcomes if not o.analysed)),
            "reasons": dict(Counter(str(outcome.reason) for outcome in outcomes if not outcome.analysed)),
            "counted_as_not_flagged": assess.flagged(truth, np.array([bool(o.called) for o in outcomes])),
        },
        "priority": _priorities(outcomes),
        "stat": {"threshold": stat_threshold},
        "cam": assess.pointing(
            [hit for outcome in analysed for hit in outcome.hits],
            [overlap for outcome in analysed for overlap in outcome.overlaps],
        ),
        "side": assess.sides(
            [(outcome.true_side, outcome.found_side) for outcome in analysed if outcome.called and outcome.true_side]
        ),
        "warnings": dict(Counter(warning for outcome in analysed for warning in outcome.warnings)),
        "timing_s": _timing(analysed),
    }
    if len(studies):
        known = np.asarray(~np.isnan(studies.truth[:, 0]))
        sensitivity, specificity = metrics.sens_spec(
            studies.truth[known, 0], studies.probability[known, 0], stat_threshold
        )
        result["stat"] |= {"sensitivity": sensitivity, "specificity": specificity}
    curves = [outcome.curves.areas() for outcome in analysed if outcome.curves is not None]
    if curves:
        result["cam"]["curves"] = {name: float(np.mean([areas[name] for areas in curves])) for name in curves[0]}
        result["cam"]["curve_slices"] = len(curves)
    return result


def _priorities(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Priority (or not analysed) → how many studies with, without and of unknown hemorrhage."""
    table: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        row = table.setdefault(outcome.priority or "not analysed", {"positive": 0, "negative": 0, "unknown": 0})
        row["unknown" if np.isnan(outcome.truth[0]) else "positive" if outcome.truth[0] else "negative"] += 1
    return table


def _timing(analysed: Sequence[Outcome]) -> dict[str, Any]:
    if not analysed:
        return {}
    total = np.array([outcome.seconds for outcome in analysed])
    stages = {name for outcome in analysed for name in outcome.timings_s}
    mean = {name: float(np.mean([outcome.timings_s.get(name, 0) for outcome in analysed])) for name in sorted(stages)}
    slices = int(np.median([len(outcome.slice_uids) for outcome in analysed]))
    return {
        "median": float(np.median(total)),
        "p95": float(np.quantile(total, 0.95)),
        "mean_of_stage": mean,
        "median_slices": slices,
    }


def write_tables(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """studies.csv: one row per study; slices.csv: one row per slice that was analysed."""
    truth_columns = [f"true_{label}" for label in LABELS]
    with (folder / "studies.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["study", "patient", "priority", "not_analysed_because", *LABELS, *truth_columns, "seconds"])
        for outcome in outcomes:
            answer = [outcome.priority or "", outcome.reason or "", *_cells(outcome.probability)]
            seconds = round(outcome.seconds, 3)
            rows.writerow([outcome.study_uid, outcome.patient, *answer, *_cells(outcome.truth, 0), seconds])
    with (folder / "slices.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["study", "slice", "sop_instance_uid", *LABELS, *truth_columns])
        for outcome in outcomes:
            for index, uid in enumerate(outcome.slice_uids):
                truth = _cells(outcome.slice_truth[index], 0)
                rows.writerow([outcome.study_uid, index + 1, uid, *_cells(outcome.slice_probability[index]), *truth])


def _cells(values: npt.NDArray[np.floating], digits: int = 4) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.{digits}f}" for value in values]


def headline(figures: Mapping[str, Any]) -> list[str]:
    """The figures that a person looks for first, one line each."""
    studies, slices = figures["studies"]["labels"]["any"], figures["slices"]["labels"]["any"]
    lines = [
        f"{figures['model']}: {figures['studies']['count']} studies analysed, {studies['positives']} with hemorrhage; "
        f"{figures['not_analysed']['count']} not analysed",
        f"study AUC {studies['auc']}, sensitivity {studies['sensitivity']}, specificity {studies['specificity']}",
    ]
    if slices["known"]:
        loss = figures["slices"]["weighted_log_loss"]
        lines.append(f"slice AUC {slices['auc']}, ECE {slices['ece']:.3f}, weighted log loss {loss:.3f}")
    if figures["cam"]["masked_slices"]:
        lines.append(f"pointing game {figures['cam']['pointing_game']}, Dice {figures['cam']['dice']:.2f}")
    if figures["side"]["count"]:
        lines.append(f"side right {figures['side']['right_when_sure']}, not sure {figures['side']['not_sure']:.2f}")
    return lines
