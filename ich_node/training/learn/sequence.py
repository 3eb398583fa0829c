"""A head over the slices of a series: what the neighbours say, added to what the slice itself says.

A small bidirectional GRU reads features and logits of the frozen network from foot to head and answers with a
correction of the logits. In the bundle it is sequence.onnx, and its logits count for the study; maps and slices stay
those of the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ich_node.domain.findings import LABELS
from ich_node.training.learn.network import CHANNELS
from ich_node.training.learn.train import LABEL_WEIGHTS

HIDDEN = 48  # chosen: half of the features; there are few series to learn from


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What the network said about a series, foot to head: features [slices, 96], logits [slices, 6], labels alike."""

    features: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]


class SequenceHead(nn.Module):
    """features [batch, slices, 96] and logits [batch, slices, 6] → logits [batch, slices, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Linear(CHANNELS + len(LABELS), HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * HIDDEN, len(LABELS))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """The corrected logits; before training exactly the given ones."""
        read = torch.relu(self.narrow(torch.cat([features, logits], dim=2)))
        found: Tensor = logits + self.out(self.gru(read)[0])
        return found


def train(series: Sequence[Series], *, steps: int, seed: int, rate: float = 2e-3) -> SequenceHead:
    """Fit the head to series that the network was not trained on, one series a step."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = SequenceHead()
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.02)
    weights = torch.tensor(LABEL_WEIGHTS)
    for _ in range(steps):
        one = series[int(rng.integers(len(series)))]
        order = slice(None, None, -1 if rng.uniform() < 0.5 else 1)  # a stack read from the head is as good
        parts = (one.features[order], one.logits[order], one.labels[order])
        features, logits, labels = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
        answer = head(features[None], logits[None])[0]
        loss = functional.binary_cross_entropy_with_logits(answer, labels, reduction="none")
        optimiser.zero_grad()
        (loss * weights).sum(dim=1).mean().backward()
        optimiser.step()
    head.eval()
    return head


def apply(head: SequenceHead, one: Series) -> npt.NDArray[np.float32]:
    """Corrected logits [slices, 6] of a series."""
    answer = of_series(head, torch.from_numpy(one.features), torch.from_numpy(one.logits))
    return np.asarray(answer.numpy(), np.float32)


def of_series(head: SequenceHead, features: Tensor, logits: Tensor) -> Tensor:
    """Corrected logits [slices, 6] of a series from its features [slices, 96] and logits [slices, 6]."""
    with torch.no_grad():
        answer: Tensor = head(features[None], logits[None])[0]
    return answer


def export(head: SequenceHead, path: Path) -> None:
    """Write the head as ONNX with a dynamic number of slices."""
    axes = {name: {0: "batch", 1: "slices"} for name in ("features", "logits", "corrected")}
    example = (torch.zeros(1, 3, CHANNELS), torch.zeros(1, 3, len(LABELS)))
    names = {"input_names": ["features", "logits"], "output_names": ["corrected"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracing exporter, about its own age
        torch.onnx.export(head, example, str(path), dynamic_axes=axes, opset_version=18, dynamo=False, **names)
