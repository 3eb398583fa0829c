"""`ich-node analyse`: the node's own pipeline on a folder, without a node.

FOLDER may hold several series and studies, nested folders and files that are not DICOM. Of each study the eligible
series is analysed, as the node does it; one study goes straight into DIR, several into a folder each. Files that
cannot be read are named; where the folder holds one series, the results say so too of those that are DICOM.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from ich_node.commands import output
from ich_node.dicom import eligibility, study
from ich_node.dicom.study import Candidate
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import Analysis
from ich_node.domain.reasons import Reason, Why
from ich_node.infer import bundle, pipeline
from ich_node.infer.engine import open_engine
from ich_node.infer.see import pixels
from ich_node.report import build, files
from ich_node.report.pictures import previews
from ich_node.report.said.reasons import english
from ich_node.runtime import service
from ich_node.runtime.config import Config

NAMED = 3  # chosen: enough to see of what kind they are


def run(folder: Path, out: Path, config: Config) -> int:
    """Analyse `folder` into `out`; returns 0 analysed, 3 not analysed, 1 nothing usable."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    studies, unreadable = find_studies(folder)
    for reason, paths in unreadable.items():
        console.print(f"{len(paths)} of the files left out: {english(reason)} ({_some(paths, folder)})")
    if not studies:
        console.print(f"{folder}: no readable DICOM image in it")
        return service.EXIT_FAILURE
    model = bundle.load(config.bundle_dir)
    engine = open_engine(config.infer, model)
    codes = []
    for study_uid, series in studies.items():
        target = out if len(studies) == 1 else out / study_uid
        chosen = choose(series, console)
        if len(studies) == len(series) == 1:  # of which else could they be?
            chosen += [path for paths in unreadable.values() for path in paths if _is_dicom(path)]
        started = time.monotonic()
        try:
            analysis = pipeline.analyse(chosen, model, engine, config)
        except UnusableSeries as refusal:  # whose it is cannot be said: no results
            console.print(f"not analysed, because {english(refusal.reason)}")
            codes.append(service.EXIT_NOT_ANALYSED)
            continue
        write(analysis, target, config)
        _tell(analysis, console, target, time.monotonic() - started)
        codes.append(service.EXIT_OK if analysis.status == "analysed" else service.EXIT_NOT_ANALYSED)
    return min(codes)


def find_studies(folder: Path) -> tuple[dict[str, dict[str, list[Path]]], dict[Reason, list[Path]]]:
    """Study UID → series UID → files, of every readable DICOM file below `folder`; why → the files that are not."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    unreadable: dict[Reason, list[Path]] = defaultdict(list)
    with pixels.quiet():
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            try:
                header = pixels.open_image(path).header
            except UnusableSeries as error:
                unreadable[error.reason].append(path)
            else:
                found[str(header.StudyInstanceUID)][str(header.SeriesInstanceUID)].append(path)
    return found, unreadable


def _is_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM files (PS3.10 7.1)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _some(paths: Sequence[Path], folder: Path) -> str:
    names = [str(path.relative_to(folder)) for path in paths[:NAMED]]
    return ", ".join([*names, "…"] if len(paths) > NAMED else names)


def choose(series: Mapping[str, list[Path]], console: Console) -> list[Path]:
    """The series of a study to analyse: an eligible one, else a head CT that gets its reason, else any."""
    best, *others = study.choose(
        Candidate(uid, eligibility.verdict(pipeline.read_headers(paths)), len(paths)) for uid, paths in series.items()
    )
    for other in others:
        reason = getattr(other.verdict, "reason", Reason(Why.OTHER_SERIES_ANALYSED))
        console.print(f"series {other.series_uid}: left out, {english(reason)}")
    return series[best.series_uid]


def write(analysis: Analysis, out: Path, config: Config) -> None:
    """Results as DICOM, PNG, text and result.json into `out`; raises IchNodeError as `output.write`."""
    made_at = datetime.now(UTC).replace(microsecond=0)
    results = build.results(
        analysis, options=config.report, device_name=config.ae_title, made_at=made_at, predecessor=None
    )
    output.write(out, {**files.encode(analysis, results), **previews.encode(results.objects)})


def _tell(analysis: Analysis, console: Console, target: Path, seconds: float) -> None:
    if analysis.reason is not None:
        console.print(f"not analysed, because {english(analysis.reason)}")
    else:
        console.print(f"{analysis.priority}: {_findings(analysis)}")
    console.print(f"results in {target} ({seconds:.1f} s, {analysis.provider})")


def _findings(analysis: Analysis) -> str:
    present = [f for f in analysis.findings if f.present]
    return _list(f"{f.label} {f.probability:.0%}" for f in present) or "no hemorrhage found"


def _list(parts: Iterable[str]) -> str:
    return ", ".join(parts)
