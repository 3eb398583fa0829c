"""The deliver role: one thread per destination, so that a slow or dead PACS holds up nobody else."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from ich_node.deliver.dicom.commitment import Committer
from ich_node.deliver.dicom.sender import Sender, connector
from ich_node.domain.errors import DeliveryError
from ich_node.runtime import service
from ich_node.runtime.config import Config
from ich_node.runtime.service import Stop
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.ledger.protocols import Ledger
from ich_node.store.routes import route

STOP_WITHIN_S = 5
BEAT_S = 0.5
SILENCE_FACTOR = 4
"""A part that shows no sign of life for this many times its longest single wait hangs."""


class Part(Protocol):
    """Work for one destination, in a thread of its own."""

    name: str
    last_sign_of_life: float  # time.monotonic()

    def run(self, stop: Stop) -> None: ...
    def interrupt(self) -> None: ...


def run(config: Config, stop: Stop) -> None:
    """Deliver results until `stop` is set; returns within seconds after it.

    Raises DeliveryError when a part has ended or hangs: the supervisor starts the role afresh, the ledger is durable.
    """
    store = JobStore.open(config.state_dir)
    store.owe_restored(lambda results: route(results, config.deliver.destinations))
    parts = parts_of(config, store)
    threads = [threading.Thread(target=part.run, args=(stop,), name=part.name, daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    service.notify("READY=1", f"STATUS={len(config.deliver.destinations)} destinations")
    try:
        _watch(parts, threads, stop, longest_wait_s=config.deliver.connect_timeout_s + config.deliver.dimse_timeout_s)
    finally:
        stop.set()
        _wind_up(parts, threads)
        store.close()


def parts_of(config: Config, store: Ledger) -> list[Part]:
    """A sender per destination, and a committer where Storage Commitment is wanted."""
    parts: list[Part] = []
    for destination in config.deliver.destinations:
        parts.append(Sender(destination, config.deliver, store, connector(config, destination)))
        if destination.commitment:
            parts.append(Committer(config, destination, store))
    return parts


def _watch(parts: list[Part], threads: list[threading.Thread], stop: Stop, longest_wait_s: float) -> None:
    """Pat the watchdog for as long as every part is well."""
    heartbeat = service.Heartbeat()
    while not stop.wait(BEAT_S):
        for part, thread in zip(parts, threads, strict=True):
            if not thread.is_alive() and not stop.is_set():
                raise DeliveryError(f"{part.name} has ended")
            if time.monotonic() - part.last_sign_of_life > SILENCE_FACTOR * longest_wait_s:
                raise DeliveryError(f"{part.name} hangs")
        heartbeat.beat()


def _wind_up(parts: list[Part], threads: list[threading.Thread]) -> None:
    """Let every part finish its instance, then interrupt; a thread in a connection attempt dies with the process."""
    end = time.monotonic() + STOP_WITHIN_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic() - 2))
    for part, thread in zip(parts, threads, strict=True):
        if thread.is_alive():
            part.interrupt()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
