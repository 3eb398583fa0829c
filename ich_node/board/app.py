"""The board's pages and what protects them.

Every response carries a content security policy without inline script or style; every change of something is a POST
with the session's token, from the same origin; every view of a study and every action is in the audit trail. The board
writes its readers' feedback, and asks the ledger for what operators want; nothing else.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
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
from ich_node.board.feedback import COMMENT_LENGTH, OPINIONS, Book, Feedback
from ich_node.board.people import Brake, Person, Proxy, Session, Sessions, Users
from ich_node.board.studies import STANDING, Card, Studies
from ich_node.dicom.part10 import read_header
from ich_node.domain.errors import IchNodeError, UnidentifiableInstance, UnusableSeries
from ich_node.domain.findings import LABELS, Laterality
from ich_node.domain.ledger import JobState
from ich_node.runtime import audit
from ich_node.runtime.config import Config
from ich_node.store.ledger.protocols import Desk
from ich_node.store.spool import Spool

HERE = Path(__file__).parent
COOKIE = "ich_node_session"
BODY_LIMIT = 16 << 10  # a form of ours has a few hundred bytes
FILTERS = ("open", "STAT", "HIGH", "ROUTINE", "NOT ANALYSED", "FAILED", "ANALYSING", "all")
HIDDEN = frozenset({"SUPERSEDED", "SET ASIDE"})  # shown under "all" only
PAGE = 500  # rows of one page; a search finds the others
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


@dataclass(slots=True)
class Board:
    """Everything that the pages need, made once."""

    config: Config
    studies: Studies
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
    templates: jinja2.Environment = field(default_factory=lambda: _templates())  # noqa: PLW0108 — defined below

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches the board may look (without names)."""
        return self.users is None and self.proxy is None


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
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=_guard)],
        exception_handlers={HTTPException: pages.error, IchNodeError: pages.error},
        lifespan=lifespan,
    )


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Small bodies from our own pages only; the headers of every answer."""
    response: Response
    if int(request.headers.get("content-length") or 0) > BODY_LIMIT or "transfer-encoding" in request.headers:
        response = PlainTextResponse("too large", 413)
    elif request.method == "POST" and request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        response = PlainTextResponse("not from this page", 403)
    else:
        response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


class Pages:
    """The handlers. What touches disk or database runs in a thread, so that the live pages never wait."""

    def __init__(self, board: Board) -> None:
        self._board = board

    # --- who is it -----------------------------------------------------------------------------------------------

    def _session(self, request: Request) -> Session | None:
        """Who is signed in, by the session or by the proxy; None for a guest."""
        board = self._board
        if board.proxy is not None and (person := board.proxy.person(request.headers)) is not None:
            token = request.cookies.get(COOKIE)
            session = board.sessions.find(token)
            if session is None or session.person != person:
                session = board.sessions.find(board.sessions.begin(person))
            return session
        return board.sessions.find(request.cookies.get(COOKIE))

    def _reader(self, request: Request) -> Session | None:
        """Who may look: who is signed in, or anybody while there are no users. Raises 401 otherwise."""
        session = self._session(request)
        if session is None and not self._board.is_open:
            raise HTTPException(401)
        return session

    async def _signed(self, request: Request) -> tuple[Session, dict[str, str]]:
        """The session and the form of a POST that its own page sent. Raises 401 or 403."""
        session = self._session(request)
        if session is None:
            raise HTTPException(401)
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        if not hmac.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
            raise HTTPException(403)
        return session, form

    async def sign_in(self, request: Request) -> Response:
        """The form, and what comes of it."""
        board, language = self._board, _words(request)
        if board.users is None:
            return RedirectResponse("./", 303)
        if request.method == "GET":
            return self._page(request, "sign_in.html", None, problem=None)
        form = await request.form()
        name, password = str(form.get("name", ""))[:256], str(form.get("password", ""))
        keys = (f"name:{name}", f"address:{_address(request)}")
        if board.brake.wait_s(*keys) > 0:
            return self._page(request, "sign_in.html", None, status=429, problem=language.too_many)
        board.brake.failed(*keys)  # before the hash, which takes a while: a hundred guesses at once count a hundred
        person = await run_in_threadpool(board.users.verify, name, password)
        audit.get().signed_in(name[:64], _address(request), success=person is not None)
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
        session, _ = await self._signed(request)
        self._board.sessions.end(request.cookies.get(COOKIE))
        audit.get().signed_out(session.person.name, _address(request))
        answer = RedirectResponse("./", 303)
        answer.delete_cookie(COOKIE, path="/")
        return answer

    # --- the list ------------------------------------------------------------------------------------------------

    async def list(self, request: Request) -> Response:
        """The page that stays open."""
        session = self._reader(request)
        shown = await run_in_threadpool(self._shown, request, session)
        return self._page(request, "list.html", session, **shown)

    async def rows(self, request: Request) -> Response:
        """The list alone, for a page that is open already."""
        session = self._reader(request)
        shown = await run_in_threadpool(self._shown, request, session)
        return self._page(request, "rows.html", session, **shown)

    def _shown(self, request: Request, session: Session | None) -> dict[str, Any]:
        chosen, query = request.query_params.get("show", "open"), request.query_params.get("q", "").strip()[:128]
        reviewed = self._board.book.reviewed()
        fitting = [card for card in self._board.studies.cards if _fits(card, chosen, reviewed)]
        if query:
            fitting = [card for card in fitting if self._matches(card, query.casefold(), session)]
        counts = {name: sum(card.standing == name for card in self._board.studies.cards) for name in STANDING}
        counts["open"] = sum(_fits(card, "open", reviewed) for card in self._board.studies.cards)
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
        return _patient(self._board.spool.directory(card.job.series_uid) / f"{first}.dcm")

    # --- one study -----------------------------------------------------------------------------------------------

    async def study(self, request: Request) -> Response:
        """Everything about one series."""
        session = self._reader(request)
        card = await self._card(request)
        board = self._board
        results = board.studies.results / str(card.job.id)
        shown = await run_in_threadpool(pictures.sent, results) if card.result else pictures.Sent(None, {})
        keys = [n for n, place in enumerate(_slices(card), 1) if place in shown.maps]
        self._audit_view(session, request, card)
        return self._page(
            request, "study.html", session, card=card, keys=keys, summary=shown.summary is not None,
            patient=await run_in_threadpool(self._patient, card) if session else {}, now=board.clock(),
            opinions=board.book.of_job(card.job.id), labels=LABELS, sides=list(Laterality), longest=COMMENT_LENGTH,
        )  # fmt: skip

    async def slice(self, request: Request) -> Response:
        """A slice as PNG; `?window=`brain, subdural or bone."""
        self._reader(request)
        card = await self._card(request)
        window = request.query_params.get("window", "brain")
        uid, frame = self._place(card, request)
        path = self._board.spool.directory(card.job.series_uid) / f"{uid}.dcm"
        if window not in pictures.WINDOWS_HU or not path.is_file():
            raise HTTPException(404)
        return await self._png(pictures.slice_png, path, frame, window)

    async def map(self, request: Request) -> Response:
        """The map of a key slice as the PACS got it."""
        self._reader(request)
        card = await self._card(request)
        shown = await run_in_threadpool(pictures.sent, self._board.studies.results / str(card.job.id))
        path = shown.maps.get(self._place(card, request))
        return await self._png(pictures.result_png, path)

    async def summary(self, request: Request) -> Response:
        """The summary page as the PACS got it."""
        return await self._summary(request, None)

    async def thumbnail(self, request: Request) -> Response:
        """The picture of the strongest key slice, small."""
        self._reader(request)
        card = await self._card(request)
        shown = await run_in_threadpool(pictures.sent, self._board.studies.results / str(card.job.id))
        paths = list(shown.maps.values())
        return await self._png(pictures.result_png, paths[len(paths) // 2] if paths else None, pictures.THUMBNAIL_PX)

    async def _summary(self, request: Request, largest_px: int | None) -> Response:
        self._reader(request)
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
        session, form = await self._signed(request)
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
        self._audit_action(session, request, card)
        return RedirectResponse(f"../{card.job.id}", 303)

    async def act(self, request: Request) -> Response:
        """An operator's redo or resend."""
        session, _ = await self._signed(request)
        if session.person.role != "operator":
            raise HTTPException(403)
        card, action, desk = await self._card(request), request.path_params["action"], self._board.desk
        if action == "redo":
            await run_in_threadpool(desk.redo, card.job.id)
        elif action == "resend":
            await run_in_threadpool(desk.resend, card.job.id)
        else:
            raise HTTPException(404)
        self._audit_action(session, request, card)
        return RedirectResponse(f"../{card.job.id}", 303)

    async def feedback_csv(self, request: Request) -> Response:
        """All opinions."""
        session = self._reader(request)
        if session is None:
            raise HTTPException(401)
        text = await run_in_threadpool(self._board.book.as_csv)
        return Response(
            text, media_type="text/csv", headers={"Content-Disposition": "attachment; filename=feedback.csv"}
        )

    # --- the node itself -----------------------------------------------------------------------------------------

    async def operations(self, request: Request) -> Response:
        """Queue, disk, destinations, days, gates."""
        session = self._reader(request)
        board = self._board
        found = await run_in_threadpool(health.facts, board.config, board.studies, board.clock())
        return self._page(
            request, "operations.html", session, facts=found, days=_days(board.studies.cards),
            gates=_gates(board.studies.cards), now=board.clock(),
        )  # fmt: skip

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
        text = await run_in_threadpool(health.metrics, board.config, board.studies, board.clock())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def events(self, request: Request) -> Response:
        """News for an open page."""
        self._reader(request)
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
        places, number = _slices(card), request.path_params["number"]
        if not 1 <= number <= len(places):
            raise HTTPException(404)
        place: tuple[str, int | None] = places[number - 1]
        return place

    def _page(
        self, request: Request, name: str, session: Session | None, status: int = 200, **values: Any
    ) -> HTMLResponse:
        person = session.person if session else None
        html = self._board.templates.get_template(name).render(
            w=_words(request), person=person, csrf=session.csrf if session else "", version=__version__,
            root=request.scope.get("root_path", ""), can_sign_in=self._board.users is not None, **values,
        )  # fmt: skip
        return HTMLResponse(html, status)

    def _audit_view(self, session: Session | None, request: Request, card: Card) -> None:
        name = session.person.name if session else "guest"
        audit.get().viewed(name, _address(request), card.job.study_uid, self._first(card))

    def _audit_action(self, session: Session, request: Request, card: Card) -> None:
        audit.get().acted(session.person.name, _address(request), card.job.study_uid, self._first(card))

    def _first(self, card: Card) -> Path:
        first = card.job.sop_instance_uids[0] if card.job.sop_instance_uids else ""
        return self._board.spool.directory(card.job.series_uid) / f"{first}.dcm"


