"""The network without the label maps: python -m ich_node.training.evaluate.left_out_maps --help.

The reverse of `evaluate.left_out`: all phantoms of a training, in both phases, are heads from formulas, and heads from
label maps are what it is asked about. Beside it a training of the same steps, seed, patients and number of phantoms
that does see label maps: half of the heads, of which none is asked about. So the difference is that of the source, and
of neither the budget nor the heads. Both begin with the weights of ImageNet.

Phantoms, checkpoints and predictions are kept in OUT, and a run that was ended goes on with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ich_node.infer.see.crop import crop_stack
from ich_node.phantom.lesions import TYPES
from ich_node.phantom.tissue import Head
from ich_node.training.data import label_maps
from ich_node.training.data.pool import Pool, joined, load, save
from ich_node.training.evaluate import gains, options, short, stress
from ich_node.training.learn import default
from ich_node.training.learn.batches import Source
from ich_node.training.learn.network import Network
from ich_node.training.learn.recipe import Recipe, Workshop
from ich_node.training.learn.train import Phase, Trainer
from ich_node.training.synthesis import scans

FIRST_STEPS, SECOND_STEPS = 80, 40  # chosen: minutes of one core
FIRST_RATE = 1e-3  # chosen: that of the recipe, less for smaller batches
CHUNKS = 4  # chosen: 16 scans of phantoms, some 230 slices
STUDIES = 2  # of every head that is asked about; the first one bleeds
CONTROL, LEFT_OUT = "with label maps", "without label maps"
PHASES = ("first", "second")


class Comparison:
    """Heads, phantoms and patients, made once and kept in OUT."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.folder = shop.out / "left_out_maps"
        default.keep_real(shop)
        scans.heads(shop.data / "head_label_maps", shop.heads)
        files = sorted(shop.heads.glob("*.npz"))
        self.taught, self.asked = files[::2], files[1::2]

    def phantoms(self, arm: str) -> Pool:
        """The phantoms of an arm: the same number of scans, as the recipe makes them of its heads."""
        folder = self.folder / arm
        folder.mkdir(parents=True, exist_ok=True)
        known: dict[Path, Head] = {}
        for number in range(CHUNKS):
            path = scans.path_of(number, folder)
            if not path.exists():
                files = self.taught if arm == CONTROL else []
                save(scans.chunk(number, Recipe().seed, files, known), path)
        return joined([load(scans.path_of(number, folder)) for number in range(CHUNKS)])

    def trained(self, arm: str) -> Iterator[Network]:
        """The network of an arm after phantoms alone, and after patients, paintings and phantoms."""
        seed = Recipe().seed
        phantoms = short.phantoms(self.phantoms(arm))
        torch.manual_seed(seed)
        count = sum(short.USUAL.values())
        first = Phase(f"{arm}_first", {"phantoms": count}, FIRST_STEPS, size=short.SIZE, rate=FIRST_RATE, seed=seed)
        network = Trainer(Network(short.SIZE), first, self.folder, short.CPU).run({"phantoms": phantoms})
        yield network
        real = load(self.shop.real)
        everyone = np.arange(len(real))
        canvases = short.canvases_in(self.shop.out / "canvases_right.npz", real)
        sources: dict[str, Source] = {
            "real": short.real(real, everyone),
            "painted": short.painted(real, canvases, everyone, short.USUAL["painted"]),
            "phantoms": phantoms,
        }
        second = Phase(f"{arm}_second", short.USUAL, SECOND_STEPS, size=short.SIZE, rate=short.RATE, seed=seed)
        yield Trainer(network, second, self.folder, short.CPU).run(sources)

    def predictions(self, arm: str, phase: str) -> Path:
        """The file of what an arm says after a phase."""
        return self.folder / f"{arm}_{phase}.npz"

    def predict(self, arm: str) -> None:
        """Train an arm and ask it, after either phase."""
        files = [self.predictions(arm, phase) for phase in PHASES]
        if all(path.exists() for path in files):
            return
        for path, network in zip(files, self.trained(arm), strict=True):
            if not path.exists():
                short.keep(path, (self._said(network, *one) for one in self._asked()))

    def _asked(self) -> Iterator[tuple[int, Path, int]]:
        """Number, head and number within it of every study that is asked about."""
        for number, path in enumerate(self.asked):
            for one in range(STUDIES):
                yield number * STUDIES + one, path, number

    def _said(self, network: Network, number: int, path: Path, head: int) -> dict[str, npt.NDArray[Any]]:
        hu, labels = self._study(number, path)
        count = len(hu)
        return {
            "patient": np.full(count, number),
            "group": np.full(count, head),
            "slice": np.arange(count),
            "label": labels,
            "logit": short.answers(network, hu),
        }

    def _study(self, number: int, path: Path) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
        """Head boxes and labels of a study, kept because making one costs more than asking."""
        kept = self.folder / "asked" / f"{number:03d}.npz"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            label = None if number % 2 else TYPES[number // 2 % len(TYPES)]
            made = stress.phantom(label_maps.load(path), label, number).study
            part = kept.with_suffix(".part")
            with part.open("wb") as stream:
                np.savez(stream, hu=crop_stack(made.hu, made.spacing_mm).hu, labels=made.labels)
            part.rename(kept)
        with np.load(kept) as arrays:
            return arrays["hu"], arrays["labels"]

    def figures(self) -> dict[str, Any]:
        """What either arm reached after each phase that both have, and what was gained with label maps."""
        found: dict[str, Any] = {}
        for phase in PHASES:
            files = {arm: self.predictions(arm, phase) for arm in (LEFT_OUT, CONTROL)}
            if all(path.exists() for path in files.values()):
                base = gains.said([files[LEFT_OUT]])
                found[phase] = {arm: gains.figures(gains.said([path]), base) for arm, path in files.items()}
        return {
            "steps": [FIRST_STEPS, SECOND_STEPS],
            "slices_a_step": sum(short.USUAL.values()),
            "size": short.SIZE,
            "phantom_scans": CHUNKS * scans.SCANS_PER_CHUNK,
            "heads_taught": len(self.taught),
            "heads_asked": len(self.asked),
            "phases": found,
        }


def main() -> None:
    """Train and ask both arms, and write the figures."""
    arguments = options.parsed("left_out_maps", __doc__, "root", "out", "figures")
    torch.set_num_threads(1)
    comparison = Comparison(Workshop(arguments.root, arguments.out))
    for arm in (LEFT_OUT, CONTROL):
        comparison.predict(arm)
    options.write(arguments.figures, comparison.figures())


if __name__ == "__main__":
    main()
