"""Every source of the default recipe held against anatomy, side by side with what the node sees; kept for the card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ich_node.infer.see.crop import Crop, crop, crop_stack
from ich_node.infer.see.volume import read_volume
from ich_node.phantom.head import head, phantom
from ich_node.phantom.lesions import Scene
from ich_node.phantom.scanner import density, scan
from ich_node.phantom.series import write_series
from ich_node.phantom.tissue import Head
from ich_node.training.data import anatomy, ct_ich, label_maps
from ich_node.training.learn.recipe import Recipe, Workshop
from ich_node.training.synthesis.scans import random_protocol

FORMULA_HEADS = 12  # chosen: enough for a median
NODE_HEADS = 3  # chosen: each is written and read as DICOM, which takes seconds


def examine(shop: Workshop, recipe: Recipe) -> dict[str, dict[str, float]]:
    """The anatomy of all sources, measured once. Raises NotHumanError for a source that must not be trained on."""
    if not shop.anatomy.exists():
        rng = np.random.default_rng([recipe.seed, 7])
        maps = (label_maps.load(path) for path in sorted(shop.heads.glob("*.npz")))
        made = (head(rng) for _ in range(FORMULA_HEADS))
        sources = {
            "CT-ICH": (crop_stack(study.hu, ct_ich.SPACING_MM) for study in ct_ich.studies(shop.data / "ct_ich")),
            "label maps": (_scanned(one, rng) for one in maps),
            "formulas": (_scanned(one, rng) for one in made),
            "node": _through_the_node(),
        }
        found = {name: anatomy.table(anatomy.measure(box) for box in boxes) for name, boxes in sources.items()}
        shop.anatomy.parent.mkdir(parents=True, exist_ok=True)
        shop.anatomy.write_text(json.dumps(found, indent=1))
    tables: dict[str, dict[str, float]] = json.loads(shop.anatomy.read_text())
    for name, figures in tables.items():
        anatomy.require_human(name, figures)
    return tables


def _scanned(one: Head, rng: np.random.Generator) -> Crop:
    protocol = random_protocol(one, rng)
    taken = scan(Scene(one, density(one, rng)), protocol, rng)
    return crop_stack(taken.hu, (protocol.spacing_mm, protocol.pixel_mm, protocol.pixel_mm))


def _through_the_node() -> Iterator[Crop]:
    """Phantoms as DICOM files, read and cropped as the node does."""
    for seed in range(NODE_HEADS):
        with tempfile.TemporaryDirectory() as folder:
            paths = write_series(Path(folder), phantom(None, seed=seed, rows=256, columns=256), seed=seed)
            yield crop(read_volume(paths))
