"""Builds the image and runs a node of it: read-only root, an account without rights, one container for each part.

    python -m tests.container.boot DIR

As root, with debootstrap, buildah, podman, runc and DCMTK; no registry of images is needed, for the base is made by
debootstrap. A phantom goes in by storescu and its results come out to a PACS of the tests; the probes of the manifests
are asked; SIGTERM ends every part. Each step is one line; the first one that fails ends it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.crash.pacs import CountingPacs
from tests.crash.scanner import Patients, send_once
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("receive", "infer", "deliver", "board")
ACCOUNT = 10001
WITHIN_S = 240
BASE, IMAGE = "localhost/debian:bookworm-slim", "localhost/ich-node"


def main(folder: Path) -> None:
    """All of it; raises where something is not as it should be."""
    folder.mkdir(parents=True, exist_ok=True)
    root = build(folder)
    dicom, http = free_ports(2)
    state = folder / "state"
    state.mkdir()
    os.chown(state, ACCOUNT, ACCOUNT)
    with CountingPacs() as pacs:
        config = folder / "config"
        config.mkdir()
        (config / "ich_node.yaml").write_text(yaml.safe_dump(settings(dicom, http, pacs.port)))
        look(root, folder, config)
        parts = {part: start(part, root, folder, config) for part in PARTS}
        try:
            for part in ("receive", "infer", "deliver"):
                until(lambda part=part: probe(part, "startupProbe"), f"{part}: its startup probe passes")
                until(lambda part=part: probe(part, "livenessProbe"), f"{part}: its liveness probe passes")
            url = f"http://127.0.0.1:{http}/healthz"
            until(lambda: not subprocess.run(["curl", "-fsS", url], capture_output=True, check=False).returncode, url)
            series = Patients(folder / "sent").next()
            assert len(send_once(series, dicom)) == len(series)
            say(f"{len(series)} images were acknowledged")
            until(lambda: len(pacs.contents) >= 5, "pictures and reports are in the PACS")
        finally:
            for part in parts:
                subprocess.run(["runc", "kill", name(part), "TERM"], check=False, capture_output=True)
        codes = {part: process.wait(60) for part, process in parts.items()}
        assert set(codes.values()) == {0}, codes
        say("SIGTERM ended every part with exit code 0")


def build(folder: Path) -> Path:
    """The image by packaging/Containerfile, unpacked; the folder of its root file system."""
    store = ["--root", str(folder / "images"), "--runroot", str(folder / "run")]
    if not (folder / "images").exists():
        base = folder / "base"
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(base))
        with subprocess.Popen(["tar", "-C", str(base), "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(["podman", *store, "import", "-", BASE], stdin=tar.stdout, check=True, capture_output=True)
        say("a base of Debian was made")
    network = ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro"]  # a network whose own authority signs the package indices
    words = ["bud", "--layers", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={BASE}", *network]
    if "--built" in sys.argv:
        return Path(run("podman", *store, "image", "mount", IMAGE).strip())
    run("buildah", *store, *words, "-f", str(ROOT / "packaging/Containerfile"), "-t", IMAGE, str(ROOT))
    say("the image was built")
    return Path(run("podman", *store, "image", "mount", IMAGE).strip())


def settings(dicom: int, http: int, pacs: int) -> dict[str, Any]:
    """A small node on the host's network."""
    to = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs}
    return {
        "receive": {"port": dicom, "quiet_period_s": 3},
        "deliver": {"destinations": [to]},
        "store": {"state_dir": "/var/lib/ich_node", "min_free_gb": 0.1},
        "board": {"port": http},
    }


def look(root: Path, folder: Path, config: Path) -> None:
    """What a part may write to, as itself."""
    words = 'test "$(id -u)" = 10001 && find / -xdev -writable ! -path "/proc/*" -print; ! touch /opt/x 2>/dev/null'
    said = start("look", root, folder, config, ["sh", "-c", words], stdout=subprocess.PIPE).communicate()[0].decode()
    assert said.split() == ["/tmp", "/var/lib/ich_node"], said  # noqa: S108
    say("nothing but /tmp and the state directory can be written")


def start(part: str, root: Path, folder: Path, config: Path, words: list[str] | None = None, **how: Any) -> Any:
    """One container by runc, with what its manifest asks for: no rights, a root that cannot be written."""
    bundle = folder / "bundles" / part
    bundle.mkdir(parents=True)
    run("runc", "spec", cwd=bundle)
    spec = json.loads((bundle / "config.json").read_text())
    spec["root"] = {"path": str(root), "readonly": True}
    spec["hostname"] = part
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": ACCOUNT, "gid": ACCOUNT},
        "noNewPrivileges": True,
        "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted")},
        "env": ["PATH=/opt/ich_node/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1", "ICH_NODE_ALIVE=/tmp/alive"],
        "args": words or ["ich-node", part],
    }
    spec["process"].pop("rlimits", None)
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] != "cgroup"] + [
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},  # noqa: S108
        bound("/var/lib/ich_node", folder / "state", "rw"),
        bound("/etc/ich_node", config, "ro"),
    ]
    kinds = [space for space in spec["linux"]["namespaces"] if space["type"] not in ("network", "cgroup")]
    spec["linux"] |= {"namespaces": kinds, "resources": {}}
    (bundle / "config.json").write_text(json.dumps(spec))
    log = (folder / f"{part}.log").open("wb")
    return subprocess.Popen(["runc", "run", name(part)], cwd=bundle, **{"stdout": log, "stderr": log, **how})


def bound(where: str, what: Path, how: str) -> dict[str, Any]:
    """A bind mount."""
    return {"destination": where, "type": "bind", "source": str(what), "options": ["bind", how]}


def probe(part: str, kind: str) -> bool:
    """Whether a probe of the part's manifest passes in its container."""
    first = next(yaml.safe_load_all((ROOT / f"packaging/kubernetes/{part}.yaml").read_text()))
    command = first["spec"]["template"]["spec"]["containers"][0][kind]["exec"]["command"]
    return not subprocess.run(["runc", "exec", name(part), *command], capture_output=True, check=False).returncode


def name(part: str) -> str:
    """The container's name."""
    return f"ich-node-{part}-{os.getpid()}"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it, and say so."""
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.5)
    say(what)


def run(*command: str, cwd: Path | None = None) -> str:
    """Its output; raises with it when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


def say(text: str) -> None:
    """One line."""
    print(text, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main(Path(sys.argv[1]).resolve())
