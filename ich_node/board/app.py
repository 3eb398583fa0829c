"""The board's pages and what protects them.

Every response carries a content security policy without inline script or style; every change of something is a POST
with the session's token, from the same origin; every view of a study and every action is in the audit trail. The board
writes its readers' feedback, and asks the ledger for what operators want; nothing else.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ich_node import __version__
from ich_node.board import health, pictures, words
from ich_node.board.changes import News
from ich_node.board.entrance import COOKIE, Entrance, address, guard
from ich_node.board.feedback import COMMENT_LENGTH, Book, Feedback
from ich_node.board.people import Brake, Proxy, Session, Sessions, Users
from ich_node.board.studies import STANDING, Card, Studies
from ich_node.board.trend import Trend
from ich_node.board.view import FILTERS, HERE, PAGE, days_of, environment, fits, gates_of, patient_of, slices_of
from ich_node.domain.errors import IchNodeError, UnusableSeries
from ich_node.domain.findings import LABELS, Laterality
from ich_node.runtime import audit
from ich_node.runtime.config import Config
from ich_node.store import copies
from ich_node.store.ledger.protocols import Desk
from ich_node.store.spool import Spool

SAME_FOR_S = 5  # a list may be that old where nothing has happened: its page counts the minutes by itself
MADE = 16  # lists that are kept: the filters of a reading room


@dataclass(slots=True)
class Board:
    """Everything that the pages need, made once."""

    config: Config
    studies: Studies
    trend: Trend
    desk: Desk
    news: News
    book: Book
    spool: Spool
    sessions: Sessions
    brake: Brake
    users: Users | None
    proxy: Proxy | None
    alive: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.time
    templates: jinja2.Environment = field(default_factory=environment)

    @property
    def entrance(self) -> Entrance:
        """Who comes in, with or without names."""
        return Entrance(self.sessions, self.users, self.proxy)


def build(board: Board) -> Starlette:
    """The application."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(board.news.watch(board.alive))
        try:
            yield
        finally:
            task.cancel()

    pages = Pages(board)
    routes = [
        Route("/", pages.list, name="list"),
        Route("/rows", pages.rows),
        Route("/events", pages.events),
        Route("/sign-in", pages.sign_in, methods=["GET", "POST"]),
        Route("/sign-out", pages.sign_out, methods=["POST"]),
        Route("/operations", pages.operations),
        Route("/reference", pages.reference, methods=["POST"]),
        Route("/feedback.csv", pages.feedback_csv),
        Route("/study/{job:int}", pages.study),
        Route("/study/{job:int}/slice/{number:int}", pages.slice),
        Route("/study/{job:int}/map/{number:int}", pages.map),
        Route("/study/{job:int}/summary", pages.summary),
        Route("/study/{job:int}/thumbnail", pages.thumbnail),
        Route("/study/{job:int}/feedback", pages.feedback, methods=["POST"]),
        Route("/study/{job:int}/{action:str}", pages.act, methods=["POST"]),
        Route("/healthz", pages.healthz),
        Route("/readyz", pages.readyz),
        Route("/metrics", pages.metrics),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
        exception_handlers={HTTPException: pages.error, IchNodeError: pages.error},
        lifespan=lifespan,
    )


