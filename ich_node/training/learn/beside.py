"""Slices with their neighbours: a network of five colours, and sources that hand out three slices at a time.

Tried by `evaluate.one_change`; the network that ships looks at single slices. A neighbour that is not there is air, and
so is, in training, one that was dropped: the network must not need them.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ich_node.infer.see.crop import AIR_HU
from ich_node.training.data.pool import Pool
from ich_node.training.learn.batches import Draw, Drawn, Source
from ich_node.training.learn.network import Network, log_mean_exp, resized
from ich_node.training.synthesis.dice import Dice

DROPPED = 0.3  # chosen: of the neighbours in training, each for itself
OWN_COLOURS, NEIGHBOURS = 3, 2


class NeighbourNetwork(Network):
    """A network that also sees the brain window of the slices below and above; at first these count nothing."""

    def __init__(self, size: int, single: dict[str, Tensor]) -> None:
        """Start from the weights of a network of single slices, which it answers like."""
        super().__init__(size, pretrained=False)
        self.load_state_dict(single)
        stem: Any = cast(Any, self.backbone)._conv_stem
        kernel = stem.weight.detach()
        stem.weight = nn.Parameter(torch.cat([kernel, torch.zeros_like(kernel[:, :NEIGHBOURS])], dim=1))
        stem.in_channels = OWN_COLOURS + NEIGHBOURS

    def colours(self, hu: Tensor) -> Tensor:
        """HU [batch, 3, size, size] of a slice, the one below and the one above → five colours."""
        low, width = cast(Tensor, self.low)[:, :1], cast(Tensor, self.width)[:, :1]
        beside = ((hu[:, 1:] - low) / width).clamp(0, 1) * 2 - 1
        return torch.cat([super().colours(hu[:, :1]), beside], dim=1)

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The slices of one scan from foot to head, int16 HU [slices, rows, columns]; see Network."""
        single = resized(hu.float(), self.size)
        air = torch.full_like(single[:1], AIR_HU)
        image = torch.cat([single, torch.cat([air, single[:-1]]), torch.cat([single[1:], air])], dim=1)
        _, cam, features = self.look(image)
        _, mirrored, mirrored_features = self.look(image.flip(3))
        cam = (cam + mirrored.flip(3)) / 2
        return log_mean_exp(cam), cam, (features + mirrored_features) / 2


class Neighboured:
    """A source of single slices that hands out each with the slices below and above of its scan."""

    def __init__(self, source: Draw, pool: Pool) -> None:
        self.source = source
        number = np.arange(len(pool))
        beside = []
        for step in (-1, 1):
            other = np.clip(number + step, 0, len(pool) - 1)
            there = (pool.patient[other] == pool.patient) & (other != number)
            beside.append(torch.from_numpy(np.where(there, other, -1)))
        self.beside = torch.stack(beside, 1)

    def take(self, count: int, dice: Dice) -> Drawn:
        """See Source; hu is float32 [n, 3, P, P]."""
        index = self.source.indices(count, dice)
        found = self.source.at(index, dice)
        other = self.beside[index]
        gone = (other < 0) | dice.some(count, NEIGHBOURS, share=DROPPED)
        hu = self.source.shelf.hu(other.clamp(min=0).flatten()).unflatten(0, (count, NEIGHBOURS))
        hu = torch.where(gone[:, :, None, None], torch.tensor(float(AIR_HU)), hu)
        return with_neighbours(found, hu)


class Alone:
    """A source whose slices have no neighbours: paintings, whose lesion none of them would show."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def take(self, count: int, dice: Dice) -> Drawn:
        """See Source; hu is float32 [n, 3, P, P]."""
        found = self.source.take(count, dice)
        return with_neighbours(found, torch.full((count, NEIGHBOURS, *found.hu.shape[1:]), float(AIR_HU)))


def with_neighbours(found: Drawn, beside: Tensor) -> Drawn:
    """Slices with others beside them, HU float32 [n, 2, P, P]."""
    return Drawn(torch.cat([found.hu[:, None], beside], 1), found.masks, found.labels, found.trust, found.known)
