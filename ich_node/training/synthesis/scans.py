"""Synthetic slices: scans of made heads with and without hemorrhage, in chunks, each from its own seed.

Three in ten heads come from formulas, the others from label maps; two label maps are left out, for the evaluation.
Lesions are subtle, and every scan without hemorrhage has look-alikes. Chunks that are on disk are kept: an interrupted
run goes on where it was. `Background` makes them beside the training, which takes in what is ready.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ich_node.infer.see.crop import crop_stack
from ich_node.phantom import lesions, lookalikes
from ich_node.phantom.habit import SUBTLE
from ich_node.phantom.head import calcify, head
from ich_node.phantom.lesions import Scene
from ich_node.phantom.scanner import Protocol, density, scan
from ich_node.phantom.tissue import Head
from ich_node.training.data import label_maps
from ich_node.training.data.pool import Pool, joined, load, pool_of, save

SCANS_PER_CHUNK = 4  # chosen: a file that takes a core some seconds and is read at once
FORMULA_SHARE = 0.3  # chosen: the other heads are from label maps, true in shape but few
KEPT_BACK = 2  # chosen: heads for a look at what training has never seen
PLANES = 26  # chosen: 130 mm of head at 5 mm, whatever the thickness
HEADS_KEPT = 6
"""Heads that a worker keeps in memory, 60 MB each."""

PATIENCE_S = 0.5  # chosen: shorter than a chunk takes to be made

HEALTHY = 0.3  # chosen: of the scans; most slices of the others are healthy too
TYPE_WEIGHTS = (0.24, 0.22, 0.16, 0.18, 0.20)
"""Of lesions.TYPES: parenchymal and ventricular blood more often than in patients, because they are missed."""
COUNT_WEIGHTS = (0.66, 0.28, 0.06)
"""One, two or three types in a scan."""
FAVOURED = {
    "base bumps": 3.0,
    "thick skull": 2.0,
    "dense sinus": 2.0,
    "scalp haematoma": 2.0,
    "choroid": 2.0,
    "inner rim": 2.0,
    "calcified falx": 1.5,
    "swelling": 1.5,
    "dense vessels": 1.5,
}
"""Look-alikes that were taken for blood more often than others."""
THICKNESS_MM = (0.6, 1.25, 2.5, 3.0, 4.0, 5.0)  # what scanners make of heads, as weighted below
THICKNESS_WEIGHTS = (0.06, 0.08, 0.14, 0.16, 0.16, 0.40)
"""5 mm most often: hospitals read them, and the node looks at thin series as slabs of about 5 mm."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What one scan is to show: labels in the order in which they are put in, and look-alikes."""

    labels: tuple[str, ...]
    lookalikes: tuple[str, ...]


def contents(rng: np.random.Generator) -> Contents:
    """Mostly one type, sometimes two or three; what lies outside the brain is put in first, because it moves it."""
    labels: tuple[str, ...] = ()
    if rng.uniform() > HEALTHY:
        count = int(rng.choice(len(COUNT_WEIGHTS), p=COUNT_WEIGHTS)) + 1
        drawn = rng.choice(len(lesions.TYPES), count, replace=False, p=TYPE_WEIGHTS)
        outside_first = sorted(drawn, key=lambda i: lesions.TYPES[i] not in ("epidural", "subdural"))
        labels = tuple(lesions.TYPES[i] for i in outside_first)
    weight = np.array([FAVOURED.get(kind, 1.0) for kind in lookalikes.KINDS])
    count = int(rng.integers(0, 4) if labels else rng.integers(1, 6))
    others = rng.choice(lookalikes.KINDS, count, replace=False, p=weight / weight.sum())
    return Contents(labels, tuple(str(kind) for kind in others))


def draw(anatomy: Head, rng: np.random.Generator) -> Pool:
    """Make one scan of a head and keep its slices that teach something: all with a lesion, some of the others."""
    pool, bleeds = whole(anatomy, rng)
    ill = pool.labels[:, 0] > 0
    height = np.arange(len(ill)) / len(ill)
    end = (height < 0.4) | (height > 0.85)  # base and vertex, where bone looks like blood
    share = np.where(end, 0.4, 0.25) if bleeds else np.where(end, 0.9, 0.55)
    return pool.take(np.flatnonzero((ill | (rng.uniform(size=len(ill)) < share)) & ~pool.doubtful))


def whole(anatomy: Head, rng: np.random.Generator) -> tuple[Pool, bool]:
    """One scan of a head, foot to head, and whether it was to bleed."""
    wanted = contents(rng)
    scene = Scene(anatomy, density(anatomy, rng))
    calcify(scene, rng)
    for kind in wanted.lookalikes:
        lookalikes.add(scene, kind, rng)
    for label in wanted.labels:
        lesions.add(scene, label, rng, size=float(np.exp(rng.normal(-0.25, 0.55))), habit=SUBTLE)
    protocol = random_protocol(anatomy, rng)
    taken = scan(scene, protocol, rng)
    box = crop_stack(taken.hu, (protocol.spacing_mm, protocol.pixel_mm, protocol.pixel_mm))
    masks = np.stack([[box.to_box(one, i) for one in masks] for i, masks in enumerate(taken.mask)]).astype(np.bool_)
    return pool_of(box, masks), bool(wanted.labels)


