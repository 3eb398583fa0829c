"""The board role: the pages in one process, bounded in connections, until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import uvicorn

from ich_node.board.app import Board, build
from ich_node.board.changes import News
from ich_node.board.people import Brake, Proxy, Sessions, Users
from ich_node.board.studies import Studies
from ich_node.board.trend import Trend
from ich_node.board.trend import book as opened_book
from ich_node.domain.errors import ConfigError, StoreError
from ich_node.runtime import logs, service
from ich_node.runtime.config import BoardConfig, Config
from ich_node.store.ledger.jobs import JobStore, open_ledger
from ich_node.store.spool import Spool

CONNECTIONS = 600  # open pages hold one each
STOP_WITHIN_S = 3  # chosen: open pages hold their line for ever; they come back by themselves


class Server(uvicorn.Server):
    """A server that says that it is ready when its port is open, not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port."""
        await super().startup(sockets)
        service.notify("READY=1")


def run(config: Config, stop: service.Stop) -> None:
    """Serve the board until `stop` is set. Raises ConfigError when users, secret or port cannot be used."""
    heart = service.Heartbeat()
    jobs = open_ledger(config)
    board = make(config, jobs, alive=lambda: heart.beat("the board is open"))
    options = config.board
    server = Server(
        uvicorn.Config(
            build(board),
            host=options.address,
            port=options.port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=STOP_WITHIN_S,
        )
    )
    threading.Thread(target=_end_with, args=(stop, server), daemon=True).start()
    logs.get().info("board_open", address=options.address, port=options.port, sign_in=not board.entrance.is_open)
    try:
        asyncio.run(server.serve())
    except SystemExit as error:  # uvicorn's way to say that it could not listen
        raise ConfigError([f"board: cannot listen on {options.address} port {options.port}"]) from error
    finally:
        jobs.close()


def _end_with(stop: service.Stop, server: uvicorn.Server) -> None:
    stop.wait()
    server.should_exit = True


def make(config: Config, jobs: JobStore, **extra: object) -> Board:
    """The board over a ledger; raises ConfigError as run() does."""
    options, state = config.board, config.state_dir
    studies = Studies(jobs, state / "results")
    studies.refresh()
    book = opened_book(config)
    trend = Trend.open(config, book.entries)
    with suppress(StoreError):  # a full disk is no reason to show nothing
        trend.catch_up(studies.cards)
    return Board(
        config=config,
        studies=studies,
        trend=trend,
        desk=jobs,
        news=News(studies, jobs, trend),
        book=book,
        spool=Spool(state, min_free_bytes=int(config.store.min_free_gb * 1e9)),
        sessions=Sessions(time.monotonic),
        brake=Brake(time.monotonic),
        users=Users(options.users) if options.users is not None else None,
        proxy=_proxy(options),
        **extra,  # type: ignore[arg-type]
    )


def _proxy(options: BoardConfig) -> Proxy | None:
    if options.proxy_secret is None:
        return None
    return Proxy(options.proxy_user_header, options.proxy_role_header, _secret(options.proxy_secret))


def _secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"board.proxy_secret: {path}: {error}"]) from error
    if len(secret) < 16:
        raise ConfigError([f"board.proxy_secret: {path}: holds fewer than 16 characters"])
    return secret
