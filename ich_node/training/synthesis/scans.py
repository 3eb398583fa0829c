"""The synthetic pool: chunks of phantom scans, each from its own seed, whatever the number of workers.

A fifth of the heads come from formulas, the others from label maps; two label maps are left out, for the evaluation.
Chunks that are already on disk are kept: an interrupted run goes on where it was.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ich_node.phantom.head import head
from ich_node.phantom.tissue import Head
from ich_node.training.data import label_maps
from ich_node.training.data.pool import Pool, joined, load, save
from ich_node.training.synthesis import painting

SCANS_PER_CHUNK = 12
FORMULA_SHARE = 0.2
KEPT_BACK = 2
PAINTED_PER_CHUNK = 500


def heads(maps: Path, cache: Path) -> list[Path]:
    """Read every label map in `maps` once; the files of the finished heads, without those that are kept back."""
    cache.mkdir(parents=True, exist_ok=True)
    files = []
    for path in sorted(maps.glob("*.nii.gz"))[:-KEPT_BACK]:
        target = cache / f"{path.name.removesuffix('.nii.gz')}.pickle"
        if not target.exists():
            part = target.with_suffix(".part")
            part.write_bytes(pickle.dumps(label_maps.read(path)))
            part.rename(target)
        files.append(target)
    return files


def chunk(number: int, seed: int, files: list[Path]) -> Pool:
    """Chunk `number` of the synthetic pool: always the same slices for the same seed and heads."""
    rng = np.random.default_rng([seed, number])
    return joined([label_maps.draw(_head(rng, files), rng) for _ in range(SCANS_PER_CHUNK)])


def _head(rng: np.random.Generator, files: list[Path]) -> Head:
    if rng.uniform() < FORMULA_SHARE:
        return head(rng)
    found = pickle.loads(files[int(rng.integers(len(files)))].read_bytes())  # noqa: S301 — our own cache
    assert isinstance(found, Head)  # noqa: S101
    return found


def write_chunk(number: int, seed: int, files: list[Path], out: Path) -> None:
    """Make a chunk and save it, unless it is there."""
    path = out / f"chunk_{number:04d}.npz"
    if not path.exists():
        save(chunk(number, seed, files), path)


def synthesise(chunks: range, seed: int, files: list[Path], out: Path, workers: int) -> None:
    """Write the given chunks with `workers` processes."""
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(write_chunk, seed=seed, files=files, out=out), chunks))


def paint_all(real: Path, chunks: range, seed: int, out: Path, workers: int) -> None:
    """Write the given chunks of lesions painted on the negative slices of the pool file `real`."""
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(_paint_chunk, real=real, seed=seed, out=out), chunks))


def _paint_chunk(number: int, real: Path, seed: int, out: Path) -> None:
    path = out / f"painted_{number:02d}.npz"
    if not path.exists():
        save(painting.painted(load(real), PAINTED_PER_CHUNK, np.random.default_rng([seed, number])), path)


def read_all(folder: Path, pattern: str) -> Pool:
    """Every pool file of a folder, in the order of the names."""
    return joined([load(path) for path in sorted(folder.glob(pattern))])
