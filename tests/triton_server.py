"""The tritonserver of the tests (tests/interop/tritonserver/install.sh), and a model repository that it can run."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

from ich_node.infer.bundle import Model
from ich_node.infer.engine import triton

SERVER = Path(__file__).parent / "interop" / "tritonserver" / "server" / "pytriton" / "tritonserver"
BACKEND = """
import sys
from pathlib import Path

sys.path[:0] = PACKAGES
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

NAMES = ["logits", "cam", "features"]


class TritonPythonModel:
    def initialize(self, arguments):
        graph = Path(arguments["model_repository"]) / arguments["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        answers = []
        for request in requests:
            # by DLPack: the backend's own conversions read the item size of an array where NumPy 1 kept it
            hu = np.from_dlpack(triton.get_input_tensor_by_name(request, "hu")).copy()
            arrays = self.session.run(NAMES, {"hu": hu})
            tensors = [triton.Tensor.from_dlpack(name, array) for name, array in zip(NAMES, arrays)]
            answers.append(triton.InferenceResponse(output_tensors=tensors))
        return answers
"""


def repository(model: Model, folder: Path) -> Path:
    """What the node writes for Triton, run by the Python backend; without the warm-up of a batch of whole slices."""
    triton.write_repository(model, folder)
    place = folder / triton.model_name(model)
    text = (place / "config.pbtxt").read_text()
    text = text.replace('platform: "onnxruntime_onnx"', 'backend: "python"')
    text = re.sub(r"^model_warmup.*$", "", text, flags=re.M).replace("KIND_AUTO", "KIND_CPU")
    (place / "config.pbtxt").write_text(text)
    packages = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (place / "1" / "model.py").write_text(BACKEND.replace("PACKAGES", repr(packages)))
    return folder


def command(models: Path, address: str, port: int) -> list[str]:
    """How the server is started on a repository, gRPC only."""
    words = [str(SERVER / "bin" / "tritonserver"), f"--model-repository={models}"]
    words += [f"--backend-directory={SERVER / 'backends'}", f"--grpc-port={port}", f"--grpc-address={address}"]
    return [*words, "--allow-http=false", "--allow-metrics=false", "--log-verbose=0", "--exit-timeout-secs=1"]


def environment() -> dict[str, str]:
    """Its environment: its Python backend needs our libpython."""
    libraries = os.pathsep.join(filter(None, (sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH"))))
    return {**os.environ, "LD_LIBRARY_PATH": libraries}