def _words(request: Request) -> words.Words:
    return words.of(request.headers.get("accept-language", ""))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _slices(card: Card) -> Sequence[tuple[str, int | None]]:
    """(SOP Instance UID, frame number) per slice, foot to head; in the order of UIDs where nothing was analysed."""
    if card.result and card.result.slices:
        return card.result.slices
    return [(uid, None) for uid in card.job.sop_instance_uids]


def _fits(card: Card, chosen: str, reviewed: Any) -> bool:
    if chosen == "all":
        return True
    if chosen == "open":
        return card.standing not in HIDDEN and card.job.id not in reviewed
    return card.standing == chosen or (chosen == "ANALYSING" and card.standing == "QUEUED")


@lru_cache(maxsize=4096)
def _patient(path: Path) -> dict[str, str]:
    keywords = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "SeriesDescription")
    try:
        header = read_header(path, keywords)
        return {keyword: str(header.get(keyword) or "") for keyword in keywords}
    except (OSError, UnidentifiableInstance):
        return {}


def _days(cards: Sequence[Card]) -> list[tuple[str, dict[str, int]]]:
    """Per day (UTC), newest last: how many of each standing."""
    days: dict[str, dict[str, int]] = {}
    for card in cards:
        if card.standing not in HIDDEN:
            day = datetime.fromtimestamp(card.job.created_at, UTC).strftime("%Y-%m-%d")
            tally = days.setdefault(day, {})
            tally[card.standing] = tally.get(card.standing, 0) + 1
    return sorted(days.items())[-14:]


def _gates(cards: Sequence[Card]) -> list[tuple[str, int]]:
    """Reasons for "not analysed", most frequent first."""
    tally: dict[str, int] = {}
    for card in cards:
        if card.standing == "NOT ANALYSED" and card.reason:
            tally[card.reason] = tally.get(card.reason, 0) + 1
    return sorted(tally.items(), key=lambda item: -item[1])[:12]


def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(HERE / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["ago"] = _ago
    environment.filters["clock"] = lambda moment: datetime.fromtimestamp(moment).astimezone().strftime("%H:%M")
    environment.filters["moment"] = lambda moment: (
        datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    )
    environment.filters["percent"] = lambda p: "" if p is None else f"{min(99, round(p * 100))} %"
    environment.globals["JobState"] = JobState
    environment.globals["OPINIONS"] = OPINIONS
    return environment


def _ago(seconds: float) -> str:
    """How long: 40 s, 12 min, 3 h 05, 2 d."""
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    if seconds < 100 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f}"
    return f"{seconds / 86400:.0f} d"


__all__ = ["Board", "Person", "build"]
