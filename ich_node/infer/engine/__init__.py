"""The seam between the pipeline and whatever runs the network: `Engine`, what it answers, and how the node opens one.

In: head boxes in HU. Out: logits, CAM and features. Reading this module loads no inference runtime; another engine (a
Triton server, say) is a class with these four names, given to the worker or the pipeline.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ich_node.domain.errors import EngineFailure, ModelError
from ich_node.domain.findings import LABELS
from ich_node.infer.bundle import Model
from ich_node.runtime.config import InferConfig

Floats = npt.NDArray[np.float32]


class Output(NamedTuple):
    """What the network says about n slices.

    logits: float32 [n, 6]. cam: float32 [n, 6, h, w], logits of cells. features: float32 [n, F].
    provider: what ran this time, for people and for result.json. sequence: float32 [n, 6], what the bundle's sequence
    head makes of these slices as one series, None without one.
    """

    logits: Floats
    cam: Floats
    features: Floats
    provider: str
    sequence: Floats | None = None


class Engine(Protocol):
    """One network, ready for the life of a worker; one caller at a time."""

    @property
    def name(self) -> str:
        """What runs the network when nothing is wrong."""
        ...

    @property
    def recoverable(self) -> bool:
        """Whether the engine may be used again after an EngineFailure; if not, its process must end."""
        ...

    def run(self, hu: npt.NDArray[np.int16]) -> Output:
        """HU [slices, rows, columns] of one series, foot to head → one answer per slice, in their order.

        Raises EngineFailure when the runtime fails, ModelError when the output is not finite or has another shape.
        """
        ...

    def self_test(self) -> float:
        """Run the manifest's self-test; the largest difference from its answer. Raises ModelError above tolerance."""
        ...


def checked(answer: Output, slices: int) -> Output:
    """An answer as the seam promises it. Raises ModelError when it is not finite or of another shape."""
    if answer.logits.shape != (slices, len(LABELS)) or answer.cam.shape[:2] != answer.logits.shape:
        shapes = f"{answer.logits.shape} and {answer.cam.shape}"
        raise ModelError(f"the model answered with shapes {shapes} to {slices} slices")
    corrected = answer.logits if answer.sequence is None else answer.sequence
    if corrected.shape != answer.logits.shape:
        raise ModelError(f"the sequence head answered with shape {corrected.shape} to {slices} slices")
    if not all(np.isfinite(array).all() for array in (answer.logits, answer.cam, answer.features, corrected)):
        raise ModelError("the model's output holds values that are not finite")
    return answer


def open_engine(config: InferConfig, model: Model) -> Engine:
    """The engine that the configuration asks for.

    Raises ModelError when the graph cannot be loaded or a server has another one, EngineFailure when CUDA was asked for
    and is not obtained, or the server not reached.
    """
    if config.engine == "triton":
        try:
            from ich_node.infer.engine.triton import TritonEngine  # noqa: PLC0415 — tritonclient comes with an extra
        except ModuleNotFoundError as error:
            raise EngineFailure("infer.engine: triton needs tritonclient: pip install 'ich-node[triton]'") from error
        return TritonEngine(config.triton, model)
    from ich_node.infer.engine.ort import OrtEngine  # noqa: PLC0415 — whoever only names the seam loads no runtime

    return OrtEngine(model.graph, model.manifest.self_test, config.provider, config.threads, model.sequence)
