"""Training: one loop with progress, checkpoints, resume, mixed precision and an averaged network.

A phase draws batches from pools, and can be interrupted at any step: the checkpoint holds network, average, optimiser,
step and random state. `ich-node train` comes in here; the recipes are `training.default` and `training.rsna`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional

from ich_node.training.learn.batches import Batch, Draw, batch
from ich_node.training.learn.network import Network

LABEL_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)
SMOOTHING = 0.01
CELL_WEIGHT = 5.0


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training. counts: slices per batch from each pool. average: decay of the averaged network."""

    name: str
    counts: Mapping[str, int]
    steps: int
    size: int = 192
    rate: float = 6e-4
    frozen_blocks: int = 0
    average: float = 0.98
    seed: int = 0
    checkpoint_every: int = field(default=40, compare=False)


def device_of(wanted: str = "auto") -> torch.device:
    """CUDA when it is there and not declined, otherwise the CPU."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def loss_of(outputs: tuple[Tensor, Tensor, Tensor], made: Batch) -> Tensor:
    """Slice cross-entropy (any counts twice) plus cell cross-entropy where the mask is known."""
    logits, cam, _ = outputs
    weights = torch.tensor(LABEL_WEIGHTS, device=logits.device)
    target = made.labels * (1 - 2 * SMOOTHING) + SMOOTHING
    slices = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    positive = torch.tensor(CELL_WEIGHT, device=logits.device)
    cells = functional.binary_cross_entropy_with_logits(
        cam.float(), made.cells, pos_weight=positive, reduction="none"
    ).mean(dim=(2, 3))
    by_cell = (cells * made.known).sum() / made.known.sum().clamp(min=1)
    return (slices * weights).sum(dim=1).mean() / weights.sum() + by_cell


class Trainer:
    """A network in training. `run` goes on from the checkpoint in `folder` where there is one."""

    def __init__(self, network: Network, phase: Phase, folder: Path, device: torch.device) -> None:
        self.phase, self.device = phase, device
        self.path = folder / f"{phase.name}.pt"
        self.network = network.to(device, memory_format=torch.channels_last)
        self.network.frozen_blocks = phase.frozen_blocks
        self.averaged: Network = copy.deepcopy(self.network)
        self.rng = np.random.default_rng([phase.seed, 1])
        self.optimiser = torch.optim.AdamW(_groups(self.network, phase.rate), weight_decay=0.02)
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        self.step = 0
        self.losses: list[float] = []
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._resume()

    def run(self, draws: Mapping[str, Draw]) -> Network:
        """Train to the end of the phase; the averaged network, in evaluation mode."""
        text = TextColumn("{task.description} {task.fields[loss]}")
        torch.manual_seed(self.phase.seed + self.step)
        with Progress(text, BarColumn(), TimeRemainingColumn()) as progress:
            task = progress.add_task(self.phase.name, total=self.phase.steps, completed=self.step, loss="")
            while self.step < self.phase.steps:
                began = time.monotonic()
                self.losses.append(self._learn(batch(draws, self.phase.counts, self.phase.size, self.rng)))
                self.seconds += time.monotonic() - began
                progress.update(task, advance=1, loss=f"loss {np.mean(self.losses[-25:]):.3f}")
                if self.step % self.phase.checkpoint_every == 0 or self.step == self.phase.steps:
                    self._save()
        self.averaged.eval()
        return self.averaged

    def _learn(self, made: Batch) -> float:
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * _rate(self.step, self.phase.steps)
        made = Batch(*(getattr(made, name).to(self.device) for name in Batch.__slots__))
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.device.type == "cuda"):
            outputs = self.network.look(made.hu)
        loss = loss_of(outputs, made)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        self._average()
        return float(loss.detach())

    def _average(self) -> None:
        decay = min(self.phase.average, self.step / (self.step + 10))
        means, news = self.averaged.state_dict().values(), self.network.state_dict().values()
        with torch.no_grad():
            for mean, new in zip(means, news, strict=True):
                if mean.dtype.is_floating_point:
                    mean.lerp_(new, 1 - decay)
                else:
                    mean.copy_(new)

    def _save(self) -> None:
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "seconds": self.seconds,
            "rng": self.rng.bit_generator.state,
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.rename(self.path)

    def _resume(self) -> None:
        state = torch.load(self.path, map_location=self.device, weights_only=False)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.losses, self.seconds = state["step"], state["losses"], state["seconds"]
        self.rng.bit_generator.state = state["rng"]


def _groups(network: Network, rate: float) -> list[dict[str, Any]]:
    """The pretrained backbone learns at half the rate of the rest."""
    body = [p for p in network.backbone.parameters() if p.requires_grad]
    known = {id(p) for p in body}
    rest = [p for p in network.parameters() if id(p) not in known]
    return [{"params": body, "peak": rate * 0.5, "lr": 0.0}, {"params": rest, "peak": rate, "lr": 0.0}]


def _rate(step: int, steps: int) -> float:
    """Warm-up over 40 steps, then a cosine down to 3 %."""
    warm = min(1.0, (step + 1) / min(40, max(1, steps // 4)))
    return warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))
