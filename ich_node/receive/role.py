"""The receive role: the SCP in its own threads, the assembler in this one, one answer to the watchdog for both."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from ich_node.domain.errors import IchNodeError, StoreError
from ich_node.receive.assembler import Assembler
from ich_node.receive.catalogue import Catalogue
from ich_node.receive.commitment import Commitments
from ich_node.receive.membership import member
from ich_node.receive.reporting import Reporter
from ich_node.receive.scp import Scp
from ich_node.runtime import counters, garbage, host, logs, service
from ich_node.runtime.config import Config
from ich_node.store.layout import StateDir
from ich_node.store.ledger.jobs import JobStore, open_ledger
from ich_node.store.retention import SpaceKeeper
from ich_node.store.spool import Spool

TICK_S, IDLE_S = 0.1, 0.5
"""How often the assembler looks while series come in, and while none does; the end of an association wakes it."""
RETRY_S = 5.0  # chosen: a full or locked disk lasts longer than a moment; images wait in the spool meanwhile
STOP_WITHIN_S = 20.0  # chosen: an image under way arrives within; the unit allows 60
STALE_PART_S = 24 * 3600.0  # chosen: a day; nothing is written for so long


def run(config: Config, stop: service.Stop) -> None:
    """Receive until `stop` is set; running C-STOREs are finished first. Raises OSError when the port is taken."""
    shared = config.store.shared
    spool = Spool(config.state_dir, min_free_bytes=int(config.store.min_free_gb * 1e9), shared=shared)
    jobs = open_ledger(config, verify=True)
    try:
        with member(config, jobs) as name:
            _receive(config, spool, jobs, name, stop)
    finally:
        jobs.close()


def _receive(config: Config, spool: Spool, jobs: JobStore, name: str | None, stop: service.Stop) -> None:
    """name: as one of several receivers; None: as the only one."""
    state = StateDir(config.state_dir)
    counted = state.counters if name is None else state.counters_of(host.name())
    shared = None if name is None else (jobs, name)
    assembler = Assembler(config.receive, spool, jobs, wall_clock=jobs.now, shared=shared)
    commitments = Commitments(config, jobs, jobs.now, receiver=name)
    reporter = Reporter(config, spool, commitments, Catalogue(spool, jobs, jobs.now), jobs.now)
    try:
        scp = Scp(config, spool, assembler.hints, commitments.extension)
    except OSError as error:
        raise IchNodeError(f"cannot listen on {config.receive.address}:{config.receive.port}: {error}") from error
    threading.Thread(target=reporter.run, args=(stop,), name="commitments", daemon=True).start()
    scp.start()
    garbage.look_seldom()
    service.notify("READY=1", f"STATUS=listening on port {scp.port}")
    threading.Thread(target=_keep_house, args=(config, spool, jobs, stop), name="house-keeping", daemon=True).start()
    try:
        _assemble(assembler, scp, jobs, None if name is None else host.name(), counted, stop)
    finally:
        service.notify("STOPPING=1")
        scp.stop(STOP_WITHIN_S)
        assembler.close()
        counters.get().save(counted, now=True)


def _keep_house(config: Config, spool: Spool, jobs: JobStore, stop: service.Stop) -> None:
    """What may take its time: what crashes left half written, then room on the disk for as long as we receive."""
    spool.remove_stale_parts(STALE_PART_S)
    SpaceKeeper(config, jobs).run(stop)


def _assemble(
    assembler: Assembler, scp: Scp, jobs: JobStore, receiver: str | None, counted: Path, stop: service.Stop
) -> None:
    """Tick until `stop` is set. A database that is locked or full must not stop reception: it is tried again.

    receiver: our host among several, which may have news for us.
    """
    heartbeat = service.Heartbeat()
    next_s = 0.0
    while not stop.is_set():
        scp.news.wait(TICK_S if receiver or assembler.arrivals.growing else IDLE_S)
        scp.news.clear()
        if not scp.alive:
            raise IchNodeError("the thread that accepts connections has ended")
        associations, series = scp.admission.open_associations(), assembler.arrivals.growing
        heartbeat.beat(f"{associations} associations, {series} series coming in")
        counters.get().save(counted)
        if time.monotonic() < next_s:
            continue
        try:
            assembler.tick()
            scp.reception.shares.look(jobs, receiver)
        except StoreError as error:
            logs.get().error("database_unavailable", reason=str(error), retry_in_s=RETRY_S)
            next_s = time.monotonic() + RETRY_S