class Pages:
    """The handlers. What touches disk or database runs in a thread, so that the live pages never wait."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._entrance = board.entrance
        self._made: dict[tuple[object, ...], str] = {}
        self._making = threading.Lock()

    # --- who is it -----------------------------------------------------------------------------------------------

    async def sign_in(self, request: Request) -> Response:
        """The form, and what comes of it."""
        board, language = self._board, _words(request)
        if board.users is None:
            return RedirectResponse("./", 303)
        if request.method == "GET":
            return self._page(request, "sign_in.html", None, problem=None)
        form = await request.form()
        name, password = str(form.get("name", ""))[:256], str(form.get("password", ""))
        keys = (f"name:{name}", f"address:{address(request)}")
        if board.brake.wait_s(*keys) > 0:
            return self._page(request, "sign_in.html", None, status=429, problem=language.too_many)
        board.brake.failed(*keys)  # before the hash, which takes a while: a hundred guesses at once count a hundred
        person = await run_in_threadpool(board.users.verify, name, password)
        audit.get().signed_in(name[:64], address(request), success=person is not None)
        if person is None:
            return self._page(request, "sign_in.html", None, status=403, problem=language.wrong_sign_in)
        board.brake.passed(*keys)
        board.sessions.end(request.cookies.get(COOKIE))
        answer = RedirectResponse("./", 303)
        token = board.sessions.begin(person)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, path="/")
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Gone."""
        session, _ = await self._entrance.signed(request)
        self._board.sessions.end(request.cookies.get(COOKIE))
        audit.get().signed_out(session.person.name, address(request))
        answer = RedirectResponse("./", 303)
        answer.delete_cookie(COOKIE, path="/")
        return answer

    # --- the list ------------------------------------------------------------------------------------------------

    async def list(self, request: Request) -> Response:
        """The page that stays open."""
        session = self._entrance.reader(request)
        shown = await run_in_threadpool(self._shown, request, session)
        return self._page(request, "list.html", session, **shown)

    async def rows(self, request: Request) -> Response:
        """The list alone, for a page that is open already."""
        session = self._entrance.reader(request)
        return HTMLResponse(await run_in_threadpool(self._rows_html, request, session))

    def _rows_html(self, request: Request, session: Session | None) -> str:
        """Made once for all pages that ask the same: a STAT makes fifty of them ask at once."""
        board, root = self._board, request.scope.get("root_path", "")
        asked = (_words(request).code, request.query_params.get("show"), request.query_params.get("q"), root)
        moment = int(board.clock() / SAME_FOR_S)
        now = (board.studies.revision, len(board.book.entries), moment)
        key = (*now, session is not None, *asked)
        with self._making:
            if key not in self._made:
                fresh = [(other, html) for other, html in self._made.items() if other[: len(now)] == now]
                self._made = dict(fresh[-MADE:])  # what is older nobody asks for
                self._made[key] = self._html(request, "rows.html", session, **self._shown(request, session))
            return self._made[key]

    def _shown(self, request: Request, session: Session | None) -> dict[str, Any]:
        chosen, query = request.query_params.get("show", "open"), request.query_params.get("q", "").strip()[:128]
        reviewed = self._board.book.reviewed()
        fitting = [card for card in self._board.studies.cards if fits(card, chosen, reviewed)]
        if query:
            fitting = [card for card in fitting if self._matches(card, query.casefold(), session)]
        counts = {name: sum(card.standing == name for card in self._board.studies.cards) for name in STANDING}
        counts["open"] = sum(fits(card, "open", reviewed) for card in self._board.studies.cards)
        people = {card.job.id: self._patient(card) for card in fitting[:PAGE]} if session else {}
        return {
            "cards": fitting[:PAGE], "more": max(0, len(fitting) - PAGE), "chosen": chosen, "query": query,
            "filters": FILTERS, "counts": counts, "reviewed": reviewed, "people": people, "now": self._board.clock(),
            "revision": self._board.studies.revision,
        }  # fmt: skip

    def _matches(self, card: Card, query: str, session: Session | None) -> bool:
        texts = [card.job.study_uid, card.job.series_uid, str(card.job.id)]
        if session is not None:
            texts += [value for value in self._patient(card).values() if value]
        return any(query in text.casefold() for text in texts)

    def _patient(self, card: Card) -> dict[str, str]:
        """Name, ID, accession number and description as the scanner sent them; for signed-in eyes only."""
        first = card.job.sop_instance_uids[0] if card.job.sop_instance_uids else ""
        return patient_of(self._board.spool.directory(card.job.series_uid) / f"{first}.dcm")

    # --- one study -----------------------------------------------------------------------------------------------

    async def study(self, request: Request) -> Response:
        """Everything about one series."""
        session = self._entrance.reader(request)
        card = await self._card(request)
        board = self._board
        results = board.studies.results / str(card.job.id)
        shown = await run_in_threadpool(pictures.sent, results) if card.result else pictures.Sent(None, {})
        keys = [n for n, place in enumerate(slices_of(card), 1) if place in shown.maps]
        self._audit_view(session, request, card)
        return self._page(
            request, "study.html", session, card=card, keys=keys, summary=shown.summary is not None,
            patient=await run_in_threadpool(self._patient, card) if session else {}, now=board.clock(),
            opinions=board.book.of_job(card.job.id), labels=LABELS, sides=list(Laterality), longest=COMMENT_LENGTH,
        )  # fmt: skip

    async def slice(self, request: Request) -> Response:
        """A slice as PNG; `?window=`brain, subdural or bone."""
        self._entrance.reader(request)
        card = await self._card(request)
        window = request.query_params.get("window", "brain")
        uid, frame = self._place(card, request)
        path = self._board.spool.directory(card.job.series_uid) / f"{uid}.dcm"
        if window not in pictures.WINDOWS_HU or not path.is_file():
            raise HTTPException(404)
        return await self._png(pictures.slice_png, path, frame, window)

    async def map(self, request: Request) -> Response:
        """The map of a key slice as the PACS got it."""
        self._entrance.reader(request)
        card = await self._card(request)
        shown = await run_in_threadpool(pictures.sent, self._board.studies.results / str(card.job.id))
        path = shown.maps.get(self._place(card, request))
        return await self._png(pictures.result_png, path)

    async def summary(self, request: Request) -> Response:
        """The summary page as the PACS got it."""
        return await self._summary(request, None)

    async def thumbnail(self, request: Request) -> Response:
        """The picture of the strongest key slice, small."""
        self._entrance.reader(request)
        card = await self._card(request)
        shown = await run_in_threadpool(pictures.sent, self._board.studies.results / str(card.job.id))
        paths = list(shown.maps.values())
        return await self._png(pictures.result_png, paths[len(paths) // 2] if paths else None, pictures.THUMBNAIL_PX)

    async def _summary(self, request: Request, largest_px: int | None) -> Response:
        self._entrance.reader(request)
        card = await self._card(request)
        shown = await run_in_threadpool(pictures.sent, self._board.studies.results / str(card.job.id))
        return await self._png(pictures.result_png, shown.summary, largest_px)

    async def _png(self, draw: Callable[..., bytes], path: Path | None, *arguments: Any) -> Response:
        if path is None:
            raise HTTPException(404)
        try:
            data = await run_in_threadpool(draw, path, *arguments)
        except UnusableSeries as error:
            raise HTTPException(404) from error
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})

    async def feedback(self, request: Request) -> Response:
        """An opinion."""
        session, form = await self._entrance.signed(request)
        card = await self._card(request)
        try:
            entry = Feedback(
                self._board.clock(), card.job.id, card.job.study_uid, card.job.series_uid, card.standing,
                session.person.name, form.get("opinion", ""), form.get("label", ""), form.get("side", ""),
                form.get("comment", "").strip(),
            )  # fmt: skip
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        await run_in_threadpool(self._board.book.add, entry)
        self._board.trend.hear(entry)
        self._audit_action(session, request, card)
        return RedirectResponse(f"../{card.job.id}", 303)

    async def act(self, request: Request) -> Response:
        """An operator's redo or resend."""
        session, _ = await self._entrance.signed(request)
        if session.person.role != "operator":
            raise HTTPException(403)
        card, action, desk = await self._card(request), request.path_params["action"], self._board.desk
        if action == "redo":
            await run_in_threadpool(copies.redo, desk, self._board.spool, card.job.id)
        elif action == "resend":
            await run_in_threadpool(desk.resend, card.job.id)
        else:
            raise HTTPException(404)
        self._audit_action(session, request, card)
        return RedirectResponse(f"../{card.job.id}", 303)

    async def feedback_csv(self, request: Request) -> Response:
        """All opinions."""
        session = self._entrance.reader(request)
        if session is None:
            raise HTTPException(401)
        text = await run_in_threadpool(self._board.book.as_csv)
        return Response(
            text, media_type="text/csv", headers={"Content-Disposition": "attachment; filename=feedback.csv"}
        )

    # --- the node itself -----------------------------------------------------------------------------------------

    async def operations(self, request: Request) -> Response:
        """Queue, disk, destinations, days, gates."""
        session = self._entrance.reader(request)
        board = self._board
        found = await run_in_threadpool(health.facts, board.config, board.studies, board.clock())
        return self._page(
            request, "operations.html", session, facts=found, days=days_of(board.studies.cards),
            gates=gates_of(board.studies.cards), now=board.clock(), drift=board.trend.drift,
            alarms=board.trend.drift.standing(board.clock()),
        )  # fmt: skip

    async def reference(self, request: Request) -> Response:
        """An operator says that what comes from now on is the normal state."""
        session, _ = await self._entrance.signed(request)
        if session.person.role != "operator":
            raise HTTPException(403)
        await run_in_threadpool(self._board.trend.begin_anew, self._board.clock(), session.person.name)
        return RedirectResponse("./operations", 303)

    async def healthz(self, _request: Request) -> Response:
        """This process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Whether the node needs nobody; 503 with the reasons otherwise."""
        board = self._board
        found = await run_in_threadpool(health.facts, board.config, board.studies, board.clock())
        return JSONResponse({"ready": not found.problems, "problems": found.problems}, 503 if found.problems else 200)

    async def metrics(self, _request: Request) -> Response:
        """For Prometheus."""
        board = self._board
        text = await run_in_threadpool(health.metrics, board.config, board.studies, board.trend, board.clock())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def events(self, request: Request) -> Response:
        """News for an open page."""
        self._entrance.reader(request)
        return StreamingResponse(self._board.news.listen(), media_type="text/event-stream")

    async def error(self, request: Request, problem: Exception) -> Response:
        """A page for what went wrong; who must sign in is led there."""
        status = problem.status_code if isinstance(problem, HTTPException) else 409
        wants_page = "text/html" in request.headers.get("accept", "")
        if status == 401 and wants_page and self._board.users is not None:
            return RedirectResponse(f"{request.scope.get('root_path', '')}/sign-in", 303)
        text = problem.detail if isinstance(problem, HTTPException) else str(problem)
        return PlainTextResponse(f"{status} {text}\n", status)

    # --- small change --------------------------------------------------------------------------------------------

    async def _card(self, request: Request) -> Card:
        card = await run_in_threadpool(self._board.studies.card, request.path_params["job"])
        if card is None:
            raise HTTPException(404)
        return card

    def _place(self, card: Card, request: Request) -> tuple[str, int | None]:
        places, number = slices_of(card), request.path_params["number"]
        if not 1 <= number <= len(places):
            raise HTTPException(404)
        place: tuple[str, int | None] = places[number - 1]
        return place

    def _page(
        self, request: Request, name: str, session: Session | None, status: int = 200, **values: Any
    ) -> HTMLResponse:
        return HTMLResponse(self._html(request, name, session, **values), status)

    def _html(self, request: Request, name: str, session: Session | None, **values: Any) -> str:
        person = session.person if session else None
        return self._board.templates.get_template(name).render(
            w=_words(request), person=person, csrf=session.csrf if session else "", version=__version__,
            root=request.scope.get("root_path", ""), can_sign_in=self._board.users is not None, **values,
        )  # fmt: skip

    def _audit_view(self, session: Session | None, request: Request, card: Card) -> None:
        name = session.person.name if session else "guest"
        audit.get().viewed(name, address(request), card.job.study_uid, self._first(card))

    def _audit_action(self, session: Session, request: Request, card: Card) -> None:
        audit.get().acted(session.person.name, address(request), card.job.study_uid, self._first(card))

    def _first(self, card: Card) -> Path:
        first = card.job.sop_instance_uids[0] if card.job.sop_instance_uids else ""
        return self._board.spool.directory(card.job.series_uid) / f"{first}.dcm"


def _words(request: Request) -> words.Words:
    return words.of(request.headers.get("accept-language", ""))
