"""How the figures bear other scanners and senders' mistakes: python -m ich_node.training.evaluate.stress --help.

Two sets are changed, one change at a time (`evaluate.changes`), and seen by the bundle that ships, through the node's
crop, the graph, the bundle's aggregation and calibration; the gates, which refuse some of these studies in the node,
are not asked. Phantoms of the two label maps that training never saw, with subtle hemorrhages, say how well the bundle
bears a change. Patients of CT-ICH were in its training: how high their figures are says nothing, only how they fall.

Every study is kept in OUT/stress and skipped when it is there, so that a run may be cut short: the figures say of how
many studies they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from ich_node.domain.findings import LABELS
from ich_node.infer import bundle
from ich_node.infer.engine import Engine
from ich_node.infer.engine.ort import OrtEngine
from ich_node.infer.see.crop import crop_stack
from ich_node.phantom.habit import SUBTLE
from ich_node.phantom.lesions import TYPES
from ich_node.phantom.scanner import scan
from ich_node.phantom.tissue import Head
from ich_node.training.data import ct_ich
from ich_node.training.evaluate import metrics, options, unseen
from ich_node.training.evaluate.changes import CHANGES, Hu, Spacing, labels_of
from ich_node.training.learn.recipe import Workshop
from ich_node.training.synthesis import scans

mpl.use("Agg")
from matplotlib import pyplot as plt

PHANTOMS_PER_TYPE = 2  # chosen: ten that bleed and ten that do not take minutes of a CPU
THICKNESS_MM = 5.0  # of a phantom's slices, one beside the other, as most hospitals read heads
TILT_DEG = 6.0  # chosen: at most, either way; more is one of the changes
BATCH = 8  # slices at a time
REPLICATES = 300  # chosen: of the resampling of patients, enough for an interval of two digits
UNCHANGED = "as they are"
PATIENTS, PHANTOMS = "patients, trained on", "unseen phantoms"
Scores = dict[str, dict[str, dict[str, Any]]]


class Study(NamedTuple):
    """One study of a set. labels: float32 [slices, 6]."""

    name: str
    hu: Hu
    spacing_mm: Spacing
    labels: npt.NDArray[np.float32]


class Phantom(NamedTuple):
    """A study of a phantom with its exact lesions, masks: bool [slices, rows, columns]."""

    study: Study
    masks: npt.NDArray[np.bool_]


def patients(shop: Workshop) -> Iterator[Callable[[], Study]]:
    """The patients of CT-ICH, those with and without hemorrhage in turn for as long as there are both."""
    for number in ct_ich.in_turn(shop.data / "ct_ich"):
        yield partial(_patient, shop, number)


def _patient(shop: Workshop, number: int) -> Study:
    (one,) = ct_ich.studies(shop.data / "ct_ich", {number})
    return Study(one.patient, one.hu, ct_ich.SPACING_MM, one.labels)


def phantoms(shop: Workshop) -> Iterator[Callable[[], Study]]:
    """The studies of `scanned`."""
    for make in scanned(shop):
        yield partial(_study, make)


def _study(make: Callable[[], Phantom]) -> Study:
    return make().study


def scanned(shop: Workshop) -> Iterator[Callable[[], Phantom]]:
    """Scans of the heads that are kept back, every second one bleeding."""
    scans.heads(shop.data / "head_label_maps", shop.heads)
    heads = scans.kept_back(shop.heads)
    for number in range(2 * len(TYPES) * PHANTOMS_PER_TYPE):
        label = None if number % 2 else TYPES[number // 2 % len(TYPES)]
        yield partial(phantom, heads[number // 2 % len(heads)], label, number)


def phantom(head: Head, label: str | None, seed: int) -> Phantom:
    """A scan of a head with subtle hemorrhage of type `label`, or none, in slices of 5 mm; the same for a seed."""
    rng = np.random.default_rng([seed, 31])
    scene = unseen.scene_of(head, label, rng, SUBTLE)
    drawn = scans.random_protocol(head, rng)
    low, high = drawn.positions_mm[0], drawn.positions_mm[-1]
    protocol = replace(
        drawn,
        positions_mm=tuple(np.arange(low, high, THICKNESS_MM).tolist()),
        thickness_mm=THICKNESS_MM,
        tilt_deg=float(rng.uniform(-TILT_DEG, TILT_DEG)),
        sharp=0.0,
        streaks=False,
        motion=False,
    )
    taken = scan(scene, protocol, rng)
    labels = unseen.labels_of(taken.mask, protocol.pixel_mm)
    spacing_mm = (THICKNESS_MM, protocol.pixel_mm, protocol.pixel_mm)
    return Phantom(Study(str(seed), taken.hu, spacing_mm, labels), np.asarray(taken.mask.any(axis=1), np.bool_))


def scored(study: Study, engine: Engine, said: bundle.Manifest) -> Scores:
    """By change and strength: smoothed logits and labels of the slices, P(any) and truth of the study."""
    found: Scores = {UNCHANGED: {"": _score(study, study.hu, study.spacing_mm, engine, said)}}
    for name, (change, _, strengths) in CHANGES.items():
        found[name] = {
            f"{strength:g}": _score(study, *change(study.hu, study.spacing_mm, strength), engine, said)
            for strength in strengths
        }
    return found


def _score(study: Study, hu: Hu, spacing: Spacing, engine: Engine, said: bundle.Manifest) -> dict[str, Any]:
    box = crop_stack(hu, spacing).hu
    logits = np.concatenate([engine.run(box[i : i + BATCH])[0] for i in range(0, len(box), BATCH)])
    heights_mm = np.arange(len(logits)) * spacing[0]
    labels = labels_of(study.labels, len(logits))
    return {
        "slices": [round(float(v), 3) for v in said.aggregation.slices(logits, heights_mm)[:, 0]],
        "labels": labels[:, 0].tolist(),
        "study": float(said.calibration.study.probability(said.aggregation.study(logits, heights_mm))[0]),
    }


def measure(shop: Workshop, name: str, model: bundle.Model, minutes: float) -> list[Scores]:
    """The scores of the set `name`, of as many studies as `minutes` allow; every study is kept on disk."""
    path = shop.out / "stress" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    done = [json.loads(line) for line in path.read_text().splitlines()]
    engine = OrtEngine(model.graph, provider="cpu", threads=1)
    end = time.monotonic() + minutes * 60
    with path.open("a") as stream:
        for number, study in enumerate(patients(shop) if name == PATIENTS else phantoms(shop)):
            if number < len(done):
                continue
            if time.monotonic() > end:
                break
            done.append(scored(study(), engine, model.manifest))
            stream.write(json.dumps(done[-1]) + "\n")
            stream.flush()
    return done


def figures(studies: Sequence[Scores], high: float) -> dict[str, dict[str, dict[str, Any]]]:
    """By change and strength: AUC of "any" by slice and study, sensitivity and specificity of studies from HIGH on."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for change, strengths in studies[0].items():
        for strength in strengths:
            rows = [study[change][strength] for study in studies]
            labels, scores = ([value for row in rows for value in row[key]] for key in ("labels", "slices"))
            owner = [number for number, row in enumerate(rows) for _ in row["labels"]]
            ill = np.array([max(row["labels"]) > 0 for row in rows])
            probability = np.array([row["study"] for row in rows])
            called = probability >= high
            found.setdefault(change, {})[strength] = {
                "slice_auc": _auc(labels, scores, owner),
                "study_auc": _auc(ill, probability, np.arange(len(rows))),
                "sensitivity": round(float(called[ill].mean()), 3) if ill.any() else None,
                "specificity": round(float((~called[~ill]).mean()), 3) if (~ill).any() else None,
                "studies": len(rows),
                "bleeding": int(ill.sum()),
            }
    return found


