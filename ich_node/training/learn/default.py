"""How onnx/ich.onnx is made from label maps, formulas and CT-ICH.

Steps, each kept on disk and skipped when it is there: heads → anatomy → CT-ICH pool → canvases → phase 1 (phantoms
only, shared by all) → phase 2, several runs averaged, for the network that ships and for every fold → out-of-fold
predictions → calibration, operating points, manifest, bundle. Phantoms are made beside the training. No patient of a
fold's test set is in its real or painted slices. One code path for CPU and CUDA.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ich_node.training.data import ct_ich, sheet
from ich_node.training.data.pool import Pool, joined, load, save
from ich_node.training.learn import card, crossval, guard
from ich_node.training.learn.batches import Draw, Drawn, Paintings, Real, Shelf, Source, batch
from ich_node.training.learn.network import Network
from ich_node.training.learn.recipe import FINAL, FOLDS, NETWORKS, Recipe, Workshop
from ich_node.training.learn.train import Trainer, device_of, settle, soup
from ich_node.training.synthesis import scans
from ich_node.training.synthesis.canvas import Canvases, canvases
from ich_node.training.synthesis.dice import Dice
from ich_node.training.synthesis.painting import Painter

SHEET = 32
"""Boxes of a source on a contact sheet, before and after augmentation."""
HARVEST = 3
"""Chunks of phantoms that are taken in at a time: reading them takes as long as a training step."""


def run(shop: Workshop, recipe: Recipe, bundle: Path, *, version: str, device: str, workers: int) -> None:
    """The whole recipe; whatever is already there is not made again."""
    where = device_of(device)
    prepare(shop, recipe, workers)
    train(shop, recipe, where, workers)
    for fold in range(FOLDS):
        crossval.predict(shop, recipe, network_of(shop, recipe, fold), fold)
    card.finish(shop, recipe, network_of(shop, recipe, FINAL), bundle, version)


def prepare(shop: Workshop, recipe: Recipe, workers: int) -> None:
    """Heads, the CT-ICH pool and what can be painted on; nothing is trained on heads that are not those of people."""
    scans.heads(shop.data / "head_label_maps", shop.heads)
    guard.examine(shop, recipe)
    keep_real(shop)
    path = shop.out / "canvases.npz"
    if not path.exists():
        found = canvases(load(shop.real), workers)
        np.savez_compressed(path, index=found.index, depth=found.depth, ventricles=found.ventricles)


def keep_real(shop: Workshop) -> None:
    """The CT-ICH pool, on disk."""
    if not shop.real.exists():
        save(ct_ich.pool(shop.data / "ct_ich"), shop.real)


def train(shop: Workshop, recipe: Recipe, device: torch.device, workers: int) -> None:
    """All networks: the weights of each are written as soon as they are done."""
    missing = [name for name in NETWORKS if not shop.network(name).exists()]
    if not missing:
        return
    files = scans.heads(shop.data / "head_label_maps", shop.heads)
    with scans.Background(recipe.chunks, recipe.seed, files, shop.phantoms, max(1, workers - 2)) as background:
        stock = Stock(shop, recipe, device, background)
        shared = first_phase(shop, recipe, stock)
        for name in missing:
            second_phase(shop, recipe, stock, shared, name)


class Stock:
    """Everything that batches are made of, on the device; phantoms are taken in while they are being made."""

    def __init__(self, shop: Workshop, recipe: Recipe, device: torch.device, background: scans.Background) -> None:
        self.recipe, self.device = recipe, device
        self.real = load(shop.real)
        with np.load(shop.out / "canvases.npz") as arrays:
            self.canvases = Canvases(arrays["index"], arrays["depth"], arrays["ventricles"])
        self.shelf = Shelf(self.real, device)
        self.folds = crossval.folds(self.real, recipe)
        self.harvest = scans.Harvest(shop.phantoms)
        first = self._enough(background)
        self.phantoms = Shelf(first, device, recipe.capacity)
        self.phantom_draw = Draw(self.phantoms, self.device)
        self._check(shop)

    def _enough(self, background: scans.Background) -> Pool:
        """Wait for the first phantoms."""
        found: list[Pool] = []
        while sum(map(len, found)) < self.recipe.enough:
            new = self.harvest.new()
            found += new
            if not new and not background.busy:
                break
            if not new:
                background.wait()
        return joined(found)

    def grow(self) -> None:
        """Take in phantoms that are new."""
        new = self.harvest.new(HARVEST)
        room = [self.phantoms.append(pool) for pool in new]
        if any(room):
            self.phantom_draw = Draw(self.phantoms, self.device)

    def take(self, count: int, dice: Dice) -> Drawn:
        """Phantoms, as a source that grows."""
        return self.phantom_draw.take(count, dice)

    def sources(self, name: int | str) -> dict[str, Source]:
        """Real, painted and phantom slices, without the patients of the fold `name`."""
        seen = np.flatnonzero(self.folds != name) if name != FINAL else np.arange(len(self.real))
        use = np.isin(self.canvases.index, seen)
        own = Canvases(self.canvases.index[use], self.canvases.depth[use], self.canvases.ventricles[use])
        painter = Painter(self.real, own, self.device)
        block = self.recipe.second.counts["painted"] * self.recipe.block
        return {
            "real": Real(self.shelf, self.real, self.device, seen),
            "painted": Paintings(painter, block),
            "phantoms": self,
        }

    def _check(self, shop: Workshop) -> None:
        """Contact sheets of every source."""
        dice = Dice(self.recipe.seed, self.device)
        for name, source in self.sources(FINAL).items():
            before = source.take(SHEET, dice).hu
            after = batch({name: source}, {name: SHEET}, self.recipe.second.size, dice).hu[:, 0]
            sheet.write(shop.out / "sheets" / f"{name}.png", [part.cpu().numpy() for part in (before, after)])


def first_phase(shop: Workshop, recipe: Recipe, stock: Stock) -> dict[str, Tensor]:
    """Phantoms only: no patient is in it, so that every fold may start from it. The averaged weights."""
    torch.manual_seed(recipe.seed)
    phase = replace(recipe.first, seed=recipe.seed, seconds=recipe.seconds(recipe.first.name))
    network = Network(phase.size, pretrained=recipe.weights is None)
    if recipe.weights is not None:
        network.load_state_dict(_wide(torch.load(recipe.weights, map_location="cpu", weights_only=True)))
    trainer = Trainer(network, phase, shop.checkpoints, stock.device)
    return _state(trainer.run({"phantoms": stock}, stock.grow))


def second_phase(shop: Workshop, recipe: Recipe, stock: Stock, shared: Mapping[str, Tensor], name: int | str) -> None:
    """All runs of the network `name`, averaged in weight space; its weights in a file."""
    states = []
    for number in range(recipe.runs):
        seed = recipe.seed + 100 * (number + 1) + (FOLDS if name == FINAL else int(name))
        phase = replace(
            recipe.second,
            name=f"{recipe.second.name}_{name}_{number}",
            seed=seed,
            seconds=recipe.seconds(recipe.second.name),
        )
        network = Network(phase.size, pretrained=False)
        network.load_state_dict(shared)
        sources = stock.sources(name)
        states.append(_state(Trainer(network, phase, shop.checkpoints, stock.device).run(sources, stock.grow)))
    network.load_state_dict(soup(states))
    settle(network, sources, phase, stock.device)
    _record(shop, recipe, stock.device)
    path = shop.network(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(_narrow(network.state_dict()), part)
    part.rename(path)


def _record(shop: Workshop, recipe: Recipe, device: torch.device) -> None:
    """Steps and seconds of all runs so far, for the model card."""
    states = {
        path.stem: torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        for path in sorted(shop.checkpoints.glob("*.pt"))
    }
    start = "ImageNet"
    if recipe.weights is not None:
        start = f"weights with SHA-256 {hashlib.sha256(recipe.weights.read_bytes()).hexdigest()}"
    found = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.machine()}",
        "start": start,
        "phantom_scans": scans.SCANS_PER_CHUNK * len(list(shop.phantoms.glob("chunk_*.npz"))),
        "steps": {name: state["step"] for name, state in states.items()},
        "seconds": {name: round(state["seconds"], 1) for name, state in states.items()},
    }
    shop.runs.write_text(json.dumps(found, indent=1))


def network_of(shop: Workshop, recipe: Recipe, name: int | str) -> Network:
    """A finished network, on the CPU."""
    return network_from(shop.network(name), recipe.second.size)


def network_from(weights: Path, size: int) -> Network:
    """The network whose weights are in a file, on the CPU, in evaluation mode; it looks at `size` pixels."""
    network = Network(size, pretrained=False)
    network.load_state_dict(_wide(torch.load(weights, map_location="cpu", weights_only=True)))
    network.eval()
    return network


def _state(network: Network) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def _narrow(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels in half precision (a thousandth of their size); biases and statistics as they are."""
    return {k: v.half().cpu() if v.dtype.is_floating_point and v.ndim == 4 else v.cpu() for k, v in state.items()}


def _wide(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}
