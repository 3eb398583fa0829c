"""How many CPU cores this process may keep busy, and that no two libraries each take all of them."""

from __future__ import annotations

import os
from pathlib import Path

from threadpoolctl import threadpool_limits

CGROUP = Path("/sys/fs/cgroup")


def usable(cgroup: Path = CGROUP) -> int:
    """Cores by affinity and by the CPU quota of the control group (cpu.max of cgroup v2), at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota(cgroup)))


def _quota(cgroup: Path) -> int:
    """Whole cores that the quota allows; a very large number without one."""
    unlimited = 1 << 16
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        folders = [cgroup / own.lstrip("/"), cgroup]
        lines = [(folder / "cpu.max").read_text() for folder in folders if (folder / "cpu.max").is_file()]
        shares = [line.split() for line in lines]
        return min((int(quota) // int(period) for quota, period in shares if quota != "max"), default=unlimited)
    except (OSError, ValueError):
        return unlimited


def keep_blas_to_one_thread() -> None:
    """The matrices around the network are small: BLAS threads would only get in the way of the engine's."""
    threadpool_limits(limits=1, user_api="blas")
