"""ONNX Runtime, and nothing but ONNX Runtime: one session that turns head boxes into logits, CAM and features.

This is the only module that imports onnxruntime. Which execution provider was asked for and which one really ran are
both visible; there is no silent fall-back from a GPU. A GPU sees one batch shape for life, because every new shape
costs a search for convolution algorithms; when its memory is full a smaller batch is tried and then, for this series
only, the CPU, and each is a warning in the log.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from ich_node.domain.errors import EngineFailure, ModelError
from ich_node.infer.bundle import SelfTest
from ich_node.infer.engine import Output, checked, self_test
from ich_node.runtime import cores, logs

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
OUTPUTS = ("logits", "cam", "features")
DRIVER = Path("/proc/driver/nvidia/version")

CPU_BATCH = 1
"""Slices per run on the CPU: 1, 2 and 4 take the same CPU time, and the memory grows with them."""

CUDA_BATCHES = (32, 8)
"""Slices per run on a GPU: a usual head is one batch; the second number is tried when the first does not fit."""

CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",  # .4 s for a new shape instead of 1.3 s, and as fast afterwards
    "use_tf32": "0",  # TF32 moves logits by .03, fp32 by 1e-6
    "arena_extend_strategy": "kSameAsRequested",
    "gpu_mem_limit": str(4 << 30),  # bytes; a batch of 32 takes 1.2 GB, and other workers want theirs
}
NO_MEMORY = ("out of memory", "Failed to allocate memory", "smaller than requested bytes", "ALLOC_FAILED")
"""How ONNX Runtime's allocators, CUDA and cuDNN say that memory is full."""

NATIVE_ERRORS: tuple[type[Exception], ...] = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NotImplemented,
    native.RuntimeException,
)
UNFIT: tuple[type[Exception], ...] = (*NATIVE_ERRORS, ValueError)
"""What a graph with other inputs raises; ValueError: of other names."""
Hu = npt.NDArray[np.int16]


class OutOfMemory(EngineFailure):
    """The device has no room for a batch."""


class OrtEngine:
    """One inference session for the life of a worker. asked: the wanted provider; name: the one that was obtained."""

    def __init__(
        self,
        graph: bytes,
        test: SelfTest | None = None,
        provider: str = "auto",
        threads: int = 0,
        head: bytes | None = None,
    ) -> None:
        """Open the session on the bytes of a graph; test: what `self_test` expects.

        provider: "auto", "cuda" or "cpu"; threads: of the CPU provider, 0 for all the cores that may be used. head: the
        bytes of the sequence head, which runs on the CPU everywhere: it takes a thousandth of the network's work.
        Raises ModelError when the graph cannot be loaded, EngineFailure when CUDA was asked for and is not obtained.
        """
        self.asked = provider
        self._graph, self._test, self._threads = graph, test, threads or cores.usable()
        cores.keep_blas_to_one_thread()
        wanted = provider == "cuda" or (provider == "auto" and DRIVER.exists())
        self._session = _open(graph, cuda=wanted)
        self.name = str(self._session.get_providers()[0])
        if provider == "cuda" and self.name != CUDA:
            raise EngineFailure(f"CUDA was asked for, but only {self.name} could be obtained")
        self._batches = list(CUDA_BATCHES if self.name == CUDA else (CPU_BATCH,))
        self._spare: Any = None
        self._head = None if head is None else _open(head, cuda=False)

    @property
    def recoverable(self) -> bool:
        """A CUDA context does not survive its errors; the CPU does."""
        return self.name == CPU

    def run(self, hu: Hu) -> Output:
        """HU [slices, rows, columns] → one answer per slice, in their order (see `Engine.run`)."""
        while True:
            try:
                answer = self._run(self._session, self.name, self._batches[0], hu)
                break
            except OutOfMemory as full:
                if self.name == CPU:
                    raise
                answer_on_cpu = len(self._batches) == 1
                logs.get().warning("gpu_memory_full", batch=self._batches[0], reason=str(full), on_cpu=answer_on_cpu)
                if answer_on_cpu:
                    self._spare = self._spare or _open(self._graph, cuda=False)
                    answer = self._run(self._spare, CPU, CPU_BATCH, hu)
                    break
                del self._batches[0]
        answer = checked(answer, len(hu))
        return answer if self._head is None else checked(self._in_sequence(self._head, answer), len(hu))

    def self_test(self) -> float:
        """The largest difference from the manifest's answer (see `Engine.self_test`); also warms a GPU up."""
        if self._test is None:
            raise ModelError("the manifest has no self-test")
        tolerance = self._test.tolerance
        return self_test.difference(self.run, self._test, tolerance.cuda if self.name == CUDA else tolerance.cpu)

    def _in_sequence(self, head: Any, said: Output) -> Output:
        """What the sequence head makes of the slices, beside what the network said."""
        try:
            (corrected,) = head.run(["corrected"], {"features": said.features[None], "logits": said.logits[None]})
        except UNFIT as error:
            raise ModelError(f"the sequence head does not fit the network: {error}") from error
        return said._replace(sequence=corrected[0])

    def _run(self, session: Any, provider: str, size: int, hu: Hu) -> Output:
        """Batches of `size`: on a GPU one by one, the last one filled up with air; on the CPU one on each core."""

        def answer(start: int) -> list[npt.NDArray[np.float32]]:
            batch = np.ascontiguousarray(hu[start : start + size], np.int16)
            count = len(batch)
            if provider == CUDA and count < size:
                batch = np.concatenate([batch, np.full((size - count, *batch.shape[1:]), -1024, np.int16)])
            try:
                arrays = session.run(OUTPUTS, {"hu": batch}, None)
            except NATIVE_ERRORS as error:
                kind = OutOfMemory if any(words in str(error) for words in NO_MEMORY) else EngineFailure
                raise kind(f"inference on {provider} failed: {error}") from error
            return [array[:count] for array in arrays]

        with ThreadPoolExecutor(1 if provider == CUDA else self._threads) as pool:
            parts = list(pool.map(answer, range(0, len(hu), size)))
        logits, cam, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Output(logits, cam, features, provider)


def _open(graph: bytes, *, cuda: bool) -> Any:
    """A session. On the CPU a run keeps to the thread that asks for it: what several share costs a third more."""
    providers: list[Any] = [CPU]
    if cuda and CUDA in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()
        providers.insert(0, (CUDA, CUDA_OPTIONS))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except NATIVE_ERRORS as error:
        raise ModelError(f"the graph cannot be loaded: {error}") from error
