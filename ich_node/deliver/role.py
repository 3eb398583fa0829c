"""The deliver role: one thread per destination, so that a slow or dead PACS holds up nobody else."""

from __future__ import annotations

import threading
import time
import traceback
from pathlib import Path

from ich_node.deliver.customs import Customs, Inspected
from ich_node.deliver.dicom.commitment import Committer
from ich_node.deliver.dicom.peer import DicomPeer
from ich_node.deliver.hl7.mllp import Hl7Peer
from ich_node.deliver.lease import Leased
from ich_node.deliver.part import Part
from ich_node.deliver.sender import Peer, Sender
from ich_node.deliver.web.stow import StowPeer
from ich_node.deliver.web.webhook import WebhookPeer
from ich_node.domain.errors import DeliveryError
from ich_node.runtime import host, logs, service
from ich_node.runtime.config import Config
from ich_node.runtime.service import Stop
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import JobStore, open_ledger
from ich_node.store.routes import route

STOP_WITHIN_S = 5  # chosen: an instance at hand takes less; the unit allows 60
BEAT_S = 0.5  # chosen: well below any watchdog interval, and no work
RUN_AGAIN_S = 10.0
"""Between two runs of a part that fails: long enough that a defect that repeats does not fill the log."""
SILENCE_FACTOR = 4
"""A part that shows no sign of life for this many times its longest single wait hangs."""


def run(config: Config, stop: Stop) -> None:
    """Deliver results until `stop` is set; returns within seconds after it.

    A part that fails is run again, for its destination alone. Raises DeliveryError when one hangs, which nothing but a
    new process ends: the supervisor starts the role afresh, the ledger is durable.
    """
    store = open_ledger(config, verify=True)
    store.owe_restored(
        lambda results, job: route(results, config.deliver, priority=job.priority, sender=job.calling_ae_title)
    )
    parts = parts_of(config, store)
    if config.store.shared:
        holder = host.process()
        parts = [Leased(part, store, holder) for part in parts]
    threads = [threading.Thread(target=_keep_running, args=(part, stop), name=part.name, daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    service.notify("READY=1", f"STATUS={len(config.deliver.everywhere)} destinations")
    try:
        _watch(parts, stop, longest_wait_s=config.deliver.connect_timeout_s + config.deliver.dimse_timeout_s)
    finally:
        stop.set()
        _wind_up(parts, threads)
        store.close()


def parts_of(config: Config, store: JobStore) -> list[Part]:
    """A sender per destination, and a committer where Storage Commitment is wanted; all by the ledger's clock."""
    bell, customs = store.bells.owed, Customs(StateDir(config.state_dir), store)
    peers: list[tuple[str, Peer]] = [(to.name, DicomPeer(config, to)) for to in config.deliver.destinations]
    peers += [(to.name, Hl7Peer(config, to)) for to in config.deliver.hl7]
    peers += [(to.name, WebhookPeer(config, to)) for to in config.deliver.webhooks]
    peers += [(to.name, StowPeer(config, to)) for to in config.deliver.dicomweb]
    senders = [
        Sender(name, config.deliver, store, Inspected(peer, customs), bell, clock=store.now) for name, peer in peers
    ]
    committers = [Committer(config, to, store, clock=store.now) for to in config.deliver.destinations if to.commitment]
    return [*senders, *committers]


def _keep_running(part: Part, stop: Stop) -> None:
    """Run a part until `stop` is set, again after a while when it fails: a destination is its own trouble."""
    while not stop.is_set():
        try:
            part.run(stop)
        except Exception as error:  # a defect of ours; whatever it is, the other destinations go on
            logs.get().error("delivery_failed", part=part.name, reason=type(error).__name__, where=_where(error))
            stop.wait(RUN_AGAIN_S)


def _where(error: Exception) -> str:
    """The line that failed; a traceback may quote a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _watch(parts: list[Part], stop: Stop, longest_wait_s: float) -> None:
    """Pat the watchdog for as long as every part is well."""
    heartbeat = service.Heartbeat()
    while not stop.wait(BEAT_S):
        for part in parts:
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
