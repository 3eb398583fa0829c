"""Training: one loop for CPU and CUDA, with checkpoints, resume, mixed precision and an averaged network.

A phase draws batches from sources until its steps or its seconds are used up, and can be interrupted at any time: the
checkpoint holds network, average, optimiser, step, seconds and the state of the dice. Weights of several runs of a
network are averaged by `soup`, and their batch-norm statistics measured anew by `settle`. The recipes are
`learn.default` and `learn.challenge`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional

from ich_node.training.learn.batches import Batch, Source, batch
from ich_node.training.learn.network import Network
from ich_node.training.synthesis.dice import Dice

LABEL_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # those of the RSNA 2019 challenge: "any" counts twice
SMOOTHING = 0.01  # chosen: labels are wrong now and then; certainty is not rewarded without end
CELL_WEIGHT = 5.0
"""A lit cell counts as much as five dark ones: lesions cover a few per cent of a slice."""
LOSS_EVERY = 20
"""Steps between two looks at the loss, each of which waits for the device."""
CHECKPOINT_S = 20.0  # chosen: what a stopped training loses at most
SETTLING = 24
"""Batches over which the batch-norm statistics of averaged weights are measured."""

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training. counts: slices per batch from each source. average: decay of the averaged network.

    It ends after `steps`, or after `seconds` of training where that is earlier; the learning rate follows whichever is
    further on.
    """

    name: str
    counts: Mapping[str, int]
    steps: int
    seconds: float = math.inf
    size: int = 256
    rate: float = 1e-3
    average: float = 0.993
    seed: int = 0


def device_of(wanted: str = "auto") -> torch.device:
    """CUDA when it is there and not declined, otherwise the CPU."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    return torch.device(wanted)


def loss_of(outputs: tuple[Tensor, Tensor, Tensor], made: Batch) -> Tensor:
    """Slice cross-entropy (any counts twice) plus cell cross-entropy where the mask is known."""
    logits, cam, _ = outputs
    weights = torch.tensor(LABEL_WEIGHTS, device=logits.device) * made.trust
    target = made.labels * (1 - 2 * SMOOTHING) + SMOOTHING
    slices = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    positive = torch.tensor(CELL_WEIGHT, device=logits.device)
    cells = functional.binary_cross_entropy_with_logits(
        cam.float(), made.cells, pos_weight=positive, reduction="none"
    ).mean(dim=(2, 3))
    by_cell = (cells * made.known).sum() / made.known.sum().clamp(min=1)
    return (slices * weights).sum() / weights.sum().clamp(min=1) + by_cell


class Trainer:
    """A network in training. `run` goes on from the checkpoint in `folder` where there is one."""

    def __init__(self, network: Network, phase: Phase, folder: Path, device: torch.device) -> None:
        self.phase, self.device = phase, device
        self.path = folder / f"{phase.name}.pt"
        self.network = network.to(device, memory_format=torch.channels_last)
        self.averaged: Network = copy.deepcopy(self.network)
        self.dice = Dice(phase.seed, device)
        fused = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(_groups(self.network, phase.rate), weight_decay=0.02, fused=fused)
        self.step = 0
        self.losses: list[float] = []
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._resume()

    @property
    def progress(self) -> float:
        """The part of the phase that is done, 0 … 1."""
        return min(1.0, max(self.step / self.phase.steps, self.seconds / self.phase.seconds))

    def run(self, sources: Mapping[str, Source], between: Callable[[], None] | None = None) -> Network:
        """Train to the end of the phase; the averaged network, in evaluation mode. Calls `between` every 20 steps."""
        torch.manual_seed(self.phase.seed + self.step)
        text = TextColumn("{task.description} {task.fields[loss]}")
        total, saved, looked = torch.zeros((), device=self.device), self.seconds, self.step
        with Progress(text, BarColumn(), TimeRemainingColumn()) as shown:
            task = shown.add_task(self.phase.name, total=1.0, loss="")
            while self.progress < 1:
                began = time.monotonic()
                total += self._learn(batch(sources, self.phase.counts, self.phase.size, self.dice))
                if self.step % LOSS_EVERY == 0 or self.step == self.phase.steps:
                    # Waits for the device, so that the clock is true.
                    self.losses.append(round(float(total) / (self.step - looked), 4))
                    looked = self.step
                    total.zero_()
                    shown.update(task, completed=self.progress, loss=f"loss {self.losses[-1]:.3f}")
                    if between is not None:
                        between()
                self.seconds += time.monotonic() - began
                if self.seconds - saved > CHECKPOINT_S or self.progress >= 1:
                    self._save()
                    saved = self.seconds
        self.averaged.eval()
        return self.averaged

    def _learn(self, made: Batch) -> Tensor:
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * _rate(self.step, self.progress)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            outputs = self.network.look(made.hu)
        loss = loss_of(outputs, made)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        self._average()
        return loss.detach()

    def _average(self) -> None:
        decay = min(self.phase.average, self.step / (self.step + 10))
        means, news = _floats(self.averaged), _floats(self.network)
        with torch.no_grad():
            torch._foreach_lerp_(means, news, 1 - decay)

    def _save(self) -> None:
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "seconds": self.seconds,
            "done": self.progress >= 1,
            "dice": self.dice.generator.get_state(),
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.rename(self.path)

    def _resume(self) -> None:
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.losses, self.seconds = state["step"], state["losses"], state["seconds"]
        self.dice.generator.set_state(state["dice"].cpu())


def soup(states: Sequence[State]) -> State:
    """The mean of the weights of several runs of one network."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.dtype.is_floating_point else value
        for name, value in first.items()
    }


def settle(network: Network, sources: Mapping[str, Source], phase: Phase, device: torch.device) -> None:
    """Measure the batch-norm statistics of averaged weights anew, on batches of `phase`; then evaluation mode."""
    network.to(device, memory_format=torch.channels_last)
    network.train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    dice = Dice(phase.seed, device)
    for _ in range(SETTLING):
        image = batch(sources, phase.counts, phase.size, dice).hu
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            network.look(image)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    network.eval()


def _floats(network: Network) -> list[Tensor]:
    return [value for value in network.state_dict().values() if value.dtype.is_floating_point]


def _groups(network: Network, rate: float) -> list[dict[str, Any]]:
    """The pretrained backbone learns at half the rate of the rest."""
    body = list(network.backbone.parameters())
    known = {id(p) for p in body}
    rest = [p for p in network.parameters() if id(p) not in known]
    return [{"params": body, "peak": rate * 0.5, "lr": 0.0}, {"params": rest, "peak": rate, "lr": 0.0}]


def _rate(step: int, progress: float) -> float:
    """Warm-up over 40 steps, then a cosine down to 2 %."""
    return min(1.0, (step + 1) / 40) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
