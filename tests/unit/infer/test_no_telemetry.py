"""Nothing leaves the node that nobody asked for."""

from __future__ import annotations

import os
import subprocess
import sys


def test_onnx_runtime_keeps_no_device_identifier_for_telemetry(tmp_path):
    code = "import ich_node.infer.engine.ort as e; e.onnxruntime.SessionOptions(); print(e.onnxruntime.__version__)"
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    home.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", code], env=home, capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    assert list(tmp_path.iterdir()) == []
