"""The tables of the documents that mirror the code, made from the code: python -m tests.documents writes them.

A table stands between `<!-- made: NAME -->` and `<!-- end -->`; tests/test_docs.py compares what stands there with what
the code says now.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ich_node.commands import cli
from ich_node.deliver.dicom import answers
from ich_node.dicom import pdu
from ich_node.domain.ledger import DELIVERY_TRANSITIONS, JOB_TRANSITIONS
from ich_node.runtime import logs

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MADE = re.compile(r"(<!-- made: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def verbs() -> str:
    """Every verb of the command line with what it does."""
    parser = cli.parser([])
    verb = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helped = {choice.dest: choice.help or "" for choice in verb._choices_actions}
    return table(("command", "what it does"), [(f"`ich-node {name}`", text) for name, text in helped.items()])


def pacs_answers() -> str:
    """What the node makes of a C-STORE status."""
    words = {"sent": "counts as sent", "refused": "given up", "later": "tried again"}
    rows = []
    for low, high, verdict, cause in answers.STATUSES:
        span = f"0x{low:04X}" if low == high else f"0x{low:04X} to 0x{high:04X}"
        rows.append((span, cause, words[verdict.value]))
    return table(("status", "meaning", "the node"), [*rows, ("any other, or none", "", "tried again")])


def rejections() -> str:
    """What the node says of a rejected association."""
    rows = [
        (f"{source}, {reason}", words.format(calling="…", called="…"))
        for (source, reason), words in pdu.REJECTIONS.items()
    ]
    return table(("source, reason", "the peer rejects associations:"), rows)


def moves() -> str:
    """The legal moves of jobs and deliveries."""
    rows = [("job", old, ", ".join(sorted(new)) or "none") for old, new in JOB_TRANSITIONS.items()]
    rows += [("delivery", old, ", ".join(sorted(new)) or "none") for old, new in DELIVERY_TRANSITIONS.items()]
    return table(("what", "from", "to"), rows)


def events() -> str:
    """The closed list of log events."""
    return ", ".join(f"`{event}`" for event in sorted(logs.EVENTS)) + "\n"


def _manifest() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "onnx" / "ich.yaml").read_text(encoding="utf-8"))
    return found


def model_figures() -> str:
    """The figures of the shipped bundle, as its manifest states them."""
    said = _manifest()
    validated = next(found for name, found in said["metrics"].items() if name.startswith("cross-validation"))
    rows = [(name.replace("_", " "), str(value)) for name, value in validated.items() if not isinstance(value, dict)]
    rows += [(f"slice AUC, {label}", value) for label, value in validated["slice_auc_by_type"].items()]
    made = next((found for name, found in said["metrics"].items() if name.startswith("phantom")), {})
    for label, slices in made.get("slice_auc", {}).items():
        rows.append((f"unseen heads, {label}", f"by slice {slices:.3f}, by study {made['study_auc'][label]:.3f}"))
    return table(("figure", "measured"), rows)


def model_bands() -> str:
    """The operating points of the shipped bundle."""
    rows = []
    for name, point in _manifest()["operating_points"].items():
        shares = [
            f"{point[which]:.2f} [{point[f'{which}_interval'][0]:.2f}–{point[f'{which}_interval'][1]:.2f}]"
            for which in ("sensitivity", "specificity")
        ]
        rows.append((name, f"{point['thresholds']['any']:.3f}", *shares))
    return table(("point", "from P(any)", "sensitivity", "specificity"), rows)


def model_anatomy() -> str:
    """What the heads of every source of the shipped bundle measure."""
    found = {source["name"].split(" (")[0]: source["anatomy"] for source in _manifest()["data"]}
    names = list(next(iter(found.values())))
    rows = [(source, *(f"{measured[name]:g}" for name in names)) for source, measured in found.items()]
    return table(("source", *(name.replace("_", " ") for name in names)), rows)


def _measured(name: str) -> dict[str, Any] | None:
    """Figures that a command wrote into docs/figures, None where it has not run."""
    path = ROOT / "docs" / "figures" / f"{name}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def model_stress() -> str:
    """What changes of the images cost, as `evaluate.stress` measured it."""
    found = _measured("stress")
    if found is None or found["bundle"] != _manifest()["version"]:
        return "Not measured for this bundle.\n"
    sets = found["sets"]
    rows = []
    for change, strengths in next(iter(sets.values())).items():
        for strength in strengths:
            cells: list[str] = []
            for changes in sets.values():
                at = changes[change][strength]
                aucs = [f"{at[key][0]:.3f} [{at[key][1]:.2f}–{at[key][2]:.2f}]" for key in ("slice_auc", "study_auc")]
                cells += [*aucs, f"{at['sensitivity']:.2f} / {at['specificity']:.2f}"]
            rows.append((f"{change} {strength}".strip(), *cells))
    head = ["change"]
    for source, changes in sets.items():
        at = changes["as they are"][""]
        name = f"{source} ({at['studies']}, {at['bleeding']} bleed)"
        head += [f"{name}: slice AUC", "study AUC", "sensitivity / specificity at HIGH"]
    return table(tuple(head), rows)


def model_types() -> str:
    """Precision and recall of named types, as `evaluate.stored` measured them."""
    found = _measured("stored")
    if found is None:
        return "Not measured for this bundle.\n"
    rows = [(label, shares["precision"], shares["recall"]) for label, shares in found["types"].items()]
    return table(("type", "precision of a name", "recall"), rows)


def model_rules() -> str:
    """How the rule of a study compares with others, as `evaluate.stored` measured it."""
    found = _measured("stored")
    if found is None:
        return "Not measured for this bundle.\n"
    groups = {which: found["rules"][which] for which in ("on all patients", "calibrated by fold")}
    best = max(groups["on all patients"], key=lambda name: groups["on all patients"][name][0])
    rows = [
        (f"{name}, {which}", *(f"{value:.3f}" for value in aucs))
        for which, rules in groups.items()
        for name, aucs in rules.items()
        if which == "calibrated by fold" or name in ("as shipped", best)
    ]
    return table(("rule", "study AUC, any", "up to 4 slices", "over 4 slices"), rows)


def model_left_out() -> str:
    """What weights that have seen phantoms only make of the patients, as `evaluate.left_out` measured it."""
    found = _measured("left_out")
    if found is None:
        return "Not measured for this bundle.\n"
    rows = [(name.replace("_", " "), str(value)) for name, value in found.items() if not isinstance(value, dict)]
    rows += [(f"slice AUC, {label}", value) for label, value in found["slice_auc_by_type"].items()]
    return table(("figure", "phantoms only, scored on CT-ICH"), rows)


def model_left_out_maps() -> str:
    """What a short training without label maps makes of them, as `evaluate.left_out_maps` measured it."""
    found = _measured("left_out_maps")
    if found is None:
        return "Not measured.\n"
    words = {"first": "phantoms alone", "second": "phantoms, then patients and paintings"}
    rows = [
        (f"{words[phase]}, {arm}", *_with_gains(said))
        for phase, arms in found["phases"].items()
        for arm, said in arms.items()
    ]
    any_arm = next(iter(next(iter(found["phases"].values())).values()))
    asked = f"{any_arm['studies']} scans of {found['heads_asked']} heads from label maps, {any_arm['bleeding']} bleed"
    made = f"{found['phantom_scans']} scans of phantoms; with label maps, of {found['heads_taught']} other ones"
    head = ("trained on", "slice AUC, any (gain)", "study AUC, any (gain)")
    return f"{_budget(found)}; {made}. Asked: {asked}.\n\n{table(head, rows)}"


def model_one_change() -> str:
    """What one change does to a short training, as `evaluate.one_change` measured it."""
    found = _measured("one_change")
    if found is None:
        return "Not measured.\n"
    rows = [
        (name, f"{arm['folds']}: {arm['studies']}, {arm['bleeding']} bleed", *_with_gains(arm))
        for name, arm in found["arms"].items()
    ]
    head = ("arm", "folds: patients", "slice AUC, any (gain)", "study AUC, any (gain)")
    return f"{_budget(found)}.\n\n{table(head, rows)}"


def _budget(found: dict[str, Any]) -> str:
    """What a short training consists of."""
    steps = found["steps"]
    said = f"{steps[0]} and then {steps[1]}" if isinstance(steps, list) else str(steps)
    return f"{said} steps of {found['slices_a_step']} slices at {found['size']} px"


def _with_gains(arm: dict[str, Any]) -> tuple[str, str]:
    """AUC by slice and study, each with the interval of its gain over what it is compared with."""
    slices, studies = (
        f"{arm[f'{of}_auc']:.3f} ({arm[f'{of}_gain'][0]:+.3f} to {arm[f'{of}_gain'][1]:+.3f})"
        for of in ("slice", "study")
    )
    return slices, studies


def model_healthy() -> str:
    """What the bundle calls phantoms without hemorrhage, as `evaluate.healthy` measured it."""
    found = _measured("healthy")
    if found is None or found["bundle"] != _manifest()["version"]:
        return "Not measured for this bundle.\n"
    rows = []
    for name, said in found["sets"].items():
        most = sorted(said["p_any"].values())[-3:]
        rows.append((name, *(str(said[key]) for key in ("ROUTINE", "HIGH", "STAT")), ", ".join(map(str, most))))
    return table(("heads", "ROUTINE", "HIGH", "STAT", "highest P(any)"), rows)


def model_rsna() -> str:
    """What the RSNA path takes at the size of the real set, as tests/rsna_dry_run.py measured it."""
    found = _measured("rsna_dry_run")
    if found is None:
        return "Not measured.\n"
    return table(("figure", "measured"), [(name.replace("_", " "), f"{value:,}") for name, value in found.items()])


TABLES: dict[str, Callable[[], str]] = {
    made.__name__: made
    for made in (
        *(verbs, pacs_answers, rejections, moves, events, model_figures, model_bands, model_anatomy, model_stress),
        *(model_left_out, model_left_out_maps, model_one_change, model_healthy, model_rsna, model_types, model_rules),
    )
}


def made_anew(text: str) -> str:
    """The document with every made part as the code says now. KeyError for a part that nothing makes."""
    return MADE.sub(lambda part: part[1] + TABLES[part[2]]() + part[4], text)


def main() -> None:
    """Write every document whose made parts have changed."""
    for path in DOCUMENTS:
        before = path.read_text(encoding="utf-8")
        after = made_anew(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
