"""The report of an evaluation as one HTML page without any other file: tables, curves, pictures of hits and misses.

The only module of the evaluation that loads matplotlib.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ich_node.domain.findings import DISCLAIMER, LABELS, ModelCard
from ich_node.training.evaluate import assess, metrics
from ich_node.training.evaluate.faithfulness import FRACTIONS
from ich_node.training.evaluate.measure import Outcome

MAX_EXAMPLES = 8  # chosen: two rows of pictures for each kind
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#1b1f24}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #d0d7de}
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.25em .7em;border-bottom:1px solid #e3e7eb;text-align:right}
td:first-child,th:first-child{text-align:left}th{font-weight:600}.note{color:#57606a}
.warn{background:#fff4d6;padding:.5em .8em;border-left:4px solid #d4a000}img{max-width:100%}
"""


def page(title: str, outcomes: Sequence[Outcome], figures: Mapping[str, Any], card: ModelCard) -> str:
    """The whole report."""
    analysed = [outcome for outcome in outcomes if outcome.analysed]
    parts = [
        f"<h1>{_text(card.id)} {_text(card.version)} on {_text(title)}</h1>",
        f'<p class="warn">{_text(DISCLAIMER)}. {_text(_about(figures))}</p>',
        "<h2>Studies</h2>",
        _label_table(figures["studies"], decided=True),
        _operating_points(figures),
        _confusion(figures),
    ]
    if figures["slices"]["count"]:
        parts += ["<h2>Slices</h2>", _label_table(figures["slices"], decided=False)]
    parts += ["<h2>Curves</h2>", _curves(analysed)]
    if figures["side"]["count"]:
        parts.append(_side(figures["side"]))
    if figures["cam"]["masked_slices"] or "curves" in figures["cam"]:
        parts += ["<h2>Does the activation map show the evidence?</h2>", _cam(figures["cam"], analysed)]
    parts += [
        "<h2>Examples</h2>",
        *_examples(analysed, card),
        "<h2>Not analysed, warnings</h2>",
        _not_analysed(figures),
    ]
    parts += ["<h2>Time</h2>", _timing(figures["timing_s"]), _provenance(card)]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _about(figures: Mapping[str, Any]) -> str:
    studies = figures["studies"]
    return (
        f"{studies['count']} studies of {studies['patients']} patients were analysed, "
        f"{figures['not_analysed']['count']} were not. AUC with 95 % intervals from resampling patients, "
        "sensitivity and specificity with Wilson's. Probabilities are those that the node reports."
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _interval(estimate: metrics.Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return str(estimate) if not math.isnan(estimate.low) else _number(estimate.value)


def _label_table(figures: Mapping[str, Any], *, decided: bool) -> str:
    head = ["label", "known", "positive", "patients with it", "AUC", "ECE"]
    if decided:
        head += ["threshold", "sensitivity", "specificity"]
    rows = []
    for label in LABELS:
        found = figures["labels"][label]
        row: list[object] = [label, found["known"], found["positives"], found["positive_patients"]]
        row += [_interval(found["auc"]), _number(found["ece"])]
        if decided:
            row += [_number(found["threshold"]), _interval(found["sensitivity"]), _interval(found["specificity"])]
        rows.append(row)
    loss = _number(figures["weighted_log_loss"], 4)
    note = f'<p class="note">Weighted log loss of the RSNA 2019 challenge ("any" twice): {loss}.</p>'
    return _table(head, rows) + note


def _operating_points(figures: Mapping[str, Any]) -> str:
    present, stat = figures["studies"]["labels"]["any"], figures["stat"]
    rows = [("HIGH or STAT", _number(present["threshold"]), present["sensitivity"], present["specificity"])]
    if "sensitivity" in stat:
        rows.append(("STAT", _number(stat["threshold"]), stat["sensitivity"], stat["specificity"]))
    everybody = figures["not_analysed"]["counted_as_not_flagged"]
    rows.append(("HIGH or STAT, not analysed = not flagged", "", everybody["sensitivity"], everybody["specificity"]))
    return _table(
        ("operating point for any hemorrhage", "threshold", "sensitivity", "specificity"),
        [(name, threshold, _interval(a), _interval(b)) for name, threshold, a, b in rows],
    )


def _confusion(figures: Mapping[str, Any]) -> str:
    order = ("STAT", "HIGH", "ROUTINE", "not analysed")
    table = figures["priority"]
    rows = [
        (name, *(table[name][key] for key in ("positive", "negative", "unknown"))) for name in order if name in table
    ]
    return _table(("priority", "with hemorrhage", "without", "unknown"), rows)


def _side(side: Mapping[str, Any]) -> str:
    rows = [(side["count"], _interval(side["right_when_sure"]), _number(side["not_sure"], 2))]
    return _table(("flagged studies with a known side", "right when sure", "not sure"), rows)


def _not_analysed(figures: Mapping[str, Any]) -> str:
    reasons = sorted(figures["not_analysed"]["reasons"].items(), key=lambda item: -item[1])
    warnings = sorted(figures["warnings"].items(), key=lambda item: -item[1])
    parts = []
    if reasons:
        parts.append(_table(("not analysed, because", "studies"), reasons))
    if warnings:
        parts.append(_table(("analysed with the warning", "studies"), warnings))
    return "".join(parts) or "<p>Every study was analysed, without a warning.</p>"


def _timing(timing: Mapping[str, Any]) -> str:
    if not timing:
        return "<p>Nothing was analysed.</p>"
    rows = [("whole analysis, median", timing["median"]), ("whole analysis, 95th percentile", timing["p95"])]
    rows += [(f"{stage}, mean", seconds) for stage, seconds in timing["mean_of_stage"].items()]
    note = (
        f'<p class="note">Seconds per study with {timing["median_slices"]} slices (median), from files to findings.</p>'
    )
    return _table(("stage", "s"), [(name, _number(seconds)) for name, seconds in rows]) + note


def _provenance(card: ModelCard) -> str:
    return f'<p class="note">Weights SHA-256 {_text(card.sha256)}.</p>'


# --- plots -----------------------------------------------------------------------------------------------------------


def _image(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _curves(analysed: Sequence[Outcome]) -> str:
    studies = assess.joined([outcome.scored_study() for outcome in analysed])
    slices = assess.joined([outcome.scored_slices() for outcome in analysed])
    figure = Figure(figsize=(11, 4.2))
    left, middle, right = figure.subplots(1, 3)
    for axes, scored, name in ((left, studies, "studies"), (middle, slices, "slices")):
        _roc(axes, scored, name)
    for scored, name in ((studies, "studies"), (slices, "slices")):
        known = np.asarray(~np.isnan(scored.truth[:, 0]))
        if known.sum() >= 2:
            curve = metrics.reliability(scored.truth[known, 0], scored.probability[known, 0])
            right.plot(curve.predicted, curve.observed, "o-", label=name)
    right.plot([0, 1], [0, 1], color="0.7", lw=1)
    right.set(title='reliability of "any"', xlabel="predicted", ylabel="observed", xlim=(0, 1), ylim=(0, 1))
    if right.get_legend_handles_labels()[0]:
        right.legend(fontsize=8)
    figure.tight_layout()
    return _image(figure)


def _roc(axes: Any, scored: assess.Scored, name: str) -> None:
    for index, label in enumerate(LABELS):
        known = ~np.isnan(scored.truth[:, index])
        truth, probability = scored.truth[known, index], scored.probability[known, index]
        area = metrics.auc(truth, probability) if known.any() else math.nan
        if not math.isnan(area):
            fpr, tpr, _ = metrics.roc(truth, probability)
            axes.plot(fpr, tpr, lw=2.4 if index == 0 else 1.1, label=f"{label} {area:.3f} ({int(truth.sum())})")
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    axes.set(title=f"ROC, {name}", xlabel="1 − specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, loc="lower right", title="AUC (positives)", title_fontsize=7)


def _cam(cam: Mapping[str, Any], analysed: Sequence[Outcome]) -> str:
    rows: list[tuple[str, object]] = []
    if cam["masked_slices"]:
        rows.append(("pointing game: the hottest pixel lies in the mask", _interval(cam["pointing_game"])))
        rows.append(("Dice of the lit area and the mask, mean", _number(cam["dice"], 2)))
        rows.append(("slices with a mask", cam["masked_slices"]))
    for name, area in cam.get("curves", {}).items():
        rows.append((f"area under the {name.replace('_', ' ')} curve", _number(area)))
    table = _table(("", "value"), rows)
    made = [outcome.curves for outcome in analysed if outcome.curves is not None]
    if not made:
        return table
    figure = Figure(figsize=(8.5, 3.4))
    for axes, kind in zip(figure.subplots(1, 2), ("deletion", "insertion"), strict=True):
        for name, style in ((kind, "o-"), (f"random_{kind}", "s--")):
            axes.plot(FRACTIONS, np.mean([getattr(curve, name) for curve in made], axis=0), style, label=name)
        axes.set(
            title=f"{kind}, {len(made)} positive slices", xlabel="share of the brain", ylabel='probability of "any"'
        )
        axes.set_ylim(0, 1)
        axes.legend(fontsize=8)
    figure.tight_layout()
    return table + _image(figure)


# --- examples --------------------------------------------------------------------------------------------------------


def _examples(analysed: Sequence[Outcome], card: ModelCard) -> list[str]:
    """Pictures: the surest hits, the misses, the false alarms, the surest negatives."""
    threshold = card.thresholds["any"]
    by_probability = sorted(analysed, key=lambda outcome: -outcome.probability[0])
    groups = {
        "Hits (most certain first)": [o for o in by_probability if o.truth[0] == 1 and o.called],
        "Misses (least suspicious first)": [o for o in by_probability[::-1] if o.truth[0] == 1 and not o.called],
        "False alarms (most certain first)": [o for o in by_probability if o.truth[0] == 0 and o.called],
        "Correctly not flagged (most suspicious first)": [
            o for o in by_probability if o.truth[0] == 0 and not o.called
        ],
    }
    parts = [f'<p class="note">Present from {threshold:.3f}. Contour: the activation map at its threshold.</p>']
    for title, group in groups.items():
        if group:
            parts += [f"<h3>{title}: {len(group)}</h3>", _gallery(group[:MAX_EXAMPLES], card.cam_threshold)]
    return parts


def _gallery(outcomes: Sequence[Outcome], cam_threshold: float) -> str:
    columns = 4
    rows = -(-len(outcomes) // columns)
    figure = Figure(figsize=(11, 3.1 * rows))
    grid = np.atleast_2d(figure.subplots(rows, columns))
    for axes, outcome in zip(grid.ravel(), outcomes, strict=False):
        picture = outcome.picture
        if picture is None:
            continue
        axes.imshow(picture.hu, cmap="gray", vmin=0, vmax=80, interpolation="bilinear")
        if picture.heat.max() > 0:
            shown = np.ma.masked_less(picture.heat, 0.1)
            axes.imshow(shown, cmap="inferno", vmin=0, vmax=1, alpha=0.35, interpolation="bilinear")
            if picture.heat.max() >= cam_threshold:
                axes.contour(picture.heat, levels=[cam_threshold], colors=["#00e0ff"], linewidths=0.8)
        axes.set_title(_caption(outcome), fontsize=7)
    for axes in grid.ravel():
        axes.set_axis_off()
    figure.tight_layout()
    return _image(figure)


def _caption(outcome: Outcome) -> str:
    truth = [LABELS[i] for i in range(1, len(LABELS)) if outcome.truth[i] == 1] or (
        ["hemorrhage"] if outcome.truth[0] == 1 else ["none"]
    )
    called = [label for label in outcome.called if label != "any"] or (["type unsure"] if outcome.called else ["none"])
    number = outcome.picture.slice_number if outcome.picture else 0
    return (
        f"{outcome.patient[:24]}, slice {number}, p {outcome.probability[0]:.2f}\n"
        f"truth: {', '.join(truth)}\nmodel: {', '.join(called)}"
    )
