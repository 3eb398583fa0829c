"""How often the gates on pixels fire, on input with and without what they are made to find: writes docs/gates.md.

python -m ich_node.training.evaluate.gates_report --data SHARED/ct_ich --out docs/gates.md

In: CT-ICH (real heads without contrast) and phantoms. What the set lacks is made from its patients without hemorrhage:
vessels painted as bright as after contrast, values that are no longer HU, the noise of sharp and soft kernels.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import Volume
from ich_node.infer.say.locate import fit_head
from ich_node.infer.say.skull import inside
from ich_node.infer.see import gates
from ich_node.infer.see.blocks import block_mean
from ich_node.infer.see.crop import crop
from ich_node.phantom.head import calcify, head
from ich_node.phantom.lesions import Scene
from ich_node.phantom.scanner import Protocol, density, scan
from ich_node.phantom.tissue import Tissue
from ich_node.training.data import ct_ich
from ich_node.training.evaluate.vessels import with_arteries

Hu = npt.NDArray[np.int16]
Spacing = tuple[float, float, float]

PHASES = {"arterial": (350, 140), "venous": (130, 140), "delayed": (105, 115)}
"""HU of arteries and of veins and sinuses."""
EARLY_HU = (250.0, 450.0)
"""Of arteries in the first seconds after an injection, when veins and sinuses are still as they were."""
PHANTOMS = 3  # chosen: they differ little in what the gates measure
SAMPLE = 12  # chosen: every change is made to each of them, which takes its time
THIN_MM = 1.25  # chosen: the usual thin slices
HALF = 15  # slices from the vertex: 75 mm, which leaves base and lower half of the brain
PIXELS_MM = (0.4, 0.45, 0.488)
"""Of most head protocols: fields of 205, 230 and 250 mm on 512 pixels."""
NOISE_HU = 30.0  # chosen: that of thin slices with a sharp kernel


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: what went in, how many, what was refused and why, what was warned of."""

    name: str
    count: int
    refused: Counter[str]
    warned: Counter[str]
    sinus_hu: tuple[float, float, float]


def volume_of(hu: Hu, spacing_mm: Spacing) -> Volume:
    """HU in radiological orientation as a volume without headers."""
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * np.array(spacing_mm)
    positions = np.array([[0, 0, index * spacing_mm[0]] for index in range(len(hu))], np.float64)
    return Volume(hu, spacing_mm, affine, positions, tuple(f"2.25.{index + 1}" for index in range(len(hu))), ())


def row(name: str, heads: Iterable[tuple[Hu, Spacing]]) -> Row:
    """Hold every head against the limits."""
    refused: Counter[str] = Counter()
    warned: Counter[str] = Counter()
    sinuses = []
    for hu, spacing_mm in heads:
        figures = gates.measure(volume_of(hu, spacing_mm))
        sinuses.append(figures.sinus_hu[1])
        try:
            warned.update(warning.code for warning in gates.judge(figures))
        except UnusableSeries as refusal:
            refused[refusal.reason.code] += 1
    spread = np.percentile(sinuses, [0, 50, 100])
    return Row(name, len(sinuses), refused, warned, (spread[0], spread[1], spread[2]))


# --- what is made ---------------------------------------------------------------------------------------------------


def enhanced(hu: Hu, spacing_mm: Spacing, arteries: float, veins: float, rng: np.random.Generator) -> Hu:
    """Vessels painted into a head without contrast: branches in the CSF, the sagittal and straight sinus."""
    step = max(1, round(2 / spacing_mm[1])), max(1, round(2 / spacing_mm[2]))
    blocks = block_mean(hu, step)
    cell_cm2 = step[0] * step[1] * spacing_mm[1] * spacing_mm[2] / 100
    painted = hu.copy()
    for image, coarse in zip(painted, blocks, strict=True):
        brain = gates.brain_of(coarse, cell_cm2)
        if not brain.any():
            continue
        middle = int(np.median(np.nonzero(brain)[1]))
        rows = np.flatnonzero(brain[:, middle])
        fluid = np.argwhere(ndimage.binary_erosion(brain, iterations=2) & (coarse < 24) & (coarse > -10))
        for row_, column in rng.permutation(fluid)[: rng.integers(6, 16)]:
            hu_there = arteries if rng.uniform() < 0.7 else veins
            _dot(image, row_ * step[0], column * step[1], rng.uniform(0.7, 1.6) / spacing_mm[1], hu_there, rng)
        back, front = float(rows[-1]), float(rows[0])
        _dot(image, back * step[0] - 2.5 / spacing_mm[1], middle * step[1], 3.0 / spacing_mm[1], veins, None)
        _dot(image, (front + 0.72 * (back - front)) * step[0], middle * step[1], 2.0 / spacing_mm[1], veins, rng)
    return painted


