"""A power cut: the disk as it is at one moment, mounted again and compared with what was acknowledged; or, for a whole
node, put in the place of the one that went on, so that the node starts on it.

An outer image (xfs with reflink) holds an inner one, which is a loop device with direct I/O under the file system on
trial: what that one has not written yet is not in the image. FICLONE takes a consistent copy of it while all goes on;
the copy is the disk after the cut, and mounting it is the recovery (journal replay) of the real file system. A writer
without fsync beside the receiver is the control: when it loses nothing, the cuts show nothing.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.evidence import is_held
from tests.crash.node import Node
from tests.crash.peers import IchNode
from tests.crash.scanner import Patients, Scanner

FICLONE = 0x40049409  # linux/fs.h
OUTER, INNER = "4G", "1G"
MAKE = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q", "-s", "size=4096"]}  # a clone's loop device has 4096
UNMOUNT_WITHIN_S = 20
CONTROL_BYTES = 20_000
CONTROL_PAUSE_S = 0.02
MOST_CONTROL = 1000
"""Files of the control that stay: 20 MB, and what the last twenty seconds wrote."""


def lacks() -> str:
    """What this machine lacks for a power cut; empty when it has all."""
    if os.geteuid() != 0:
        return "root, to mount"
    missing = [tool for tool in ("mkfs.xfs", "mkfs.ext4", "losetup") if shutil.which(tool) is None]
    if missing:
        return ", ".join(missing)
    found = subprocess.run(["losetup", "-f"], capture_output=True, check=False)
    return "" if found.returncode == 0 else "loop devices"


class Disk:
    """A mounted file system whose power can be cut; use it as a context manager. `root`: where it is mounted."""

    def __init__(self, folder: Path, file_system: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._outer_image, self._outer = folder / "outer.img", folder / "outer"
        self._image, self._file_system = self._outer / "live.img", file_system
        self.root, self._clone_root = folder / "disk", folder / "after"

    def __enter__(self) -> Disk:
        for path in (self._outer, self.root, self._clone_root):
            path.mkdir()
        _sh("truncate", "-s", OUTER, self._outer_image)
        _sh("mkfs.xfs", "-q", "-m", "reflink=1", self._outer_image)
        _sh("mount", "-o", "loop", self._outer_image, self._outer)
        _sh("truncate", "-s", INNER, self._image)
        _sh(*MAKE[self._file_system], self._image)
        self._device = _attach(self._image)
        _sh("mount", self._device, self.root)
        return self

    def __exit__(self, *_: object) -> None:
        _unmount(self.root)
        _sh("losetup", "-d", self._device)
        _sh("umount", "--lazy", self._outer)  # another mount namespace may still know the inner one
        self._outer_image.unlink()

    def cut(self) -> Path:
        """The image of the disk as it is now."""
        image = self._outer / "cut.img"
        with self._image.open("rb") as source, image.open("wb") as target:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
        return image

    def replace(self, image: Path) -> None:
        """Go on with the disk of an image, after its recovery, as if the power had gone in that moment.

        Nobody may use the disk meanwhile. Raises RuntimeError when somebody does.
        """
        _unmount(self.root)
        _sh("losetup", "-d", self._device)
        image.rename(self._image)
        self._device = _attach(self._image)
        _sh("mount", self._device, self.root)

    @contextmanager
    def mounted(self, image: Path) -> Iterator[Path]:
        """The disk of an image after its recovery."""
        device = _attach(image)
        try:
            # the copy of an xfs has the UUID of the one that is still mounted
            options = ["-o", "nouuid"] if self._file_system == "xfs" else []
            _sh("mount", *options, device, self._clone_root)
            try:
                yield self._clone_root
            finally:
                _sh("umount", self._clone_root)
        finally:
            _sh("losetup", "-d", device)
            image.unlink()


class Control(threading.Thread):
    """Writes files without fsync, as one who says Success too early does. written: those that are closed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        folder.mkdir()
        self.written: list[str] = []
        self._count = 0
        self.folder, self._finish = folder, threading.Event()

    def run(self) -> None:
        """Write until finish()."""
        while not self._finish.wait(CONTROL_PAUSE_S):
            self._count += 1
            name = f"{self._count:06}"
            (self.folder / name).write_bytes(name.encode() * (CONTROL_BYTES // 6))
            if len(self.written) == MOST_CONTROL:
                (self.folder / self.written.pop(0)).unlink()
            self.written.append(name)

    def finish(self) -> None:
        """Stop."""
        self._finish.set()
        self.join()


def lost_of_control(folder: Path, written: list[str]) -> int:
    """How many files that were closed are not there, or not whole."""

    def content(name: str) -> bytes:
        path = folder / name
        return path.read_bytes() if path.exists() else b""

    return sum(content(name) != name.encode() * (CONTROL_BYTES // 6) for name in written)


def cut_under_node(disk: Disk, node: Node, control: Control) -> tuple[int, int, float]:
    """The power goes under a whole node, and it starts again: (closed files of the control, lost, seconds until READY).

    First nobody does anything any more, so that what was acknowledged by then is known; then comes the moment.
    """
    for role in node.roles.values():
        role.freeze()
    written = control.written[-MOST_CONTROL // 2 :]
    image = disk.cut()
    node.stop(signal.SIGKILL)
    control.finish()
    started = time.monotonic()
    disk.replace(image)
    lost = lost_of_control(control.folder, written)
    shutil.rmtree(control.folder, ignore_errors=True)
    node.start()
    return len(written), lost, time.monotonic() - started


def cut_under_receiver(
    folder: Path, cuts: int, seed: int, file_system: str
) -> tuple[int, int, int, int, tuple[float, ...]]:
    """(acknowledged instances looked at, lost of them, closed files of the control, lost of them, seconds to mount)."""
    rng = random.Random(seed)
    looked_at = lost = closed = control_lost = 0
    recovery = []
    with Disk(folder / "power", file_system) as disk:
        receiver = IchNode(folder, disk.root)
        receiver.start()
        control = Control(disk.root / "control")
        control.start()
        scanner = Scanner(Patients(folder / "sent", seed=seed), receiver.port, seed, longest_pause_s=0.2)
        scanner.start()
        try:
            for _ in range(cuts):
                time.sleep(rng.uniform(0.3, 3))
                acknowledged, written = list(scanner.acknowledged), control.written[-MOST_CONTROL // 2 :]
                image = disk.cut()
                started = time.monotonic()
                with disk.mounted(image) as root:
                    recovery.append(time.monotonic() - started)
                    lost += sum(not is_held(root / "state", path) for path in acknowledged)
                    control_lost += lost_of_control(root / "control", written)
                looked_at += len(acknowledged)
                closed += len(written)
        finally:
            control.finish()
            scanner.finish()
            receiver.stop()
    return looked_at, lost, closed, control_lost, tuple(recovery)


def _attach(image: Path) -> str:
    device = _sh("losetup", "--direct-io=on", "--show", "-f", image)
    if Path(f"/sys/block/{Path(device).name}/loop/dio").read_text().strip() != "1":
        _sh("losetup", "-d", device)
        raise RuntimeError("no direct I/O: what this shows would mean nothing")
    return device


def _unmount(place: Path) -> None:
    """As soon as nobody uses it: a process that was killed, or a loop device, may still be going."""
    end = time.monotonic() + UNMOUNT_WITHIN_S
    while True:
        try:
            _sh("umount", place)
            return
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _sh(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()
