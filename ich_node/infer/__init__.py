"""The infer role: from a whole series to published results."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reads it when it is loaded; a hospital's node phones nobody
