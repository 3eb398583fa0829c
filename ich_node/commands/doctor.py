"""`ich-node doctor`: what `check` cannot say in one line: the machine under the node, each finding with its remedy.

Looks at the driver and the libraries of CUDA, at the provider that is really obtained, at whether the disk keeps what
it says it wrote, at names, permissions and the service manager. Changes nothing but a probe file that it removes again.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ich_node.commands import check
from ich_node.runtime.config import Config

FSYNCS = 20  # enough for a median on a slow disk
TOO_FAST_S = 50e-6  # no device that survives a power cut answers faster; a write cache without protection does
ASK_WITHIN_S = 10  # chosen: per question: a person waits for the answer


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: its subject, whether it is well, what was found, and what to do if it is not."""

    subject: str
    well: bool
    detail: str
    remedy: str = ""


def findings(config: Config) -> Iterator[Finding]:
    """Every look, as it is taken: first what `check` says, then the machine."""
    for item in check.checks(config):
        yield Finding(item.subject, item.passed, item.detail, REMEDIES.get(item.subject.split()[0], ""))
    yield _runtime()
    yield _driver()
    yield from _cuda()
    yield _disk(config.state_dir)
    yield from _names(config)
    yield _permissions(config.state_dir)
    yield _service()


REMEDIES = {
    "spool": "see store.state_dir: a local file system, writable by the account ich-node, with room",
    "database": "restore node.db from a back-up, or move it away: it is rebuilt from the files",
    "clock": "run an NTP client, e.g. apt-get install chrony",
    "receive": "see receive.address and receive.port; ss -ltnp shows who listens",
    "receive.tls": "see receive.tls; openssl x509 -noout -text -in CERTIFICATE shows names and dates",
    "tls": "see tls of the destination",
    "model": "install again, or set infer.bundle; ich-node model verify says more",
    "inference": "see the lines on CUDA below",
    "destination": "ich-node echo NAME; add this node's AE title and address at the PACS",
    "destinations": "set deliver.destinations",
}


def _runtime() -> Finding:
    """One ONNX Runtime, never two: the later one hides the other's providers."""
    found = {name: version for name in ("onnxruntime", "onnxruntime-gpu") if (version := _version(name))}
    detail = ", ".join(f"{name} {version}" for name, version in found.items()) or "not installed"
    return Finding("ONNX Runtime", len(found) == 1, detail, "pip uninstall onnxruntime onnxruntime-gpu; install again")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> Finding:
    """NVIDIA's driver; without a GPU there is none, and the CPU works."""
    if shutil.which("nvidia-smi") is None:
        return Finding("NVIDIA driver", True, "none: the node works on the CPU")
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=ASK_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("NVIDIA driver", False, "nvidia-smi does not answer", "restart the machine; see dmesg for Xid")
    detail = "; ".join(answer.stdout.split("\n")).strip("; ") or answer.stderr.strip().splitlines()[0]
    return Finding("NVIDIA driver", answer.returncode == 0, detail, "install the driver that fits the kernel")


def _cuda() -> Iterator[Finding]:
    """The libraries that ONNX Runtime's CUDA provider loads: from pip's packages or the system's."""
    if shutil.which("nvidia-smi") is None:
        return
    for name, package in (("cudart", "cuda"), ("cublas", "cuda"), ("cudnn", "cudnn")):
        installed = [d.name for d in metadata.distributions() if d.name.startswith("nvidia-") and name[:4] in d.name]
        system = ctypes.util.find_library(name)
        found = system or ", ".join(installed)
        yield Finding(f"library {name}", bool(found), found or "not found", f"pip install 'ich-node[{package}]'")


def _disk(folder: Path) -> Finding:
    """How long the disk takes to force a small write: an answer in no time means that nothing was forced."""
    probe = folder / ".doctor"
    times = []
    try:
        descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY, 0o600)
    except OSError as error:
        return Finding("forced writes", False, f"{folder}: {error.strerror}", REMEDIES["spool"])
    try:
        for _ in range(FSYNCS):
            os.write(descriptor, b"x" * 4096)
            began = time.perf_counter()
            os.fsync(descriptor)
            times.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)
    median = sorted(times)[FSYNCS // 2]
    detail = f"{median * 1000:.2f} ms each, about {1 / median:.0f} a second"
    remedy = "a disk in memory or a write cache without a battery loses what was acknowledged in a power cut"
    return Finding("forced writes", median > TOO_FAST_S, detail, remedy)


def _names(config: Config) -> Iterator[Finding]:
    for destination in config.deliver.destinations:
        try:
            found = {str(item[4][0]) for item in socket.getaddrinfo(destination.host, destination.port)}
        except OSError as error:
            yield Finding(
                f"name {destination.host}", False, error.strerror or str(error), "use its address, or mend DNS"
            )
        else:
            yield Finding(f"name {destination.host}", True, ", ".join(sorted(found)))


def _permissions(folder: Path) -> Finding:
    """Images are for the service account and its group."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        return Finding("permissions", False, f"{folder}: {error.strerror}", REMEDIES["spool"])
    foreign = [path.name for path in sorted(folder.iterdir()) if path.stat().st_uid != folder.stat().st_uid]
    if foreign:
        detail = f"{folder}: {', '.join(foreign)} belong to another account than the folder"
        return Finding("permissions", False, detail, f"chown -R --reference={folder} {folder}; restart the node")
    well = not mode & 0o007
    return Finding("permissions", well, f"{folder}: mode {mode:04o}", f"chmod o= {folder}: it holds images of patients")


def _service() -> Finding:
    """What systemd says of the parts, where it is there."""
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
        return Finding("service manager", True, "no systemd here: run `ich-node run` under what you have")
    ask = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "ich-node*"]
    answer = subprocess.run(ask, capture_output=True, text=True, timeout=ASK_WITHIN_S, check=False)
    units = [line.split() for line in answer.stdout.splitlines() if line.strip()]
    failed = [unit[0] for unit in units if len(unit) > 3 and "failed" in unit[2:4]]
    detail = ", ".join(f"{unit[0]} {unit[3]}" for unit in units if len(unit) > 3) or "units are not installed"
    return Finding("service manager", not failed, detail, f"journalctl -u {failed[0]}" if failed else "")
