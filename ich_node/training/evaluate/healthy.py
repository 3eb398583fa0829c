"""What the bundle calls heads without hemorrhage: python -m ich_node.training.evaluate.healthy --help.

Phantoms of formulas, cropped and without gates, as whole studies: their P(any) and the priority that it gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ich_node.domain.findings import LABELS, Priority
from ich_node.infer import bundle
from ich_node.infer.engine import Engine
from ich_node.infer.engine.ort import OrtEngine
from ich_node.infer.see.crop import crop_stack
from ich_node.phantom.head import phantom
from ich_node.training.evaluate import options

PIXELS = 256  # chosen: pixels of 0.9 mm are what the network sees, and a quarter of the work
SHAPED, FRESH = range(16), range(16, 32)
"""Seeds of the heads that the anatomy of the formulas was held against while it was shaped, and of others."""


def measure(model: bundle.Model, engine: Engine, seeds: Sequence[int]) -> dict[str, Any]:
    """How many of the heads get which priority from their P(any), and P(any) of each."""
    found: dict[str, Any] = {str(priority): 0 for priority in Priority}
    counts: Counter[str] = Counter()
    probabilities = {}
    for seed in seeds:
        made = phantom(None, seed=seed, rows=PIXELS, columns=PIXELS)
        said = engine.run(crop_stack(made.hu, made.spacing_mm).hu)
        heights_mm = np.arange(len(said.logits)) * made.spacing_mm[0]
        value = float(model.predict(said.logits, said.cam, heights_mm).study_probability[0])
        counts[_priority(value, model)] += 1
        probabilities[str(seed)] = round(value, 3)
    return {**{name: counts[name] for name in found}, "p_any": probabilities}


def _priority(value: float, model: bundle.Model) -> str:
    if value >= model.card.stat_threshold:
        return str(Priority.STAT)
    return str(Priority.HIGH if value >= model.card.thresholds[LABELS[0]] else Priority.ROUTINE)


def main() -> None:
    """Measure, and write the figures as JSON."""
    arguments = options.parsed("healthy", __doc__, "bundle", "figures")
    model = bundle.load(arguments.bundle)
    engine = OrtEngine(model.graph, provider="cpu", threads=1)
    sets = {f"seeds {seeds[0]} to {seeds[-1]}": measure(model, engine, seeds) for seeds in (SHAPED, FRESH)}
    options.write(arguments.figures, {"bundle": model.manifest.version, "sets": sets})


if __name__ == "__main__":
    main()
