"""What the commands of this folder are told and write: their options, each said once, and figures as JSON."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILES = {
    "root": ("DIR", "the data, as `train` has them"),
    "out": ("OUT", "what is kept from one run to the next; a run that was ended goes on with it"),
    "bundle": ("DIR", "the bundle that ships"),
    "weights": ("FILE", "weights that saw phantoms only"),
    "figures": ("FILE", "the figures, as JSON"),
    "picture": ("FILE", "the picture, as PNG"),
}
MINUTES = "minutes"


def parsed(command: str, text: str | None, *names: str) -> argparse.Namespace:
    """The arguments of the module `command` of this folder, whose docstring is `text`.

    names: of FILES, each of which must be given, and MINUTES, which may be: after these nothing is begun (infinity).
    """
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.{command}", description=text)
    for name in names:
        if name == MINUTES:
            what = "nothing is begun after these; a later run goes on"
            parser.add_argument(f"--{name}", type=float, default=math.inf, metavar="N", help=what)
        else:
            metavar, what = FILES[name]
            parser.add_argument(f"--{name}", type=Path, required=True, metavar=metavar, help=what)
    return parser.parse_args()


def write(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures where docs/ reads them."""
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
