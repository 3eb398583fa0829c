"""Which series of a study is analysed? One answer for the node, for `ich-node analyse` and for the evaluation. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ich_node.dicom.eligibility import Eligible, NotAnalysed, Partial, SetAside, Verdict

ORDER = (Eligible, Partial, NotAnalysed, SetAside)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series of the study: what its headers say, and how many images it has."""

    series_uid: str
    verdict: Verdict
    images: int


def choose(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates, best first: one that may be analysed, else a part of a head, else a head CT that gets its
    reason, else any.

    Of equals the one with more images: thin slices hold what thick ones do. Then by UID, so that the answer is the same
    whatever the order of arrival. The first of them is the answer of its study.
    """
    return sorted(candidates, key=preference)


def preference(candidate: Candidate) -> tuple[int, int, str]:
    """A key to sort by, the best first."""
    return ORDER.index(type(candidate.verdict)), -candidate.images, candidate.series_uid
