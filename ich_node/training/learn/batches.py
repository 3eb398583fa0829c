"""From pools to batches: balanced draws, turned and shifted head boxes, and scanners that the pool never met.

Everything random comes from one numpy generator, so that a run can be repeated and resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ich_node.domain.findings import LABELS
from ich_node.training.data.pool import MARGIN, Pool
from ich_node.training.learn.network import STRIDE

TYPE_COUNT = len(LABELS) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """hu: float32 [n, 1, size, size]. labels: [n, 6]. cells: share of a CAM cell that is lesion, [n, 6, g, g].

    known: [n, 6], 1 where `cells` may be trusted.
    """

    hu: Tensor
    labels: Tensor
    cells: Tensor
    known: Tensor


class Draw:
    """Draws slices of a pool (`among`: of a part): a share with hemorrhage, rare types more often than they occur."""

    def __init__(self, pool: Pool, among: npt.NDArray[np.intp] | None = None, share: float = 0.5) -> None:
        self.pool = pool
        self.share = share
        index = np.arange(len(pool)) if among is None else among
        self.positive = index[pool.labels[index, 0] > 0]
        self.negative = index[pool.labels[index, 0] == 0]
        types = pool.labels[self.positive, 1:]
        weight = np.sqrt((types / np.maximum(types.sum(axis=0), 1)).sum(axis=1)) + 1e-6
        self.weight = weight / weight.sum()

    def indices(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """`count` slices of the pool, the share of them positive where both kinds are there."""
        ill = count if len(self.negative) == 0 else int(count * self.share) if len(self.positive) else 0
        chosen = [rng.choice(self.negative, count - ill)] if count > ill else []
        if ill:
            chosen.append(rng.choice(self.positive, ill, p=self.weight))
        return np.concatenate(chosen)


def batch(draws: Mapping[str, Draw], counts: Mapping[str, int], size: int, rng: np.random.Generator) -> Batch:
    """One augmented batch with `counts` slices of every pool, at `size` pixels."""
    parts = [draws[name].pool.take(draws[name].indices(count, rng)) for name, count in counts.items() if count]
    hu = torch.from_numpy(np.concatenate([part.hu for part in parts]).astype(np.float32))[:, None]
    labels = torch.from_numpy(np.concatenate([part.labels for part in parts]))
    known = torch.from_numpy(np.concatenate([part.known for part in parts]))
    bits = np.concatenate([part.bits for part in parts])
    turn = _affine(len(hu), rng)
    image = _sampled(hu + 1024, turn, size) - 1024
    return Batch(_exposed(image, rng), labels, _cells(bits, turn, size), known)


def _sampled(image: Tensor, turn: Tensor, size: int) -> Tensor:
    grid = functional.affine_grid(turn, [len(image), 1, size, size], align_corners=False)
    return functional.grid_sample(image, grid, align_corners=False)


def _cells(bits: npt.NDArray[np.uint8], turn: Tensor, size: int) -> Tensor:
    """Lesion share of every CAM cell, doubled and clipped: a half-full cell counts as full."""
    masks = np.stack([bits > 0, *(((bits >> j) & 1) > 0 for j in range(TYPE_COUNT))], axis=1).astype(np.float32)
    fine = size // STRIDE * 4
    grid = functional.affine_grid(turn, [len(bits), 1, fine, fine], align_corners=False)
    found = functional.grid_sample(torch.from_numpy(masks), grid, align_corners=False)
    return (functional.avg_pool2d(found, 4) * 2).clamp(0, 1)


def _affine(count: int, rng: np.random.Generator) -> Tensor:
    """Turns, sizes, mirror images and shifts as matrices [count, 2, 3] from the head box into the pool image."""
    angle = np.deg2rad(rng.uniform(-20, 20, count)) * (rng.uniform(size=count) < 0.8)
    scale = np.exp(rng.normal(0, 0.08, count)) / MARGIN
    aspect = np.exp(rng.normal(0, 0.04, count))
    mirror = np.where(rng.uniform(size=count) < 0.5, -1.0, 1.0)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.empty((count, 2, 3), np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * aspect * mirror, -sin / aspect
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * aspect * mirror, cos / aspect
    matrix[:, :, 2] = rng.normal(0, 0.04, (count, 2))
    return torch.from_numpy(matrix)


def _exposed(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """Other kernels, doses, calibrations, and pictures that went through 8-bit windows."""
    count = len(hu)

    def some(share: float) -> Tensor:
        return torch.from_numpy((rng.uniform(size=(count, 1, 1, 1)) < share).astype(np.float32))

    def amount(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))

    soft = functional.avg_pool2d(functional.pad(hu, (1, 1, 1, 1), mode="replicate"), 3, 1)
    hu = hu + (some(0.35) * amount(0, 0.9) - some(0.2) * amount(0, 0.6)) * (soft - hu)
    tissue = ((hu > -30) & (hu < 150)).float()
    hu = hu + tissue * ((hu - 30) * (amount(-0.14, 0.14) * some(0.7)) + amount(-4, 4))
    noise = torch.from_numpy(rng.standard_normal(hu.shape, dtype=np.float32))
    coarse = functional.avg_pool2d(functional.pad(noise, (1, 1, 1, 1)), 3, 1) * 2.4
    hu = hu + torch.where(some(0.5) > 0, noise, coarse) * amount(0, 5) * some(0.7) * (hu > -200)
    hu = torch.where((some(0.12) > 0) & (hu > 100), torch.full_like(hu, 900.0), hu)
    hu = torch.where((some(0.12) > 0) & (hu < -20), torch.full_like(hu, -700.0), hu)
    step = torch.where(some(0.3) > 0, amount(0.3, 3.0), torch.full_like(soft[:, :, :1, :1], 1e-3))
    return _patched(torch.round(hu / step) * step, rng)


def _patched(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """A plain patch over a fifth of the slices: no single place may decide."""
    size = hu.shape[-1]
    for image in hu:
        if rng.uniform() < 0.2:
            height, width = rng.integers(size // 12, size // 5, 2)
            row, column = rng.integers(0, size - height), rng.integers(0, size - width)
            image[0, row : row + height, column : column + width] = float(rng.uniform(-20, 45))
    return hu