def _auc(labels: npt.ArrayLike, scores: npt.ArrayLike, owner: npt.ArrayLike) -> list[float]:
    found = metrics.bootstrap_auc_by_patient(labels, scores, owner, replicates=REPLICATES)
    return [round(value, 3) for value in found]


def plot(sets: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]], path: Path) -> None:
    """AUC of "any" by slice and study against the strength of every change; one panel each."""
    figure, axes = plt.subplots(2, 4, figsize=(12, 5.6), sharey=True)
    for axis, (name, (_, nothing, strengths)) in zip(axes.flat, CHANGES.items(), strict=False):
        at = sorted((nothing, *strengths))
        for (source, found), colour in zip(sets.items(), ("tab:blue", "tab:orange"), strict=True):
            points = [found[UNCHANGED][""] if value == nothing else found[name][f"{value:g}"] for value in at]
            for which, of, line in (("slice_auc", "slices", "o-"), ("study_auc", "studies", "s--")):
                label = f"{source}, {of}"
                axis.plot(range(len(at)), [point[which][0] for point in points], line, color=colour, label=label)
        axis.set_xticks(range(len(at)), ["as is" if value == nothing else f"{value:g}" for value in at])
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    axes.flat[0].set_ylim(0.5, 1.01)
    for row in axes:
        row[0].set_ylabel("AUC, any")
    legend = axes.flat[-1]
    legend.axis("off")
    legend.legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Measure what is not measured yet, then write the figures and the picture."""
    arguments = options.parsed("stress", __doc__, "root", "out", "bundle", "figures", "picture", "minutes")
    shop, model = Workshop(arguments.root, arguments.out), bundle.load(arguments.bundle)
    high = model.card.thresholds[LABELS[0]]
    found = {name: figures(measure(shop, name, model, arguments.minutes), high) for name in (PHANTOMS, PATIENTS)}
    options.write(arguments.figures, {"bundle": model.manifest.version, "sets": found})
    plot(found, arguments.picture)


if __name__ == "__main__":
    main()
