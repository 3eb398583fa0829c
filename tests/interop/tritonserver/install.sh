#!/bin/sh
# Fetches a real tritonserver that runs on the CPU: it comes inside a Python package, of which only the server is taken.
# Can be run again. PYTHON: whose pip fetches it, and whose interpreter the server's Python backend runs.
set -eu
cd "$(dirname "$0")"
triton=server/pytriton/tritonserver
[ -x $triton/backends/python/triton_python_backend_stub ] && exit 0
rm -rf server wheel
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary :all: --dest wheel 'nvidia-pytriton==0.7.0'
"${PYTHON:-python3}" -m zipfile -e wheel/*.whl server
chmod +x $triton/bin/tritonserver
stub=$triton/python_backend_stubs/$("${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')/triton_python_backend_stub
install -m 755 "$stub" $triton/backends/python/
rm -r wheel
