"""A process that is started again whenever it dies, as systemd's Restart=on-failure does, and killed when told to."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

RESTART_S = 0.1  # systemd's units wait 1 s; shorter here so that more happens in the same time
READY_WITHIN_S = 120
STOP_WITHIN_S = 60
LOOK_EVERY_S = 0.02


class Supervised:
    """One process. It counts as ready when it says READY=1 (sd_notify), or when `probe` says so if one is given.

    kills: SIGKILLs that hit it running. recovery_s: seconds from each kill (the first of several in a row) until it was
    ready again. unexpected: exit codes of every other end.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        probe: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.kills = 0
        self.recovery_s: list[float] = []
        self.unexpected: list[int] = []
        self.ready = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self._command = list(command)
        self._address = folder / f"notify-{name}"
        self._environment = {**environment, "NOTIFY_SOCKET": str(self._address)}
        self._probe = probe
        self._log = folder / f"{name}.log"
        self._killed_at: float | None = None
        self._condemned: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)

    def under(self, *prefix: str) -> None:
        """Run it under another program from the next start on, such as strace -D."""
        self._command = [*prefix, *self._command]

    def start(self) -> None:
        """Start it; wait_ready() tells when it is."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._supervise, name=self.name, daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        """Return when it is ready; RuntimeError when it does not become so."""
        if not self.ready.wait(READY_WITHIN_S):
            raise RuntimeError(f"{self.name} is not ready after {READY_WITHIN_S} s, see {self._log}")

    def kill(self) -> None:
        """SIGKILL; it is started again."""
        with self._lock:
            if self.process is not None and self.process.poll() is None:
                self._killed_at = self._killed_at or time.monotonic()
                self.kills += 1
                self._condemned = self.process
                self.ready.clear()
                self.process.send_signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it does nothing more until it is killed."""
        with self._lock:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(signal.SIGSTOP)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal, and by SIGKILL when it does not listen; it is not started again."""
        self._stopping.set()
        with self._lock:
            process = self.process
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(10)
        self.ready.clear()
        self._killed_at = None

    def memory_kb(self) -> int:
        """Resident memory, kB; 0 when it does not run."""
        with contextlib.suppress(OSError, AttributeError, StopIteration):
            status = Path(f"/proc/{self.process.pid}/status").read_text()  # type: ignore[union-attr]
            return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        return 0

    def _supervise(self) -> None:
        self._address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, self._log.open("ab") as log:
            channel.bind(str(self._address))
            channel.settimeout(LOOK_EVERY_S)
            while not self._stopping.is_set():
                with self._lock:
                    self.process = subprocess.Popen(
                        self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
                    )
                self._watch(self.process, channel)
                self._stopping.wait(RESTART_S)

    def _watch(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        while process.poll() is None:
            if self._says_ready(channel) and not self.ready.is_set():
                self._note_ready(process)
        self.ready.clear()
        if process.returncode != -signal.SIGKILL and not self._stopping.is_set():
            self.unexpected.append(process.returncode)

    def _says_ready(self, channel: socket.socket) -> bool:
        try:
            return b"READY=1" in channel.recv(4096)
        except TimeoutError:
            return self._probe is not None and not self.ready.is_set() and self._probe()

    def _note_ready(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if process.poll() is not None or process is self._condemned:  # its port may answer for a moment more
                return
            if self._killed_at is not None:
                self.recovery_s.append(time.monotonic() - self._killed_at)
                self._killed_at = None
            self.ready.set()


def answers(port: int) -> bool:
    """True when somebody listens on this TCP port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
