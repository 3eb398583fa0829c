"""One labelled study through the shipped pipeline, and everything that an evaluation wants to remember of it.

In: a `Case`. Out: an `Outcome`. The verdict comes from `infer.pipeline.analyse` and nothing else; what is looked at
in addition (CAM against a mask, deletion and insertion, a picture for the report) is taken from what it returned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ich_node.dicom import eligibility
from ich_node.dicom.study import Candidate, choose
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import LABELS, Analysis, Laterality, Prediction, Volume
from ich_node.infer.bundle import Model
from ich_node.infer.engine import Engine
from ich_node.infer.pipeline import analyse, read_headers
from ich_node.infer.say import explain, skull
from ich_node.infer.see.crop import Crop, crop
from ich_node.report.said.reasons import english
from ich_node.runtime.config import Config
from ich_node.training.data.cases import SeriesFiles, StudyFiles, Truth
from ich_node.training.evaluate import faithfulness, metrics
from ich_node.training.evaluate.assess import Scored
from ich_node.training.evaluate.faithfulness import Curves

Number = TypeVar("Number", np.int16, np.float32)
ANY = 0  # the first label: any hemorrhage
PICTURE_PX = 256  # chosen: a page of pictures stays small
POINTING_TOLERANCE_PX = 0  # none: the strongest point hits the outline or it does not


@dataclass(frozen=True, slots=True)
class Case:
    """A study with its truth: of the study, of slices by SOP Instance UID, and masks by SOP Instance UID.

    side: of the hemorrhage, where it is known.
    """

    study: StudyFiles
    truth: Truth
    slices: Mapping[str, Truth]
    masks: Mapping[str, npt.NDArray[np.bool_]]
    side: Laterality | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A slice for the report: HU int16 and heat float32, both [rows, columns], reduced to about PICTURE_PX."""

    slice_number: int
    hu: npt.NDArray[np.int16]
    heat: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Outcome:
    """What became of a study. Without an analysis, `reason` says why, and probabilities are NaN.

    slice_uids, slice_truth [n, 6], slice_probability [n, 6]: the slices of the analysed series, foot to head.
    """

    study_uid: str
    patient: str
    series_uid: str
    truth: Truth
    probability: Truth
    reason: str | None
    priority: str | None
    called: tuple[str, ...]
    warnings: tuple[str, ...]
    slice_uids: tuple[str, ...]
    slice_truth: Truth
    slice_probability: Truth
    seconds: float
    timings_s: Mapping[str, float]
    picture: Picture | None = None
    hits: tuple[bool, ...] = ()
    overlaps: tuple[float, ...] = ()
    true_side: Laterality | None = None
    found_side: Laterality | None = None
    curves: Curves | None = field(default=None, repr=False)

    @property
    def analysed(self) -> bool:
        """Whether the model spoke."""
        return self.reason is None

    def scored_study(self) -> Scored:
        """The study as one row."""
        return Scored(np.array([self.patient]), self.truth[None], self.probability[None])

    def scored_slices(self) -> Scored:
        """The labelled slices of the analysed series."""
        known = ~np.isnan(self.slice_truth).all(axis=1)
        patients = np.full(int(known.sum()), self.patient)
        return Scored(patients, self.slice_truth[known], self.slice_probability[known])


def measure(case: Case, model: Model, engine: Engine, config: Config, *, faithful: bool) -> Outcome:
    """Run the pipeline on the series of a study, in the node's own order, until one is analysed.

    `faithful`: also make the deletion and insertion curves if the study is positive. Raises EngineFailure.
    """
    reasons: list[tuple[int, str]] = []
    for series in in_order(case.study):
        started = time.perf_counter()
        try:
            analysis = analyse(list(series.files.values()), model, engine, config)
        except UnusableSeries as refusal:
            reasons.append((len(series.files), english(refusal.reason)))
            continue
        if analysis.status == "analysed":
            return _analysed(case, series, analysis, time.perf_counter() - started, engine, model, faithful)
        reasons.append((len(series.files), "no reason given" if analysis.reason is None else english(analysis.reason)))
    return _not_analysed(case, max(reasons)[1] if reasons else "no series")


def in_order(study: StudyFiles) -> list[SeriesFiles]:
    """The series of a study, first the one that the node would analyse (`dicom.study.choose`)."""
    by_uid = {series.series_uid: series for series in study.series}
    candidates = []
    for uid, series in by_uid.items():
        try:
            verdict = eligibility.verdict(read_headers(list(series.files.values())))
        except UnusableSeries as refusal:
            verdict = eligibility.SetAside(refusal.reason)
        candidates.append(Candidate(uid, verdict, len(series.files)))
    return [by_uid[candidate.series_uid] for candidate in choose(candidates)]


