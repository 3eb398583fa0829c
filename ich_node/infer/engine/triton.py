"""NVIDIA Triton Inference Server as the engine: several workers share the GPUs of one server (`infer.engine: triton`).

This is the only module that imports tritonclient. The model is asked for by a name that holds the hash of its graph, so
that a server with another graph has no such model and answers with an error: never with other numbers. The server
batches what several workers ask. A server that does not answer within the deadline is an EngineFailure: the job goes
back to the queue, and never to a CPU in silence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from ich_node.domain.errors import EngineFailure, ModelError
from ich_node.domain.findings import LABELS
from ich_node.infer.bundle import Model
from ich_node.infer.engine import Output, checked, self_test
from ich_node.runtime.config import TritonConfig

OUTPUTS = ("logits", "cam", "features")
BATCH = 32  # slices in a request: a usual head is one
HASH_DIGITS = 16  # of the model's name: 64 bits tell apart every bundle that will ever be made
QUEUE_DELAY_US = 2000  # how long the server waits for slices of other workers: a hundredth of a head's time on a CPU
WARM_ROWS, WARM_COLUMNS = 512, 512  # the largest box: what the first study would otherwise wait for
HASH_PARAMETER = "bundle_sha256"


class TritonEngine:
    """One model on a server for the life of a worker."""

    name = "Triton"
    recoverable = True  # nothing of it lives in this process

    def __init__(self, options: TritonConfig, model: Model) -> None:
        """Connect, and compare the server's model with the bundle.

        Raises EngineFailure when the server or its model is not ready, ModelError when the model is another one.
        """
        self._test = model.manifest.self_test
        self._model = model_name(model)
        self._deadline_s = options.timeout_s
        ca = None if options.ca is None else str(options.ca)
        self._client = triton.InferenceServerClient(options.address, ssl=ca is not None, root_certificates=ca)
        try:
            ready = self._client.is_model_ready(self._model, client_timeout=options.timeout_s)
            found = self._client.get_model_config(self._model, as_json=True, client_timeout=options.timeout_s)
        except triton.InferenceServerException as error:
            raise EngineFailure(f"Triton at {options.address} has no model {self._model}: {error}") from error
        parameter = found["config"].get("parameters", {}).get(HASH_PARAMETER, {})
        if not ready or parameter.get("string_value") != model.card.sha256:
            raise ModelError(f"the model {self._model} of Triton at {options.address} was not made from this bundle")

    def run(self, hu: npt.NDArray[np.int16]) -> Output:
        """HU [slices, rows, columns] → one answer per slice, in their order (see `Engine.run`)."""
        parts = [self._ask(np.ascontiguousarray(hu[start : start + BATCH])) for start in range(0, len(hu), BATCH)]
        logits, cam, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return checked(Output(logits, cam, features, self.name), len(hu))

    def self_test(self) -> float:
        """The largest difference from the manifest's answer (see `Engine.self_test`)."""
        if self._test is None:
            raise ModelError("the manifest has no self-test")
        return self_test.difference(self.run, self._test, self._test.tolerance.cuda)

    def _ask(self, hu: npt.NDArray[np.int16]) -> list[npt.NDArray[np.float32]]:
        batch = triton.InferInput("hu", list(hu.shape), "INT16")
        batch.set_data_from_numpy(hu)
        wanted = [triton.InferRequestedOutput(name) for name in OUTPUTS]
        try:
            answer = self._client.infer(self._model, [batch], outputs=wanted, client_timeout=self._deadline_s)
        except triton.InferenceServerException as error:
            raise EngineFailure(f"inference on Triton failed: {error}") from error
        arrays = [answer.as_numpy(name) for name in OUTPUTS]
        if any(array is None for array in arrays):
            raise ModelError("Triton's answer lacks an output of the model")
        return arrays


def model_name(model: Model) -> str:
    """What the model is called on a server. Raises ModelError for a bundle with a sequence head, which none runs."""
    if model.sequence is not None:
        raise ModelError("a bundle with a sequence head runs on infer.engine: onnxruntime only, not on Triton")
    return f"ich_{model.card.sha256[:HASH_DIGITS]}"


def write_repository(model: Model, folder: Path) -> list[str]:
    """Add the model to Triton's model repository in `folder`; one line for each file. Other models stay.

    Several versions of the bundle stand side by side, so that nodes of both versions can be served during an upgrade.
    """
    place = folder / model_name(model)
    files = {place / "1" / "model.onnx": model.graph, place / "config.pbtxt": configuration(model).encode()}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [str(path) for path in files]


def configuration(model: Model) -> str:
    """config.pbtxt: batches up to BATCH over all workers, one instance per GPU or one on the CPU, warm when ready."""
    outputs = f"""
  {{ name: "logits" data_type: TYPE_FP32 dims: [ {len(LABELS)} ] }},
  {{ name: "cam" data_type: TYPE_FP32 dims: [ {len(LABELS)}, -1, -1 ] }},
  {{ name: "features" data_type: TYPE_FP32 dims: [ -1 ] }}"""
    warm = f'key: "hu" value: {{ data_type: TYPE_INT16 dims: [ {WARM_ROWS}, {WARM_COLUMNS} ] zero_data: true }}'
    return f"""name: "{model_name(model)}"
platform: "onnxruntime_onnx"
max_batch_size: {BATCH}
input [ {{ name: "hu" data_type: TYPE_INT16 dims: [ -1, -1 ] }} ]
output [{outputs}
]
dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}
instance_group [ {{ count: 1 kind: KIND_AUTO }} ]
model_warmup [ {{ name: "a whole head" batch_size: {BATCH} inputs {{ {warm} }} }} ]
parameters {{ key: "{HASH_PARAMETER}" value: {{ string_value: "{model.card.sha256}" }} }}
"""
