"""What a process can still do when it has given up its rights."""

from __future__ import annotations

import os
import subprocess
import sys

from ich_node.runtime import caged


def possible(memory: int, /, *, reads: bool, **attempts: str) -> list[str]:
    """Which attempts (name → expression of os and socket) succeed after `caged.confine`, in their order."""
    code = f"""
import os, socket
from ich_node.runtime import caged
caged.confine({memory}, reads={reads})
for name, attempt in {attempts!r}.items():
    try:
        eval(attempt)
    except (OSError, MemoryError):
        continue
    os.write(1, name.encode() + b" ")
os._exit(0)
"""
    environment = os.environ | {"PYTHONPATH": caged.package_path()}
    ran = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True, env=environment)
    return ran.stdout.split()