def _not_analysed(case: Case, reason: str) -> Outcome:
    nothing = np.empty((0, len(LABELS)))
    unknown = np.full(len(LABELS), math.nan)
    study = case.study
    return Outcome(
        study_uid=study.study_uid,
        patient=study.patient,
        series_uid="",
        truth=case.truth,
        probability=unknown,
        reason=reason,
        priority=None,
        called=(),
        warnings=(),
        slice_uids=(),
        slice_truth=nothing,
        slice_probability=nothing,
        seconds=0.0,
        timings_s={},
    )


def _analysed(
    case: Case,
    series: SeriesFiles,
    analysis: Analysis,
    seconds: float,
    engine: Engine,
    model: Model,
    faithful: bool,
) -> Outcome:
    volume, prediction = analysis.volume, analysis.prediction
    if volume is None or prediction is None or analysis.priority is None:
        raise ValueError("an analysis without volume or prediction")
    unknown = np.full(len(LABELS), math.nan)
    truth = np.stack([case.slices.get(uid, unknown) for uid in volume.sop_instance_uids])
    box = crop(volume)
    space = skull.inside(volume, box)
    shown = _slice_to_show(truth, prediction)
    hits, overlaps = _against_masks(case, volume, prediction, box, space, model.card.cam_threshold)
    curves = _curves(prediction, box, space, shown, model, engine) if faithful and case.truth[ANY] == 1 else None
    heat = explain.slice_heat(prediction, LABELS[ANY], shown, box, space)
    return Outcome(
        study_uid=case.study.study_uid,
        patient=case.study.patient,
        series_uid=series.series_uid,
        truth=case.truth,
        probability=np.array([finding.probability for finding in analysis.findings]),
        reason=None,
        priority=str(analysis.priority),
        called=tuple(finding.label for finding in analysis.findings if finding.present),
        warnings=tuple(english(warning) for warning in analysis.warnings),
        slice_uids=volume.sop_instance_uids,
        slice_truth=truth,
        slice_probability=prediction.slice_probability.astype(np.float64),
        seconds=seconds,
        timings_s=analysis.timings_s,
        picture=Picture(shown + 1, _small(volume.hu[shown]), _small(heat)),
        hits=hits,
        overlaps=overlaps,
        true_side=case.side,
        found_side=analysis.finding(LABELS[ANY]).laterality,
        curves=curves,
    )


def _slice_to_show(truth: Truth, prediction: Prediction) -> int:
    """The most suspicious of the slices that are known to be positive, else the most suspicious of all."""
    probability = prediction.slice_probability[:, ANY]
    positive = truth[:, ANY] == 1
    return int(np.argmax(np.where(positive, probability, -1) if positive.any() else probability))


def _against_masks(
    case: Case, volume: Volume, prediction: Prediction, box: Crop, space: skull.Inside, threshold: float
) -> tuple[tuple[bool, ...], tuple[float, ...]]:
    hits, overlaps = [], []
    for index, uid in enumerate(volume.sop_instance_uids):
        mask = case.masks.get(uid)
        if mask is None or not mask.any():
            continue
        if mask.shape != volume.hu.shape[1:]:
            raise ValueError(f"the mask of {uid} has shape {mask.shape}, its slice {volume.hu.shape[1:]}")
        heat = explain.slice_heat(prediction, LABELS[ANY], index, box, space)
        hits.append(metrics.pointing_game(heat, mask, tolerance_px=POINTING_TOLERANCE_PX))
        overlaps.append(metrics.dice(heat >= threshold, mask))
    return tuple(hits), tuple(overlaps)


def _curves(
    prediction: Prediction, box: Crop, space: skull.Inside, index: int, model: Model, engine: Engine
) -> Curves | None:
    inside = explain.in_box(space.mask[index], box, space)
    if not inside.any():
        return None
    heat = explain.in_box(explain.block_heat(prediction, LABELS[ANY], space, box.hu.shape[1:])[index], box, space)

    def score(images: npt.NDArray[np.int16]) -> npt.NDArray[np.floating]:
        return model.manifest.calibration.slice.probability(engine.run(images).logits)[:, ANY]

    return faithfulness.curves(box.hu[index], heat, inside > 0, score, np.random.default_rng(index))


def _small(image: npt.NDArray[Number]) -> npt.NDArray[Number]:
    step = max(1, round(max(image.shape) / PICTURE_PX))
    return np.ascontiguousarray(image[::step, ::step])
