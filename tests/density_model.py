"""A model without a network: it calls blood what is as dense as blood. For tests that need a verdict, not a good one.

The CAM has cells of 16 × 16 pixels; a cell's logit rises with the share of its pixels between 55 and 95 HU that have
only such neighbours, and the logit of a slice is the log-mean-exp of its cells, as in the real network.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ich_node.domain.findings import LABELS
from ich_node.infer.bundle import Manifest, Model
from ich_node.infer.engine import Output

CELL = 16
SHARPNESS = 4.0


def density_model(any_threshold: float = 0.5, stat_threshold: float = 0.9) -> Model:
    """A model card with plain calibration; every type has the threshold of "any"."""
    rule = {"scale": [1.0] * len(LABELS), "bias": [0.0] * len(LABELS)}
    thresholds = {"present": dict.fromkeys(LABELS, any_threshold), "stat": dict.fromkeys(LABELS, stat_threshold)}
    manifest = {
        "id": "density",
        "version": "1",
        "sha256": "0" * 64,
        "labels": LABELS,
        "aggregation": {"slice_half_width_mm": 10.0, "study_half_width_mm": 5.0, "study_span_mm": 15.0},
        "calibration": {"slice": rule, "study": rule},
        "operating_points": {name: {"thresholds": limits} for name, limits in thresholds.items()},
        "present_at": "present",
        "stat_at": "stat",
        "cam": {"threshold": 0.5},
    }
    return Model(Manifest.model_validate(manifest), b"")


class DensityEngine:
    """An `infer.engine.Engine` without a network."""

    name = "CPUExecutionProvider"
    recoverable = True

    def run(self, hu):
        """HU [slices, rows, columns] → logits, CAM and features."""
        smooth = ndimage.uniform_filter(hu.astype(np.float32), (0, 3, 3))
        dense = (smooth > 55) & (smooth < 95)
        dense = ndimage.minimum_filter(dense.astype(np.uint8), (1, 7, 7))
        rows, columns = (size // CELL for size in hu.shape[1:])
        cells = dense[:, : rows * CELL, : columns * CELL].reshape(len(hu), rows, CELL, columns, CELL)
        share = cells.mean(axis=(2, 4), dtype=np.float32)
        cam = np.repeat((12 * np.minimum(share * 4, 1) - 6)[:, None], len(LABELS), axis=1)
        cam[:, 1:] -= 2
        peak = cam.max(axis=(2, 3), keepdims=True)
        mean = np.exp(SHARPNESS * (cam - peak)).mean(axis=(2, 3))
        logits = peak[:, :, 0, 0] + np.log(mean) / SHARPNESS
        features = np.zeros((len(hu), 4), np.float32)
        return Output(logits.astype(np.float32), cam.astype(np.float32), features, self.name)

    def self_test(self):
        """Nothing to hold against anything."""
        return 0.0
