"""Chance on the device: numbers for a whole batch at once, from one generator whose state a checkpoint can hold."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


class Dice:
    """Random numbers on `device`; shapes are given as sizes, values come as float32."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform between `low` and `high`."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        """Between `low` and `high`, every octave as likely as another."""
        return torch.exp(self.uniform(*shape, low=math.log(low), high=math.log(high)))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def some(self, *shape: int, share: float) -> Tensor:
        """True for a share of them."""
        return torch.rand(shape, generator=self.generator, device=self.device) < share

    def whole(self, count: int, below: int) -> Tensor:
        """`count` whole numbers from 0 to `below` − 1."""
        return torch.randint(below, (count,), generator=self.generator, device=self.device)

    def order(self, count: int) -> Tensor:
        """The numbers 0 … count − 1, shuffled."""
        return torch.randperm(count, generator=self.generator, device=self.device)

    def field(self, count: int, pixels: int, size: float) -> Tensor:
        """Smooth fields [count, pixels, pixels] of about unit variance, independent `size` pixels apart."""
        nodes = max(3, math.ceil(pixels / size) + 1)
        coarse = self.normal(count, 1, nodes, nodes)
        fine = functional.interpolate(coarse, (pixels, pixels), mode="bilinear", align_corners=True)
        return fine[:, 0] * 1.4  # linear interpolation lowers the variance by about a half

    def voxel(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column [n, 1, 1] of a random pixel of each image of `where` [n, h, w] (of any, where it is empty)."""
        chances = where.flatten(1).float() + 1e-12
        at = torch.multinomial(chances, 1, generator=self.generator)[:, 0]
        width = where.shape[2]
        return (at // width).view(-1, 1, 1).float(), (at % width).view(-1, 1, 1).float()