def _dot(image: Hu, row_: float, column: float, radius: float, hu: float, rng: np.random.Generator | None) -> None:
    """A disc with a soft edge; a vessel that crosses the slice obliquely (rng) loses up to half of its contrast."""
    share = 1.0 if rng is None else rng.uniform(0.5, 1.0)
    reach = int(radius + 4)
    top, left = max(0, int(row_) - reach), max(0, int(column) - reach)
    patch = image[top : int(row_) + reach, left : int(column) + reach]
    rows, columns = np.ogrid[top : top + patch.shape[0], left : left + patch.shape[1]]
    inside = np.clip((radius - np.hypot(rows - row_, columns - column)) / 1.5 + 0.5, 0, 1) * share
    patch[...] = np.maximum(patch, np.rint(patch + inside * (hu - patch)))


def early(heads: Iterable[Hu], spacing_mm: Spacing, rng: np.random.Generator) -> Iterator[Hu]:
    """Heads with their arteries painted along their course; one that does not fit the standard head is left out."""
    for hu in heads:
        volume = volume_of(hu, spacing_mm)
        frame = fit_head(inside(volume, crop(volume)))
        if frame is not None:
            yield with_arteries(volume, frame, rng.uniform(*EARLY_HU), rng)


def phantoms(phase: str | None, slice_mm: float = 5.0) -> Iterator[tuple[Hu, Spacing]]:
    """Procedural heads whose arteries, sinuses and dura have the HU of a phase."""
    for seed in range(PHANTOMS):
        rng = np.random.default_rng([seed, 77])
        anatomy = head(rng)
        scene = Scene(anatomy, density(anatomy, rng))
        calcify(scene, rng)
        if phase is not None:
            arteries, veins = PHASES.get(phase, (EARLY_HU[0], None))
            for tissue, hu in ((Tissue.ARTERY, arteries), (Tissue.VENOUS_SINUS, veins), (Tissue.DURA, veins and 75)):
                if hu is not None:
                    scene.hu[anatomy.any_of(tissue)] = hu
        protocol = Protocol(
            positions_mm=tuple(14.0 + slice_mm * (index + 0.5) for index in range(round(160 / slice_mm))),
            thickness_mm=slice_mm,
            pixel_mm=0.9,
            rows=256,
            columns=256,
            tilt_deg=0.0,
            roll_deg=0.0,
            shift_mm=(0.0, 0.0),
        )
        yield scan(scene, protocol, rng).hu, (slice_mm, 0.9, 0.9)


def halves(heads: Iterable[tuple[Hu, Spacing]], which: str) -> Iterator[tuple[Hu, Spacing]]:
    """The lower or the upper half of each head."""
    for hu, spacing_mm in heads:
        middle = len(hu) // 2
        yield (hu[:middle] if which == "lower" else hu[middle:]), spacing_mm


def at_pixels(hu: Hu, pixel_mm: float) -> tuple[Hu, Spacing]:
    """A head of CT-ICH as a larger field of view shows it."""
    zoom = ct_ich.SPACING_MM[1] / pixel_mm, ct_ich.SPACING_MM[2] / pixel_mm
    images = [ndimage.zoom(image.astype(np.float32), zoom, order=1) for image in hu]
    return np.rint(np.stack(images)).astype(np.int16), (ct_ich.SPACING_MM[0], pixel_mm, pixel_mm)


def noisy(hu: Hu, grain_px: float, rng: np.random.Generator) -> Hu:
    """Noise of 30 HU, white for a sharp kernel, grainy for a soft one."""
    noise = rng.normal(0, 1, hu.shape).astype(np.float32)
    if grain_px:
        noise = ndimage.gaussian_filter(noise, (0, grain_px, grain_px))
    return np.asarray(np.rint(hu + noise * (NOISE_HU / noise.std())), np.int16)


SPOILT: dict[str, Callable[[Hu], Hu]] = {
    "intercept forgotten (+1024)": lambda hu: (hu.astype(np.int32) + 1024).astype(np.int16),
    "intercept taken twice (−1024)": lambda hu: np.maximum(hu.astype(np.int32) - 1024, -1024).astype(np.int16),
    "8-bit greys of a brain window": lambda hu: np.clip((hu.astype(np.int32) + 20) * 255 // 120, 0, 255).astype(
        np.int16
    ),
    "slope of 2 applied twice": lambda hu: np.clip(hu.astype(np.int32) * 2, -1024, 3071).astype(np.int16),
}


# --- the report -----------------------------------------------------------------------------------------------------