def random_protocol(anatomy: Head, rng: np.random.Generator) -> Protocol:
    """Planes through the head with a scanner, a position and a quality drawn at random."""
    zoom = float(rng.uniform(0.86, 1.1))
    reach = anatomy.tissue.shape[0] * anatomy.spacing_mm[0]
    inside = np.flatnonzero(anatomy.intracranial.sum(axis=(1, 2)) > 300) * anatomy.spacing_mm[0]
    middle, start, stop = reach / 2, inside[0] - 12, inside[-1] + 6
    low, high = middle + (start - middle) * zoom, middle + (stop - middle) * zoom
    step = (high - low) / PLANES
    thick = float(rng.choice(THICKNESS_MM, p=THICKNESS_WEIGHTS))
    noise = np.exp(rng.uniform(np.log(1.2), np.log(6.5))) / (max(thick, 0.6) / 3) ** 0.3
    pixel = float(rng.uniform(0.7, 0.95))
    return Protocol(
        positions_mm=tuple(low + (i + rng.uniform(0.35, 0.65)) * step for i in range(PLANES)),
        thickness_mm=thick,
        pixel_mm=pixel,
        rows=int(244 / pixel),
        columns=int(244 / pixel),
        tilt_deg=float(rng.uniform(-20, 12)),
        roll_deg=float(rng.normal(0, 7)),
        lean_deg=float(rng.normal(0, 4)),
        zoom=zoom,
        shift_mm=(float(rng.normal(0, 5)), float(rng.normal(0, 5))),
        warp_mm=float(rng.uniform(0.3, 2.2)),
        noise_hu=float(noise),
        blur_px=float(rng.uniform(0.2, 0.8)),
        sharp=float(rng.uniform(0.2, 0.7)) if rng.uniform() < 0.2 else 0.0,
        headrest=bool(rng.uniform() < 0.6),
        streaks=bool(rng.uniform() < 0.4),
        motion=bool(rng.uniform() < 0.06),
    )


# --- chunks ----------------------------------------------------------------------------------------------------------


def heads(maps: Path, cache: Path) -> list[Path]:
    """Read every label map in `maps` once; the files of the heads in `cache`, without those that are kept back."""
    cache.mkdir(parents=True, exist_ok=True)
    for path in sorted(maps.glob("*.nii.gz")):
        target = cache / f"{path.name.removesuffix('.nii.gz')}.npz"
        if not target.exists():
            label_maps.save(label_maps.read(path), target)
    return sorted(cache.glob("*.npz"))[:-KEPT_BACK]


def kept_back(cache: Path) -> list[Head]:
    """The heads of `cache` that training never sees."""
    return [label_maps.load(path) for path in sorted(cache.glob("*.npz"))[-KEPT_BACK:]]


def chunk(number: int, seed: int, files: list[Path], known: dict[Path, Head] | None = None) -> Pool:
    """Chunk `number` of the synthetic pool: always the same slices for the same seed and heads."""
    rng = np.random.default_rng([seed, number])
    known = {} if known is None else known
    return joined([draw(drawn_head(rng, files, known), rng) for _ in range(SCANS_PER_CHUNK)])


def drawn_head(rng: np.random.Generator, files: list[Path], known: dict[Path, Head]) -> Head:
    """A head from formulas or one of `files`; a few of these are kept in `known`."""
    if not files or rng.uniform() < FORMULA_SHARE:
        return head(rng)
    path = files[int(rng.integers(len(files)))]
    if path not in known:
        if len(known) >= HEADS_KEPT:
            known.pop(next(iter(known)))
        known[path] = label_maps.load(path)
    return known[path]


def path_of(number: int, out: Path) -> Path:
    """The file of chunk `number`."""
    return out / f"chunk_{number:05d}.npz"


class Background:
    """`workers` processes that make chunks 0 … `count` − 1 in `out`, beside whoever started them.

    A context manager: on exit the processes are ended; a chunk that is not whole leaves no file.
    """

    def __init__(self, count: int, seed: int, files: list[Path], out: Path, workers: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        todo = [number for number in range(count) if not path_of(number, out).exists()]
        parts = [(todo[worker::workers], seed, files, out) for worker in range(workers)]
        self.processes = [context.Process(target=_work, args=part, daemon=True) for part in parts if part[0]]

    def __enter__(self) -> Background:
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
            process.join()

    def wait(self) -> None:
        """A moment, in which something may get finished."""
        time.sleep(PATIENCE_S)

    @property
    def busy(self) -> bool:
        """Whether any chunk is still to come."""
        return any(process.is_alive() for process in self.processes)


def _work(numbers: list[int], seed: int, files: list[Path], out: Path) -> None:
    os.nice(19)  # training comes first
    known: dict[Path, Head] = {}
    for number in numbers:
        save(chunk(number, seed, files, known), path_of(number, out))


class Harvest:
    """Reads the chunks of a folder as they appear, each once."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.seen: set[Path] = set()

    def new(self, limit: int | None = None) -> list[Pool]:
        """At most `limit` chunks that were not read yet."""
        found = [path for path in sorted(self.out.glob("chunk_*.npz")) if path not in self.seen][:limit]
        self.seen.update(found)
        return [load(path) for path in found]
