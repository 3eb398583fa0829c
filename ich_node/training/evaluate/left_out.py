"""The network without the patients: python -m ich_node.training.evaluate.left_out --help.

Weights that have seen phantoms only are scored on all patients of CT-ICH, exactly as cross-validation scores the
networks of the folds: what the phantoms teach on their own, and what a network is worth on a hospital of which it has
seen nothing. Only calibration and thresholds come from CT-ICH, each fold's from the other folds.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ich_node.training.evaluate import options
from ich_node.training.learn import crossval, default
from ich_node.training.learn.recipe import FOLDS, Recipe, Workshop


def measure(shop: Workshop, recipe: Recipe, weights: Path) -> dict[str, Any]:
    """Figures of the network in the file `weights` on every patient; its predictions are kept in OUT."""
    default.keep_real(shop)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    network = default.network_from(weights, recipe.second.size)
    folder = f"left_out_{digest[:8]}"  # beside those out of fold; another network's are never taken for this one's
    for fold in range(FOLDS):
        crossval.predict(shop, recipe, network, fold, folder)
    found = crossval.read_predictions(shop, folder)
    names = np.unique(found["patient"])
    labels = np.stack([found["label"][found["patient"] == name].max(axis=0) for name in names])
    return {"weights_sha256": digest, **crossval.measured(found, names, labels)}


def main() -> None:
    """Measure, and write the figures as JSON."""
    arguments = options.parsed("left_out", __doc__, "root", "out", "weights", "figures")
    torch.set_num_threads(1)
    found = measure(Workshop(arguments.root, arguments.out), Recipe(), arguments.weights)
    options.write(arguments.figures, found)


if __name__ == "__main__":
    main()
