"""Who comes in: what every request must be, the headers of every answer, and who is signed in."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ich_node.board.people import Proxy, Session, Sessions, Users

COOKIE = "ich_node_session"
BODY_LIMIT = 16 << 10  # a form of ours has a few hundred bytes
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


async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
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


@dataclass(frozen=True, slots=True)
class Entrance:
    """Tells who asks, by the session's cookie or by the proxy in front."""

    sessions: Sessions
    users: Users | None
    proxy: Proxy | None

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches the board may look (without names)."""
        return self.users is None and self.proxy is None

    def session(self, request: Request) -> Session | None:
        """Who is signed in, by the session or by the proxy; None for a guest."""
        if self.proxy is not None and (person := self.proxy.person(request.headers)) is not None:
            return self.sessions.vouched(person)
        return self.sessions.find(request.cookies.get(COOKIE))

    def reader(self, request: Request) -> Session | None:
        """Who may look: who is signed in, or anybody while there are no users. Raises 401 otherwise."""
        session = self.session(request)
        if session is None and not self.is_open:
            raise HTTPException(401)
        return session

    async def signed(self, request: Request) -> tuple[Session, dict[str, str]]:
        """The session and the form of a POST that its own page sent. Raises 401 or 403."""
        session = self.session(request)
        if session is None:
            raise HTTPException(401)
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        if not hmac.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
            raise HTTPException(403)
        return session, form


def address(request: Request) -> str:
    """Of the peer; empty where there is none."""
    return request.client.host if request.client else ""
