"""The arguments of `ich-node train`; torch is loaded only when training starts."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import replace
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "--data", choices=("default", "rsna"), required=True, help="recipe of the shipped bundle, or RSNA"
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="where the data are")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoints, predictions and bundle")
    parser.add_argument("--version", default="1.0.0", metavar="TEXT", help="version that the manifest states (1.0.0)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of the last phase instead of the recipe's")
    parser.add_argument("--size", type=int, metavar="PX", help="image size of the network instead of the recipe's")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        metavar="N",
        help="training in all, where they end before the steps do",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="start from these instead of ImageNet's")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where to train (auto)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes or threads")


def run(arguments: argparse.Namespace) -> int:
    """Train as the arguments say; an interrupted run goes on from its checkpoints in --out."""
    if arguments.data == "rsna":
        _challenge(arguments)
    else:
        _default(arguments)
    return 0


def _challenge(arguments: argparse.Namespace) -> None:
    from ich_node.training.learn import challenge  # noqa: PLC0415 — torch takes seconds to load

    phase = challenge.CHALLENGE
    phase = replace(phase, steps=arguments.steps or phase.steps, size=arguments.size or phase.size)
    settings = challenge.Settings(phase=phase)
    challenge.run(arguments.root, arguments.out, settings, version=arguments.version, device=arguments.device)


def _default(arguments: argparse.Namespace) -> None:
    from ich_node.training.learn import default  # noqa: PLC0415 — torch takes seconds to load
    from ich_node.training.learn import recipe as recipes  # noqa: PLC0415

    first, second = recipes.FIRST, recipes.SECOND
    size = arguments.size or second.size
    recipe = recipes.Recipe(
        first=replace(first, size=size),
        second=replace(second, steps=arguments.steps or second.steps, size=size),
        minutes=arguments.minutes,
        weights=arguments.weights,
    )
    shop = recipes.Workshop(arguments.root, arguments.out)
    bundle = arguments.out / "bundle"
    default.run(shop, recipe, bundle, version=arguments.version, device=arguments.device, workers=arguments.workers)
