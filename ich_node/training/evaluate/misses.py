"""What the bundle misses, as a picture: python -m ich_node.training.evaluate.misses --help.

The phantoms of `evaluate.stress`, heads that training never saw: no patient is shown. Above, the slices with hemorrhage
(outlined) that got least evidence; below, those without that got most. One slice of a study each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from ich_node.infer import bundle
from ich_node.infer.engine.ort import OrtEngine
from ich_node.infer.see.crop import crop_stack
from ich_node.training.evaluate import options, stress
from ich_node.training.learn.recipe import Workshop

SHOWN = 8  # chosen: a line that fits a page
TILE = 160  # pixels of one
WINDOW_HU = (0.0, 80.0)  # the brain window: 40 ± 40
GREEN = (60, 220, 90)
Box = npt.NDArray[np.int16]


class Slice(NamedTuple):
    """A head box in HU, its lesion, and the logit of "any" that it got."""

    hu: Box
    mask: npt.NDArray[np.bool_]
    logit: float


def worst(slices: Sequence[Slice]) -> tuple[Slice | None, Slice | None]:
    """Of one study the slice with hemorrhage that got least, and the one without that got most."""
    missed = min((one for one in slices if one.mask.any()), key=lambda one: one.logit, default=None)
    alarm = max((one for one in slices if not one.mask.any()), key=lambda one: one.logit, default=None)
    return missed, alarm


def sheet(slices: Sequence[Slice]) -> npt.NDArray[np.uint8]:
    """A line of pictures [TILE, SHOWN · TILE, 3], lesions outlined; black where there are too few."""
    line = np.zeros((TILE, SHOWN * TILE, 3), np.uint8)
    for number, one in enumerate(slices[:SHOWN]):
        line[:, number * TILE : (number + 1) * TILE] = _tile(one)
    return line


def _tile(one: Slice) -> npt.NDArray[np.uint8]:
    low, high = WINDOW_HU
    grey = np.clip((one.hu - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    picture = np.asarray(Image.fromarray(grey).resize((TILE, TILE), Image.Resampling.BILINEAR))
    lesion = np.asarray(Image.fromarray(one.mask).resize((TILE, TILE), Image.Resampling.NEAREST))
    rgb = np.repeat(picture[..., None], 3, axis=2)
    rgb[ndimage.binary_dilation(lesion, iterations=2) & ~ndimage.binary_dilation(lesion)] = GREEN
    return rgb


def _seen(study: stress.Phantom, engine: OrtEngine) -> list[Slice]:
    """The slices of a study whose label is clear, as the network sees them."""
    box = crop_stack(study.study.hu, study.study.spacing_mm)
    logits = engine.run(box.hu).logits[:, 0]
    masks = [np.asarray(box.to_box(mask, index), np.bool_) for index, mask in enumerate(study.masks)]
    ill = study.study.labels[:, 0] > 0
    return [
        Slice(hu, mask, float(logit))
        for hu, mask, logit, called in zip(box.hu, masks, logits, ill, strict=True)
        if called == mask.any()
    ]


def main() -> None:
    """Look at the phantoms, and draw the worst slices."""
    arguments = options.parsed("misses", __doc__, "root", "out", "bundle", "picture")
    model = bundle.load(arguments.bundle)
    engine = OrtEngine(model.graph, provider="cpu", threads=1)
    found = [worst(_seen(make(), engine)) for make in stress.scanned(Workshop(arguments.root, arguments.out))]
    missed = sorted((one for one, _ in found if one is not None), key=lambda one: one.logit)
    alarms = sorted((one for _, one in found if one is not None), key=lambda one: -one.logit)
    Image.fromarray(np.vstack([sheet(missed), sheet(alarms)])).save(arguments.picture)


if __name__ == "__main__":
    main()
