"""The story of a study, on one page: from the files of one series to everything that can be said about it.

read slices → volume in HU → slabs of about 5 mm → gates → model → CAM and location → triage → back on the slices. No
network, no database, no wall clock; the node, `ich-node analyse` and the evaluation call the same function; report/
makes the results from what it returns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset

from ich_node.dicom import eligibility, reading
from ich_node.dicom.geometry import PlanesOnce
from ich_node.dicom.owner import owners
from ich_node.domain.dicom import input_digest
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import Analysis, Coverage, ModelCard
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.bundle import Model
from ich_node.infer.engine import Engine, Output
from ich_node.infer.say import key_slices, locate, skull, triage
from ich_node.infer.say.evidence import gather
from ich_node.infer.see import gates, pixels
from ich_node.infer.see.crop import crop
from ich_node.infer.see.slabs import slabs_of
from ich_node.infer.see.volume import volume_of
from ich_node.runtime.config import Config


def analyse(paths: Sequence[Path], model: Model, engine: Engine, config: Config) -> Analysis:
    """Analyse the CT images of one series, whatever their order.

    A series that cannot or must not be analysed is a result too: status "not_analysed" with the reason.
    Raises UnusableSeries only when there is nobody to answer to: not one file can be read, or they name several
    patients or studies. Raises EngineFailure when inference failed.
    """
    watch = Stopwatch()
    with watch("headers"):
        images, unreadable = pixels.open_images(paths)
        headers = headers_of(images)
        study_uid, series_uid, digest = identity(headers)
        planes_of = PlanesOnce()
        verdict = eligibility.verdict(headers, planes_of)
    try:
        if not isinstance(verdict, eligibility.Eligible | eligibility.Partial):
            raise UnusableSeries(verdict.reason)
        with watch("volume"):
            volume = volume_of(images, unreadable, planes_of)
        with watch("gates"):
            slabs = slabs_of(volume)
            thick = slabs.thick
            figures = gates.figures(volume, slabs)
            warnings = (*volume.warnings, *gates.judge(figures))
        with watch("model"):
            box = crop(thick)
            said = engine.run(box.hu)
            prediction = model.predict(said.logits, said.cam, thick.heights_mm, said.sequence)
        with watch("explanation"):
            space = skull.inside(thick, box)
            coverage = skull.coverage(thick, space)
            called = triage.called(prediction, model.card)
            frame = locate.fit_head(space) if called else None
            evidence = gather(prediction, called, box.hu.shape[1:], model.card, space, thick.heights_mm, frame)
            located = locate.locate_all(thick, box, evidence, space, frame)
            priority, on_slabs = triage.decide(prediction, located, model.card)
            findings = slabs.findings_back(on_slabs)
            which = config.report.pictures
            keys = key_slices.key_slices(thick, prediction, evidence, box, which, space, frame) if called else ()
            survey = key_slices.survey(space, thick.heights_mm)
    except UnusableSeries as refusal:
        return not_analysed(headers, model.card, engine.name, refusal.reason, watch.seconds)
    return Analysis(
        status="analysed",
        reason=None,
        study_uid=study_uid,
        series_uid=series_uid,
        input_digest=digest,
        card=model.card,
        provider=said.provider,
        headers=volume.headers,
        priority=priority,
        findings=findings,
        volume=volume,
        prediction=slabs.prediction_back(prediction),
        key_slices=slabs.key_slices_back(keys, findings),
        survey=tuple(int(slabs.middles[slab]) for slab in survey),
        warnings=(*_ends(coverage), *_beyond_the_maps(said), *warnings),
        coverage=coverage,
        brain_hu=figures.brain_hu,
        noise_hu=figures.noise_hu,
        timings_s=watch.seconds,
    )


def _beyond_the_maps(said: Output) -> tuple[Reason, ...]:
    """What a reader must know where the probability is not that of the maps alone."""
    return () if said.sequence is None else (Reason(Why.SEQUENCE_HEAD),)


def _ends(coverage: Coverage) -> tuple[Reason, ...]:
    """What a reader must know of a scan that ends inside the head."""
    missing = {Why.VERTEX_NOT_COVERED: coverage.vertex, Why.BASE_NOT_COVERED: coverage.base}
    return tuple(Reason(code, coverage_mm=coverage.mm) for code, covered in missing.items() if not covered)


def read_headers(paths: Sequence[Path]) -> tuple[Dataset, ...]:
    """The headers of the files that can be read; UnusableSeries when there is none."""
    return headers_of(pixels.open_images(paths)[0])


def headers_of(images: Sequence[pixels.Image]) -> tuple[Dataset, ...]:
    """The headers of open images; UnusableSeries when there is none."""
    if not images:
        raise UnusableSeries(Reason(Why.NOTHING_READABLE))
    return tuple(image.header for image in images)


def not_analysed(
    headers: tuple[Dataset, ...],
    card: ModelCard,
    provider: str,
    reason: Reason,
    timings_s: Mapping[str, float] | None = None,
) -> Analysis:
    """The result of a series that was not analysed, because `reason`; raises UnusableSeries as `identity` does."""
    with pixels.quiet():
        warnings = reading.cleaned(headers)
    study_uid, series_uid, digest = identity(headers)
    return Analysis(
        status="not_analysed",
        reason=reason,
        study_uid=study_uid,
        series_uid=series_uid,
        input_digest=digest,
        card=card,
        provider=provider,
        headers=headers,
        warnings=warnings,
        timings_s=timings_s or {},
    )


def identity(headers: Sequence[Dataset]) -> tuple[str, str, str]:
    """Study UID, series UID, and the digest of exactly these images (as domain.Series makes it).

    Raises UnusableSeries when the images name several owners: whose record would results go to?
    """
    if len(owners(headers)) > 1:
        raise UnusableSeries(Reason(Why.SEVERAL_OWNERS))
    digest = input_digest(str(header.SOPInstanceUID) for header in headers)
    return str(headers[0].StudyInstanceUID), str(headers[0].SeriesInstanceUID), digest


class Stopwatch:
    """Seconds per stage: `with watch("stage"): …`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = time.perf_counter() - started
