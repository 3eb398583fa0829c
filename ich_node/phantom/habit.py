"""How the lesions of a phantom are drawn: plain ones for the demo and the tests, subtle ones for training."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Habit:
    """Sizes in mm, densities in HU, shares 0 … 1.

    low_or_high: of epidurals and of subdurals, at the skull base or the vertex. lens, flat, thinnest: radius of an
    epidural, its height by the radius, and its least height. crescent, layer: radius and height of a subdural.
    along_dura: subdurals on falx and tentorium. clot, contusion: radii in the brain. several: contusions instead of one
    clot. deep, shallow, low: clots in the basal ganglia, near the surface, and of these at the base. level: percentile
    of the ventricles' depth up to which there is no blood. cistern: subarachnoid blood deep in the head. near_cistern,
    near_sulcus: how far it reaches, least_fluid: its least density. faint: share of epidural, subdural and parenchymal
    blood hardly denser than brain. swirl: share of epidurals that have not clotted yet.
    """

    low_or_high: Range = (0.3, 0.15)
    lens: Range = (14, 42)
    flat: Range = (0.3, 0.85)
    thinnest: float = 0.0
    crescent: Range = (38, 95)
    layer: Range = (4, 18)
    along_dura: float = 0.15
    clot: Range = (4, 26)
    contusion: Range = (3.5, 9)
    several: float = 0.3
    deep: float = 0.35
    shallow: float = 0.35
    low: float = 0.0
    level: Range = (35, 80)
    cistern: float = 0.5
    near_cistern: Range = (20, 45)
    near_sulcus: Range = (16, 42)
    least_fluid: float = 48.0
    faint: tuple[float, float, float] = (0.0, 0.2, 0.0)
    swirl: float = 0.0


PLAIN = Habit()
"""Hemorrhage that a person sees at a glance."""

SUBTLE = Habit(
    low_or_high=(0.5, 0.3),
    lens=(9, 40),
    flat=(0.15, 0.85),
    thinnest=2.5,
    crescent=(24, 95),
    layer=(2.5, 18),
    along_dura=0.22,
    clot=(2.6, 24),
    contusion=(2.4, 8),
    several=0.35,
    deep=0.3,
    shallow=0.45,
    low=0.5,
    level=(35, 92),
    cistern=0.4,
    near_cistern=(12, 45),
    near_sulcus=(8, 42),
    least_fluid=44.0,
    faint=(0.25, 0.3, 0.3),
    swirl=0.15,
)
"""Smaller, thinner, fainter, nearer to base and vertex: what models miss, and what training needs most."""
