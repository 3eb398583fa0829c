"""Lesions painted on real slices without hemorrhage: real texture, exact masks, new ones for every batch.

Works on batches of pool images as tensors [n, P, P], on whatever device they are. The shapes are those of one slice: a
lens or a crescent on the inner table, a clot with oedema, blood in ventricles or sulci. Some are harmless: the same
shapes as fluid or bone, a skull that is cut obliquely, calcification, so that not the painting but the density of blood
decides. Lengths are in millimetres, densities in HU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ich_node.phantom.lesions import TYPES
from ich_node.training.data.pool import SMALLEST_MM2, Pool
from ich_node.training.synthesis.canvas import PIXEL_MM, Canvases
from ich_node.training.synthesis.dice import Dice

EPIDURAL, PARENCHYMAL, VENTRICULAR, SUBARACHNOID, SUBDURAL, HARMLESS = range(6)  # indices of the kinds of paintings
SHARES = {EPIDURAL: 0.19, PARENCHYMAL: 0.17, VENTRICULAR: 0.10, SUBARACHNOID: 0.11, SUBDURAL: 0.16}
"""Of the paintings; the others are harmless. Clots and ventricles more often than in patients: they are missed."""
SECOND = 0.25
"""A share of the bleeding slices gets a second type."""
FAINT = (0.2, 0.25, 0.2, 0.35, 0.3)
"""By type: how often blood is hardly denser than brain (44 to 54 HU)."""
SMALLEST_PX = 12  # chosen: of a slice; fewer pixels are noise to any reader
BONE_HU = 130  # blood is not painted into bone, nor into what partial volume makes half of it


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """hu: float32 [n, P, P]. masks: bool [n, 5, P/2, P/2]. labels: float32 [n, 6].

    trust: float32 [n, 6], 0 where something was painted that is too small to call.
    """

    hu: Tensor
    masks: Tensor
    labels: Tensor
    trust: Tensor


class Painter:
    """Paints on the canvases of a pool, all kept on `device`."""

    def __init__(self, pool: Pool, canvases: Canvases, device: torch.device) -> None:
        self.hu = torch.from_numpy(np.ascontiguousarray(pool.hu[canvases.index])).to(device)
        self.depth = torch.from_numpy(canvases.depth).to(device)
        self.ventricles = torch.from_numpy(canvases.ventricles).to(device)
        self.with_ventricles = torch.nonzero(self.ventricles.flatten(1).amax(1) > 0)[:, 0]
        line = torch.arange(self.hu.shape[1], device=device, dtype=torch.float32) * PIXEL_MM
        self.y, self.x = line.view(1, -1, 1), line.view(1, 1, -1)

    def paint(self, count: int, dice: Dice) -> Painted:
        """`count` new slices, in random order."""
        kinds = [kind for kind, share in SHARES.items() for _ in range(round(count * share))][:count]
        kinds += [HARMLESS] * (count - len(kinds))
        index = dice.whole(count, len(self.hu))
        ventricular = [place for place, kind in enumerate(kinds) if kind == VENTRICULAR]
        if ventricular and len(self.with_ventricles):
            index[ventricular] = self.with_ventricles[dice.whole(len(ventricular), len(self.with_ventricles))]
        scene = _Scene(self, index, dice)
        for kind in range(6):
            scene.add(torch.tensor([place for place, own in enumerate(kinds) if own == kind], dtype=torch.long), kind)
        bleeding = [place for place, kind in enumerate(kinds) if kind != HARMLESS]
        again = torch.tensor(bleeding, device=index.device)[dice.order(len(bleeding))]
        seconds = again[: int(len(bleeding) * SECOND)].chunk(len(TYPES))
        for kind, part in zip(dice.order(len(TYPES)).tolist(), seconds, strict=False):
            scene.add(part, kind)
        order = dice.order(count)
        return _labelled(scene.hu[order].clamp(-1024, 3071), scene.masks[order])


def _labelled(hu: Tensor, masks: Tensor) -> Painted:
    area_mm2 = masks.sum((2, 3)) * PIXEL_MM**2
    called = (area_mm2 >= SMALLEST_MM2).float()
    labels = torch.cat([called.amax(1, keepdim=True), called], 1)
    doubt = (area_mm2 > 0) & (called == 0)
    any_doubt = doubt.any(1, keepdim=True) & (labels[:, :1] == 0)
    trust = 1 - torch.cat([any_doubt, doubt], 1).float()
    return Painted(hu, functional.max_pool2d(masks.float(), 2) > 0, labels, trust)


class _Scene:
    """The slices of one batch while they are painted on."""

    def __init__(self, painter: Painter, index: Tensor, dice: Dice) -> None:
        self.painter, self.dice = painter, dice
        self.hu = painter.hu[index].float()
        self.depth = painter.depth[index].float() * (PIXEL_MM / 2)
        self.ventricles = painter.ventricles[index]
        self.masks = torch.zeros(len(index), len(TYPES), *self.hu.shape[1:], dtype=torch.bool, device=index.device)

    def add(self, part: Tensor, kind: int) -> None:
        """Paint `kind` on the slices `part`."""
        if not len(part):
            return
        part = part.to(self.hu.device)
        ground = _Ground(self.painter, self.dice, self.hu[part], self.depth[part], self.ventricles[part])
        if kind == HARMLESS:
            self.hu[part] = ground.harmless()
            return
        shape = (ground.epidural, ground.parenchymal, ground.ventricular, ground.subarachnoid, ground.subdural)[kind]
        mask, moved = shape()
        mask &= mask.sum((1, 2), keepdim=True) >= SMALLEST_PX
        blood = ground.filled(moved, mask, ground.blood(mask, FAINT[kind]))
        self.hu[part] = torch.where(mask.any(2, keepdim=True).any(1, keepdim=True), blood, ground.hu)
        self.masks[part, kind] |= mask


class _Ground:
    """Slices of one kind: hu, depth in mm (0 outside the skull), ventricles; shapes and densities on them."""

    def __init__(self, painter: Painter, dice: Dice, hu: Tensor, depth: Tensor, ventricles: Tensor) -> None:
        self.dice, self.y, self.x = dice, painter.y, painter.x
        self.hu, self.depth, self.ventricles = hu, depth, ventricles
        self.inside = depth > 0
        self.pixels = hu.shape[1]
        weight = self.inside.float()
        total = weight.sum((1, 2), keepdim=True).clamp(min=1)
        self.middle_y = (weight * self.y).sum((1, 2), keepdim=True) / total
        self.middle_x = (weight * self.x).sum((1, 2), keepdim=True) / total

    def _u(self, low: float, high: float) -> Tensor:
        return self.dice.uniform(len(self.hu), 1, 1, low=low, high=high)

    def _log(self, low: float, high: float) -> Tensor:
        return self.dice.log_uniform(len(self.hu), 1, 1, low=low, high=high)

    def _some(self, share: float) -> Tensor:
        return self.dice.some(len(self.hu), 1, 1, share=share)

    def _field(self, mm: float) -> Tensor:
        return self.dice.field(len(self.hu), self.pixels, mm / PIXEL_MM)

    def _pick(self, where: Tensor) -> tuple[Tensor, Tensor]:
        row, column = self.dice.voxel(where)
        return row * PIXEL_MM, column * PIXEL_MM

    # --- shapes: each gives the mask and the HU after the brain has moved or swollen --------------------------------

    def _along_table(self) -> tuple[Tensor, Tensor]:
        """Distance in mm along the inner table from a random point of it, roughly, and the point's x."""
        bone = functional.max_pool2d((self.hu[:, None] > 200).float(), 7, 1, 3)[:, 0] > 0
        row, column = self._pick(self.inside & (self.depth < 2) & bone)
        angle = torch.atan2(self.y - self.middle_y, self.x - self.middle_x)
        own = torch.atan2(row - self.middle_y, column - self.middle_x)
        turn = ((angle - own + math.pi) % (2 * math.pi) - math.pi).abs()
        return turn * torch.hypot(row - self.middle_y, column - self.middle_x), column

    def _layer(self, limit: Tensor) -> tuple[Tensor, Tensor]:
        """What is nearer the inner table than `limit`, after the brain has moved out of the way."""
        mask = self.inside & (self.depth < limit * (1 + 0.14 * self._field(10)))
        down, right = torch.gradient(blurred(self.depth, 2.0), dim=(1, 2))
        length = torch.hypot(down, right).clamp(min=0.05 * PIXEL_MM)
        away = torch.exp(-(self.depth - limit).clamp(min=0) / self._u(9, 22))
        push = limit * 0.8 * away * (self.inside & ~mask)
        y, x = (self.y - down / length * push) / PIXEL_MM, (self.x - right / length * push) / PIXEL_MM
        grid = torch.stack([(x * 2 + 1) / self.pixels - 1, (y * 2 + 1) / self.pixels - 1], -1)
        moved = functional.grid_sample(self.hu[:, None], grid, align_corners=False, padding_mode="border")[:, 0]
        free = self.inside & ~mask & (moved < 110) & (moved > -15)
        return mask, torch.where(free, moved, self.hu)

    def epidural(self) -> tuple[Tensor, Tensor]:
        """A lens, from a few millimetres to a third of the vault."""
        along, _ = self._along_table()
        half = self._log(6, 38)
        height = (half * self._u(0.12, 0.75)).clamp(2.2, 24)
        return self._layer(height * (1 - (along / half) ** 2).clamp(0, 1) ** 0.55)

    def subdural(self) -> tuple[Tensor, Tensor]:
        """A crescent over one hemisphere."""
        along, column = self._along_table()
        half, height = self._u(18, 108), self._log(2.0, 13)
        mask, moved = self._layer(height * (1 - (along / half) ** 4).clamp(0, 1) ** 0.8)
        return mask & ((self.x - self.middle_x) * torch.sign(column - self.middle_x) > -2), moved

    def parenchymal(self) -> tuple[Tensor, Tensor]:
        """One clot or several contusions, small ones as often as large ones, half of them near the surface."""
        quiet = blurred(self.hu, 1.0)
        shallow = ~self._some(0.5) | (self.depth < 18)
        row, column = self._pick(self.inside & (self.depth > 2.5) & shallow)
        several = self._some(0.3)
        largest = torch.where(several, self._log(2.2, 7), self._log(2.4, 22))
        mask = torch.zeros_like(self.inside)
        for turn in range(4):
            y = row + (self.dice.normal(len(row), 1, 1) * 11 if turn else 0)
            x = column + (self.dice.normal(len(row), 1, 1) * 11 if turn else 0)
            radius = largest * self._u(0.6, 1.1) if turn else largest
            angle, ratio = self._u(0, math.pi), self._u(0.5, 1)
            across = (self.x - x) * angle.cos() + (self.y - y) * angle.sin()
            along = (self.y - y) * angle.cos() - (self.x - x) * angle.sin()
            rough = torch.where(radius > 6, self._field(8), self._field(3.5))
            blob = torch.hypot(across, along / ratio) / radius + 0.2 * rough < 1
            mask |= blob & several if turn else blob
        mask &= self.inside & (self.depth > 1.2) & (quiet > 12)
        near = mask.float()
        for _ in range(2):
            near = torch.maximum(near, blurred(near, 2.5))
        rim = (near * 1.6).clamp(0, 1) * (self.inside & ~mask & (quiet > 15)) * self._some(0.75)
        return mask, self.hu - rim * self._u(2, 14)

    def ventricular(self) -> tuple[Tensor, Tensor]:
        """A cast of one or of all ventricles, or blood that has settled in them."""
        count = self.ventricles.flatten(1).amax(1).view(-1, 1, 1)
        one = 1 + torch.floor(self._u(0, 1) * count)
        mask = (self.ventricles > 0) & (self._some(0.4) | (self.ventricles == one))
        low = torch.where(mask, self.y, torch.full_like(self.hu, 1e4)).amin((1, 2), keepdim=True)
        high = torch.where(mask, self.y, torch.full_like(self.hu, -1e4)).amax((1, 2), keepdim=True)
        level = low + (high - low) * self._u(0.1, 0.85)
        return mask & (~self._some(0.6) | (self.y > level)), self.hu

    def subarachnoid(self) -> tuple[Tensor, Tensor]:
        """Blood in sulci, fissures or cisterns around a point."""
        quiet = blurred(self.hu, 1.0)
        row, column = self._pick(self.inside & (quiet < 24) & (self.depth < 32))
        near = torch.hypot(self.y - row, self.x - column) + 5 * self._field(7)
        dark = self.inside & (quiet < 25) & (near < self._u(8, 50)) & (self.depth < 36)
        grown = functional.max_pool2d(dark[:, None].float(), 3, 1, 1)[:, 0] > 0
        return grown & self.inside & (quiet < 31), self.hu

    # --- densities --------------------------------------------------------------------------------------------------

    def filled(self, hu: Tensor, mask: Tensor, density: Tensor) -> Tensor:
        """`mask` at a density in HU, with the noise of the slice under it and a soft edge."""
        hard = mask.float()
        soft = torch.lerp(blurred(hard, 0.4), blurred(hard, 1.0), self._u(0, 1))
        share = torch.where(mask, soft.clamp(min=0.55), soft) * (hu < BONE_HU)
        noise = (hu - blurred(hu, 1.0)).clamp(-10, 10) * self._u(0.8, 1.1)
        return hu * (1 - share) + share * (density + noise)

    def blood(self, mask: Tensor, faint: float) -> Tensor:
        """HU of a clot with its grain; sometimes faint, settled (lighter in front), or with unclotted swirls."""
        base = torch.where(self._some(faint), self._u(44, 54), self._u(52, 80))
        grain = self._field(3.5) * self._u(0.5, 4)
        middle = (mask * self.y).sum((1, 2), keepdim=True) / mask.sum((1, 2), keepdim=True).clamp(min=1)
        settled = self._some(0.12) * self._u(5, 16) * (self.y < middle)
        swirl = self._some(0.1) * self._u(6, 18) * (self._field(6) > 0.6)
        return base + grain - settled - swirl

    def harmless(self) -> Tensor:
        """Skull cut obliquely, bone that bulges, calcified dots, infarct or soft mass, fluid shaped as a bleeding."""
        what = self._u(0, 1)
        made = torch.where(what < 0.34, self._oblique(), self._bulge())
        made = torch.where(what > 0.56, self._dots(), made)
        patch, _ = self.parenchymal()
        dark = self.hu + blurred(patch.float(), 1.3) * self.inside * self._u(-18, 5)
        made = torch.where(what > 0.76, dark, made)
        mask, moved = self.subdural()
        fluid = self.filled(moved, mask, self._u(2, 24).expand_as(self.hu))
        return torch.where(what > 0.88, fluid, made)

    def _oblique(self) -> Tensor:
        """Partial volume of a skull that slopes: everywhere along the rim, or over a part of it."""
        capped = torch.minimum(self.hu, self._u(150, 900))
        rim = torch.lerp(blurred(capped, 0.8), blurred(capped, 2.0), self._u(0, 1))
        at = self.inside & (self.depth < self._u(1.8, 6)) & (rim > self.hu) & (self._field(34) > self._u(-2, 1))
        return torch.where(at, rim, self.hu)

    def _bulge(self) -> Tensor:
        """Bone with its partial volume, in the shape of a lens."""
        mask, _ = self.epidural()
        bone = 30 + self._u(150, 900) * torch.exp(-self.depth / self._u(0.5, 2.2))
        return torch.where(mask, torch.maximum(self.hu, bone), self.hu)

    def _dots(self) -> Tensor:
        """Calcified choroid plexus, pineal gland, falx, basal ganglia."""
        row, column = self._pick(self.inside & (self.depth > 16))
        hu = self.hu
        for turn in range(3):
            y = row + (self.dice.normal(len(row), 1, 1) * 13 if turn else 0)
            x = column + (self.dice.normal(len(row), 1, 1) * 13 if turn else 0)
            r = torch.hypot((self.y - y) / self._u(0.6, 1.8), (self.x - x) / self._u(0.6, 1.8))
            edge = ((self._log(0.9, 4) - r) / PIXEL_MM + 0.5).clamp(0, 1)
            hu = hu + edge * (self._log(45, 350) - self.hu).clamp(min=0) * self.inside
        return hu


def blurred(images: Tensor, sigma_mm: float) -> Tensor:
    """Gaussian blur of pool images [n, P, P]."""
    sigma = sigma_mm / PIXEL_MM
    reach = max(1, math.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(images.dtype)
    padded = functional.pad(images[:, None], (reach, reach, reach, reach), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]