def rows_of(root: Path) -> Iterator[Row]:
    """All lines of the report."""
    everyone = list(ct_ich.studies(root))
    without = [study.hu for study in everyone if not study.labels[:, 0].any()]
    spacing_mm = ct_ich.SPACING_MM
    with_blood = [study.hu for study in everyone if study.labels[:, 0].any()]
    yield row("CT-ICH, patients without hemorrhage", ((hu, spacing_mm) for hu in without))
    yield row("CT-ICH, patients with hemorrhage", ((hu, spacing_mm) for hu in with_blood))
    for pixel_mm in PIXELS_MM:
        yield row(f"all of them, at pixels of {pixel_mm:g} mm", (at_pixels(study.hu, pixel_mm) for study in everyone))
    for phase, (arteries, veins) in PHASES.items():
        rng = np.random.default_rng(5)
        made = ((enhanced(hu, spacing_mm, arteries, veins, rng), spacing_mm) for hu in without[:SAMPLE])
        yield row(f"{SAMPLE} without hemorrhage, {phase} contrast painted ({arteries}/{veins} HU)", made)
    painted = list(early(without[:SAMPLE], spacing_mm, np.random.default_rng(7)))
    what = f"without hemorrhage, arteries alone painted ({EARLY_HU[0]:g} to {EARLY_HU[1]:g} HU)"
    yield row(f"{len(painted)} {what}", ((hu, spacing_mm) for hu in painted))
    for half, part in (("lower", slice(None, -HALF)), ("upper", slice(-HALF, None))):
        yield row(f"{half} part of the {len(painted)} {what}", ((hu[part], spacing_mm) for hu in painted))
        yield row(f"{half} part of the same without contrast", ((hu[part], spacing_mm) for hu in without[:SAMPLE]))
    phases = {
        "without contrast": None,
        f"with arteries alone ({EARLY_HU[0]:g} HU)": "early",
        **{f"with {phase} contrast ({arteries}/{veins} HU)": phase for phase, (arteries, veins) in PHASES.items()},
    }
    for words, phase_of in phases.items():
        yield row(f"phantoms {words}", phantoms(phase_of))
        yield row(f"the same in slices of {THIN_MM:g} mm", phantoms(phase_of, THIN_MM))
        for which in ("lower", "upper"):
            yield row(f"{which} half of phantoms {words}", halves(phantoms(phase_of), which))
    for name, spoil in SPOILT.items():
        yield row(f"{SAMPLE} without hemorrhage, {name}", ((spoil(hu), spacing_mm) for hu in without[:SAMPLE]))
    for name, grain_px in (("sharp", 0.0), ("soft", 1.4)):
        rng = np.random.default_rng(6)
        made = ((noisy(hu, grain_px, rng), spacing_mm) for hu in without[: SAMPLE // 2])
        yield row(f"{SAMPLE // 2} without hemorrhage, 30 HU of {name} noise", made)


def report(rows: Iterable[Row]) -> str:
    """The page in Markdown."""
    lines = [
        "# The gates, measured",
        "",
        "Written by `python -m ich_node.training.evaluate.gates_report`. Limits:",
        "`ich_node/infer/see/gates.py`. CT-ICH: Hssayeni 2019, doi:10.13026/w8q8-ky94, CC BY 4.0; its pixels",
        "are taken for 0.354 mm; at larger ones they are interpolated. Heads with contrast were not at",
        "hand: vessels were painted into real heads without, and phantoms were given bright vessels.",
        "Arteries alone: the great arteries along their",
        "course (`training/evaluate/vessels.py`), sinuses as they were; the lower part of a head often holds",
        "no more than 5 to 25 mm of brain above the base, where they are not told from bone. Phantoms have",
        "few arteries and narrow sinuses, which makes them the harder test. Sinus: median over the slices of",
        f"the brightest 4 mm at the back of the midline; refused from {gates.SINUS_HU[1]:g} HU on, when the",
        f"lower quartile is {gates.SINUS_HU[0]:g} HU or more; not asked where less than {gates.SINUS_BRAIN_MM:g} mm",
        f"of brain lie above the base. With less than {gates.CONFLUENCE_BRAIN_MM:g} mm of brain, 4 even mm of",
        f"{gates.CONFLUENCE_HU:g} HU where the sinuses join are enough. The upper half of a phantom holds no artery,",
        "so that its early phase shows nothing that could be refused. A thrombosed",
        "sinus or a high haematocrit may come near it. The limits were chosen looking at these same patients,",
        "so that no refusal among them is what was aimed at, not what other scanners will show.",
        "",
        "| input | n | refused | why | warned of | sinus HU: lowest – median – highest |",
        "|---|---|---|---|---|---|",
    ]
    for found in rows:
        why = "; ".join(f"{count} × {reason}" for reason, count in found.refused.most_common())
        warned = "; ".join(f"{count} × {text}" for text, count in found.warned.most_common())
        sinus = " – ".join(f"{value:.0f}" for value in found.sinus_hu)
        lines.append(f"| {found.name} | {found.count} | {found.refused.total()} | {why} | {warned} | {sinus} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="How often the gates on pixels fire.")
    parser.add_argument("--data", type=Path, required=True, help="folder of CT-ICH, with labels.csv")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    arguments = parser.parse_args()
    arguments.out.write_text(report(rows_of(arguments.data)), encoding="utf-8")


if __name__ == "__main__":
    main()
