"""The guard in front of every page: who may look, from where, and what a browser may do with the answer.

A console on a loopback address is still within reach of every program and every web page of this machine. So:

1. The `Host` that a request names must be this machine by number, `localhost`, or the name that the console was started
   with: a page of another name that was made to point here (DNS rebinding) is turned away.
2. The token that was printed at the start is exchanged for a cookie that scripts cannot read and other sites cannot
   send. Both are compared in constant time.
3. What changes something is refused unless the console was started for that; then it must carry a token of this console
   in its form, and come from a page of this origin.
4. Every answer says that it runs no script but the console's own, is shown in nobody's frame, and asks nobody else.

Before this: the server has parsed a request. After this: the pages, which think of none of it.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Refused, refusal
from .rendering import rendered

__all__ = ["COOKIE", "FORM_TOKEN", "HEADERS", "Guard", "Keys"]

COOKIE = "holdfast_console"
FORM_TOKEN = "form_token"
OPEN_PATHS = "/static/"  # the style of the page that says that one may not look; nothing of a journal is below it
READS = frozenset({"GET", "HEAD"})
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of one life of a console. `token`: lets in whoever has it; None: everybody is let in."""

    token: str | None = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    form: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


class Guard:
    """ASGI middleware. `names`: of hosts, beside this machine's own, under which the console is reached."""

    def __init__(self, app: ASGIApp, keys: Keys, names: Iterable[str] = (), *, allow_changes: bool = False) -> None:
        self._app, self._keys, self._allow_changes = app, keys, allow_changes
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the console speaks nothing else
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = _with_headers(send)
        try:
            self._check_host(scope)
            entering = self._entering(scope)
            if entering is None:
                self._check_cookie(scope)
                self._check_change(scope)
        except Refused as problem:
            await refusal(problem)(scope, receive, guarded)
            return
        answer = self._app if entering is None else self._let_in(scope, entering)
        await answer(scope, receive, guarded)

    def _check_host(self, scope: Scope) -> None:
        name = _host_name(Headers(scope=scope).get("host", ""))
        if name not in self._names and not _is_number(name):
            raise Refused(
                421,
                "Not under this name",
                "The console answers to this machine's numbers, to localhost, and to the name given as `--host`.",
            )

    def _entering(self, scope: Scope) -> str | None:
        """Where to go on to, if this request brings the token. Raises `Refused` if it brings another."""
        query = parse_qsl(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
        given = [each for name, each in query if name == "token"]
        if self._keys.token is None or not given or scope["method"] not in READS:
            return None
        if not _same(given[0], self._keys.token):
            raise Refused(401, "Not with this token", *_HOW_TO_ENTER)
        rest = urlencode([(name, each) for name, each in query if name != "token"], quote_via=quote)
        path = "/" + quote(scope["path"].lstrip("/"))  # of this origin in any case: "//host" would be another
        return f"{path}?{rest}" if rest else path

    def _let_in(self, scope: Scope, where: str) -> Response:
        """Give the cookie, and have the page itself go on: a redirect of a request that a link elsewhere began would
        count as that other site's, and bring no strict cookie along."""
        response = rendered("entering.html", where=where)
        response.set_cookie(_cookie_of(scope), self._keys.session, httponly=True, samesite="strict", path="/")
        return response

    def _check_cookie(self, scope: Scope) -> None:
        if self._keys.token is None or scope["path"].startswith(OPEN_PATHS):
            return
        cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
        if not _same(cookies.get(_cookie_of(scope), ""), self._keys.session):
            raise Refused(401, "Not without the token", *_HOW_TO_ENTER)

    def _check_change(self, scope: Scope) -> None:
        """Whether it may be sent at all; whether it carries the form's token, whoever reads the form finds out."""
        if scope["method"] in READS:
            return
        if not self._allow_changes:
            raise Refused(405, "This console only looks", "Start it with `--allow-changes` to change something here.")
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        from_here = not origin or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        if not from_here or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "Not from another page", "A change is only taken from a page of this console.")


_HOW_TO_ENTER = (
    "Open the address that `holdfast ui` printed when it started: it carries the token of this console.",
    "Each start has a new one.",
)


def _cookie_of(scope: Scope) -> str:
    """Cookies know no ports: two consoles of one machine would overwrite each other's."""
    server = scope.get("server") or ("", 0)
    return f"{COOKIE}_{server[1] or 0}"


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, each in HEADERS.items():
                headers[name] = each
        await send(message)

    return guarded


def _host_name(host: str) -> str:
    """Without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_number(name: str) -> bool:
    """Whether it is an address by number, which no name server has any say in."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())
