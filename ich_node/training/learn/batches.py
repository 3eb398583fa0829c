"""From pools to batches on the device: balanced draws, turned and shifted head boxes, scanners that the pool never met.

A `Source` hands out slices; `batch` joins those of several sources and augments them together. Everything random comes
from one `Dice`, whose state a checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ich_node.domain.findings import LABELS
from ich_node.training.data.pool import MARGIN, Pool
from ich_node.training.learn.network import STRIDE
from ich_node.training.synthesis.dice import Dice
from ich_node.training.synthesis.painting import Painter

TYPE_COUNT = len(LABELS) - 1  # all labels but "any"
THICKER = 0.3
"""Share of the slices without hemorrhage that are mixed with their neighbour, as in a thicker slice."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Slices before augmentation. hu: float32 [n, P, P], or [n, c, P, P] with others beside them.

    masks: float32 [n, 6, P/2, P/2], "any" first. labels, trust, known: [n, 6]; trust is 0 where a label is
    in doubt, known 1 where the mask may be trusted.
    """

    hu: Tensor
    masks: Tensor
    labels: Tensor
    trust: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """hu: float32 [n, c, size, size]. cells: share of a CAM cell that is lesion, [n, 6, g, g]. Others: see Drawn."""

    hu: Tensor
    labels: Tensor
    trust: Tensor
    cells: Tensor
    known: Tensor


class Source(Protocol):
    """Where slices come from."""

    def take(self, count: int, dice: Dice) -> Drawn:
        """`count` slices on the device of the dice."""
        ...


class Shelf:
    """Pool slices as tensors at `home` (the device, or the memory-mapped pool where they are too many); it may grow."""

    def __init__(self, pool: Pool, home: torch.device, capacity: int = 0) -> None:
        self.home = home
        self.count = 0
        room = max(len(pool), capacity)
        if room == len(pool) and home.type == "cpu":
            self._parts = [torch.from_numpy(part) for part in (pool.hu, pool.bits, pool.labels, pool.known)]
            self.count = len(pool)
            return
        shapes = [(room, *part.shape[1:]) for part in (pool.hu, pool.bits, pool.labels, pool.known)]
        kinds = (torch.int16, torch.uint8, torch.float32, torch.float32)
        self._parts = [torch.empty(s, dtype=k, device=home) for s, k in zip(shapes, kinds, strict=True)]
        self.append(pool)

    def append(self, pool: Pool) -> bool:
        """Put `pool` on the shelf; False when there is no room for all of it."""
        stop = self.count + len(pool)
        if stop > len(self._parts[0]):
            return False
        for part, new in zip(self._parts, (pool.hu, pool.bits, pool.labels, pool.known), strict=True):
            part[self.count : stop] = torch.from_numpy(np.ascontiguousarray(new)).to(self.home)
        self.count = stop
        return True

    def hu(self, index: Tensor) -> Tensor:
        """HU float32 of the slices at `index`, on the device of `index`."""
        return self._parts[0][index.to(self.home)].to(index.device).float()

    def drawn(self, index: Tensor) -> Drawn:
        """The slices at `index`, on its device."""
        bits, labels, known = (part[index.to(self.home)].to(index.device) for part in self._parts[1:])
        return Drawn(self.hu(index), _spread(bits), labels, torch.ones_like(labels), known)

    def labels(self) -> npt.NDArray[np.float32]:
        """Labels [n, 6] of everything on the shelf."""
        return np.asarray(self._parts[2][: self.count].cpu().numpy())


class Draw:
    """Draws slices of a shelf (`among`: of a part): a share with hemorrhage, rare types more often than they occur."""

    def __init__(
        self, shelf: Shelf, device: torch.device, among: npt.NDArray[np.intp] | None = None, share: float = 0.5
    ) -> None:
        self.shelf = shelf
        self.share = share
        labels = shelf.labels()
        index = np.arange(len(labels)) if among is None else among
        positive, negative = index[labels[index, 0] > 0], index[labels[index, 0] == 0]
        types = labels[positive, 1:]
        weight = np.sqrt((types / np.maximum(types.sum(axis=0), 1)).sum(axis=1)) + 1e-6
        self.positive, self.negative = torch.from_numpy(positive).to(device), torch.from_numpy(negative).to(device)
        self.reach = torch.from_numpy(np.cumsum(weight) / weight.sum()).to(device, torch.float32)

    def indices(self, count: int, dice: Dice) -> Tensor:
        """`count` slices of the shelf, the share of them positive where both kinds are there."""
        ill = count if len(self.negative) == 0 else int(count * self.share) if len(self.positive) else 0
        chosen = []
        if count > ill:
            chosen.append(self.negative[dice.whole(count - ill, len(self.negative))])
        if ill:
            at = torch.searchsorted(self.reach, dice.uniform(ill))
            chosen.append(self.positive[at.clamp(max=len(self.positive) - 1)])
        return torch.cat(chosen)

    def take(self, count: int, dice: Dice) -> Drawn:
        """See Source."""
        return self.at(self.indices(count, dice), dice)

    def at(self, index: Tensor, dice: Dice) -> Drawn:  # noqa: ARG002 — those that mix slices throw them
        """The slices at `index` as this source hands them out."""
        return self.shelf.drawn(index)


class Real(Draw):
    """Real slices; where the next one of the patient says the same, a part of it is mixed in: a thicker slice."""

    def __init__(self, shelf: Shelf, pool: Pool, device: torch.device, among: npt.NDArray[np.intp]) -> None:
        super().__init__(shelf, device, among)
        number = np.arange(len(pool))
        above = np.minimum(number + 1, len(pool) - 1)
        alike = (pool.patient[above] == pool.patient) & (pool.labels[above, 0] == 0) & (pool.labels[:, 0] == 0)
        self.above = torch.from_numpy(np.where(alike, above, number)).to(device)

    def at(self, index: Tensor, dice: Dice) -> Drawn:
        """See Draw; some are mixed with the next one."""
        count = len(index)
        found = self.shelf.drawn(index)
        share = dice.uniform(count, 1, 1, high=0.4) * dice.some(count, 1, 1, share=THICKER)
        hu = torch.lerp(found.hu, self.shelf.hu(self.above[index]), share)
        return Drawn(hu, found.masks, found.labels, found.trust, found.known)


class Paintings:
    """New paintings, made in blocks because small batches waste a GPU; each is used once."""

    def __init__(self, painter: Painter, block: int) -> None:
        self.painter, self.block = painter, block
        self.waiting: Drawn | None = None
        self.used = 0

    def take(self, count: int, dice: Dice) -> Drawn:
        """See Source."""
        if self.waiting is None or self.used + count > len(self.waiting.hu):
            made = self.painter.paint(max(self.block, count), dice)
            masks = torch.cat([made.masks.any(1, keepdim=True), made.masks], 1).float()
            self.waiting = Drawn(made.hu, masks, made.labels, made.trust, torch.ones_like(made.labels))
            self.used = 0
        part = slice(self.used, self.used + count)
        self.used += count
        return Drawn(*(getattr(self.waiting, name)[part] for name in Drawn.__slots__))


def batch(sources: Mapping[str, Source], counts: Mapping[str, int], size: int, dice: Dice) -> Batch:
    """One augmented batch with `counts` slices of every source, at `size` pixels."""
    parts = [sources[name].take(count, dice) for name, count in counts.items() if count]
    drawn = Drawn(*(torch.cat([getattr(part, name) for part in parts]) for name in Drawn.__slots__))
    image, cells = _sampled(drawn.hu, drawn.masks, size, dice)
    return Batch(exposed(image, dice), drawn.labels, drawn.trust, cells, drawn.known)


def _spread(bits: Tensor) -> Tensor:
    """Bits uint8 [n, h, w] → masks float32 [n, 6, h, w], "any" first."""
    types = [((bits >> j) & 1) for j in range(TYPE_COUNT)]
    return torch.stack([(bits > 0).to(torch.uint8), *types], 1).float()


def _sampled(hu: Tensor, masks: Tensor, size: int, dice: Dice) -> tuple[Tensor, Tensor]:
    """Turned, shifted, gently bent head boxes [n, channels, size, size] and the lesion share of every CAM cell.

    The share is doubled and clipped: a half-full cell counts as full.
    """
    n = len(hu)
    turn = _affine(n, dice)
    bend = dice.normal(n, 2, 6, 6) * 0.018 * dice.some(n, 1, 1, 1, share=0.5) * dice.uniform(n, 1, 1, 1)

    def grid(pixels: int) -> Tensor:
        fine = functional.interpolate(bend, (pixels, pixels), mode="bicubic", align_corners=True)
        straight = functional.affine_grid(turn, [n, 1, pixels, pixels], align_corners=False)
        return straight + fine.permute(0, 2, 3, 1)

    image = functional.grid_sample(hu.reshape(n, -1, *hu.shape[-2:]) + 1024, grid(size), align_corners=False) - 1024
    inside = functional.grid_sample(masks, grid(size // STRIDE * 4), align_corners=False)
    return image, (functional.avg_pool2d(inside, 4) * 2).clamp(0, 1)


def _affine(n: int, dice: Dice) -> Tensor:
    """Turns, sizes, mirror images and shifts as matrices [n, 2, 3] from the head box into the pool image."""
    angle = torch.deg2rad(dice.uniform(n, low=-22, high=22)) * dice.some(n, share=0.85)
    scale = torch.exp(dice.normal(n) * 0.1) / MARGIN
    aspect = torch.exp(dice.normal(n) * 0.045)
    mirror = 1 - 2 * dice.some(n, share=0.5).float()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = dice.normal(n, 2) * 0.045
    rows = (
        torch.stack([cos * aspect * mirror, -sin / aspect, shift[:, 0]], 1),
        torch.stack([sin * aspect * mirror, cos / aspect, shift[:, 1]], 1),
    )
    return torch.stack(rows, 1)


def exposed(hu: Tensor, dice: Dice) -> Tensor:
    """Other kernels, doses and calibrations, pictures that went through 8-bit windows; HU [n, c, size, size]."""
    n, size = len(hu), hu.shape[-1]

    def some(share: float) -> Tensor:
        return dice.some(n, 1, 1, 1, share=share).float()

    def amount(low: float, high: float) -> Tensor:
        return dice.uniform(n, 1, 1, 1, low=low, high=high)

    soft = _mean(hu)
    hu = hu + (some(0.35) * amount(0, 0.9) - some(0.25) * amount(0, 0.7)) * (soft - hu)
    hu = hu + some(0.12) * amount(0.2, 1) * (_mean(soft) - hu)
    tissue = ((hu > -30) & (hu < 150)).float()
    coarse = dice.normal(n, 1, 4, 4)
    bias = functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True) * amount(0, 3.5) * some(0.4)
    hu = hu + tissue * ((hu - 30) * (amount(-0.15, 0.15) * some(0.7)) + amount(-6, 6) + bias)
    noise = dice.normal(*hu.shape)
    level = amount(0, 5) * some(0.7) + amount(3, 9) * some(0.12)
    hu = hu + torch.where(some(0.5) > 0, noise, _mean(noise) * 2.4) * level * (hu > -200)
    hu = torch.where((some(0.15) > 0) & (hu > amount(80, 130)), torch.full_like(hu, 900.0), hu)
    hu = torch.where((some(0.15) > 0) & (hu < amount(-30, -2)), torch.full_like(hu, -700.0), hu)
    step = torch.where(some(0.3) > 0, amount(0.3, 3.0), torch.full_like(level, 1e-3))
    return _patched(torch.round(hu / step) * step, dice)


def _patched(hu: Tensor, dice: Dice) -> Tensor:
    """A plain patch over a fifth of the slices: no single place may decide."""
    n, size = len(hu), hu.shape[-1]
    line = torch.arange(size, device=hu.device)
    height, width = (dice.uniform(n, 1, 1, 1, low=size / 12, high=size / 4.5) for _ in range(2))
    row, column = dice.uniform(n, 1, 1, 1) * (size - height), dice.uniform(n, 1, 1, 1) * (size - width)
    rows, columns = line.view(1, 1, -1, 1), line.view(1, 1, 1, -1)
    patch = (rows >= row) & (rows < row + height) & (columns >= column) & (columns < column + width)
    grey = dice.uniform(n, 1, 1, 1, low=-20, high=45)
    return torch.where(patch & dice.some(n, 1, 1, 1, share=0.2), grey, hu)


def _mean(images: Tensor) -> Tensor:
    """Mean over 3 × 3 pixels."""
    return functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
