"""Who gets into the embedded server: an ASGI application around Prefect's that refuses everything by default.

A request passes with the string of Prefect's clients (``Authorization: Basic``; on a websocket also as its first
message, as Prefect's clients send it) or with the cookie of a browser that has signed in by a one-time link. Without
either only the health check and the server's proof of identity are answered.

Prefect's own check (``PREFECT_SERVER_API_AUTH_STRING``) is not used: it knows one string, so a secret could not be
replaced while a night runs, and with it the pages ask everybody for a password.

Host and Origin are checked first, so that neither a page of another origin nor a name that was made to point here (DNS
rebinding) reaches anything. What writes by cookie must prove that it comes from our own pages by ``Origin`` or
``Sec-Fetch-Site``, which browsers add and pages cannot forge. Prefect's CSRF tokens are not used: each client would
have to fetch one before its first request, and they protect nothing that the origin does not.
"""

import base64
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterable
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from deployments.server.identity import LOOPBACK, PATH, Accepted, is_among, keyed_hash
from deployments.server.turns import AHEAD, EXPENSIVE, RequestTurns

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SIGN_IN = "/gw-workflow/sign-in"
"""Path of one-time links (GET, with ``token``); below ``/api`` that of the request for one (POST, by clients)."""

METRICS = "/api/metrics"
"""Path of the metrics of the server's process."""

OPEN = {PATH, "/api/health"}
"""Paths that are answered to everybody."""

PUBLIC_VARIABLE = "GW_WORKFLOW_PUBLIC_URL"
"""Environment variable with the address of a reverse proxy in front of the server, such as https://gw.example.org."""

LINK_S = 900.0
"""Seconds for which a one-time link is valid."""

SESSION_S = 12 * 3600
"""Seconds for which a browser stays signed in."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    # Prefect's pages set styles from scripts and load workers of their editor from blobs.
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob: https:; font-src 'self' data:; "
    b"connect-src 'self' ws: wss:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
}
"""Headers of every answer."""

POLICY_VIOLATION = 1008
"""Code with which a websocket is closed."""

REFUSED_PAGE = """<!doctype html><html lang="en"><title>Sign in</title>
<p>This server belongs to a site of gw-workflow. <code>gw-workflow sign-in --site SITE</code> prints a link that lets
this browser in; so does <code>gw-workflow serve</code> when it starts.</p></html>"""


class Gate:
    """Lets the site's clients and signed-in browsers reach an application.

    Parameters
    ----------
    app
        The application.
    folder
        Folder of the server, with its secret.
    public_url
        Address of a reverse proxy; empty if there is none.
    """

    def __init__(self, app: "ASGIApp", folder: Path, public_url: str | None = None) -> None:
        self._app = app
        self._folder = folder
        self._public = urlsplit(os.environ.get(PUBLIC_VARIABLE, "") if public_url is None else public_url)
        self._links: dict[bytes, float] = {}
        self._turns = RequestTurns()
        self._read: tuple[Any, Accepted] = (None, Accepted((), ()))
        self._cookie = f"gw-workflow-{sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request, pass it on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        send = _with_headers(send)
        if not self._is_at_home(headers):
            await _refuse(scope, receive, send, 403, "this server is not known by that name, or not to that origin")
            return
        path = scope["path"]
        given = headers.get("authorization", "")
        by_string = self._has_string(given) or self._has_token(scope, given)
        by_cookie = not by_string and self._has_cookie(headers.get("cookie", ""))
        if path in (SIGN_IN, f"/api{SIGN_IN}") and scope["type"] == "http":
            await self._sign_in(scope, receive, send, may_ask=by_string)
        elif scope["type"] == "websocket" and not (by_string or (by_cookie and "origin" in headers)):
            await self._app(_without_secrets(scope), self._first_message(receive), send)
        elif not (by_string or by_cookie or (path in OPEN and scope.get("method") == "GET")):
            await _refuse(scope, receive, send, 401, "Unauthorized")
        elif by_cookie and not _from_own_page(scope, headers):
            await _refuse(scope, receive, send, 403, "a page of another origin asks")
        elif scope["type"] == "http" and EXPENSIVE.match(path):
            async with self._turns.turn(ahead=AHEAD in headers):
                await self._app(_without_secrets(scope), receive, send)
        else:
            await self._app(_without_secrets(scope), receive, send)

    def _is_at_home(self, headers: dict[str, str]) -> bool:
        """Whether Host names this server, and Origin, if there is one, its own pages."""
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        is_public = bool(self._public.netloc) and host == self._public.netloc
        if name not in LOOPBACK and not is_public:
            return False
        origin = headers.get("origin")
        own = f"{self._public.scheme}://{host}" if is_public else f"http://{host}"
        return origin in (None, own)

    def _accepted(self) -> Accepted:
        """Return what is accepted; the files are read again when they have changed."""
        stamps = Accepted.stamps(self._folder)
        if self._read[0] != stamps:
            self._read = (stamps, Accepted.read(self._folder))
        return self._read[1]

    def _has_string(self, header: str) -> bool:
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(encoded, validate=True).decode()
        except ValueError:
            return False
        return is_among(given, self._accepted().strings)

    def _has_token(self, scope: "Scope", header: str) -> bool:
        """Whether Prometheus asks for the metrics with its token."""
        scheme, _, token = header.partition(" ")
        is_asked = scope["path"] == METRICS and scope.get("method") == "GET" and scheme.lower() == "bearer"
        return is_asked and is_among(token, self._accepted().metrics)

    def _sign(self, until: str, nonce: str) -> str:
        return keyed_hash(self._folder, "cookie", until, nonce, str(self._folder.resolve()))

    def _has_cookie(self, header: str) -> bool:
        """Whether a cookie of this server is there, unaltered and not expired."""
        try:
            found = SimpleCookie(header).get(self._cookie)
        except CookieError:
            return False
        until, _, rest = (found.value if found else "").partition(".")
        nonce, _, signature = rest.partition(".")
        if not (until.isascii() and until.isdigit() and len(until) < 12 and nonce.isalnum()):
            return False
        is_signed = hmac.compare_digest(signature.encode(), self._sign(until, nonce).encode())
        return is_signed and time.time() < int(until)

    async def _sign_in(self, scope: "Scope", receive: "Receive", send: "Send", *, may_ask: bool) -> None:
        """Give a client a one-time token, or a browser with one its cookie."""
        from starlette.responses import JSONResponse, RedirectResponse

        now = time.monotonic()
        self._links = {token: until for token, until in self._links.items() if until > now}
        if scope["method"] == "POST" and may_ask:
            token = secrets.token_urlsafe(32)
            self._links[_digest(token)] = now + LINK_S
            await JSONResponse({"token": token}, headers={"cache-control": "no-store"})(scope, receive, send)
            return
        query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=4)
        given = _digest(query.get("token", [""])[0])
        if scope["method"] != "GET" or self._links.pop(given, None) is None:
            await _refuse(scope, receive, send, 401, "this link was used already, has expired, or is none")
            return
        answer = RedirectResponse("/", 303, headers={"cache-control": "no-store"})
        until, nonce = str(int(time.time()) + SESSION_S), secrets.token_hex(16)
        answer.set_cookie(
            self._cookie,
            f"{until}.{nonce}.{self._sign(until, nonce)}",
            max_age=SESSION_S,
            httponly=True,
            samesite="lax",
            secure=self._public.scheme == "https",
        )
        await answer(scope, receive, send)

    def _first_message(self, receive: "Receive") -> "Receive":
        """Require that the first message of a websocket authenticates, as Prefect's clients do."""
        has_passed = False

        async def checked() -> "Message":
            nonlocal has_passed
            message = await receive()
            if has_passed or message["type"] != "websocket.receive":
                return message
            if is_among(_token(message), self._accepted().strings):
                has_passed = True
                return {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": "checked"})}
            # Prefect closes a websocket whose first message is not of this type.
            return {"type": "websocket.receive", "text": json.dumps({"type": "refused"})}

        return checked


def _token(message: "Message") -> str:
    """Return the token of a message that authenticates; empty for any other message."""
    try:
        content = json.loads(message.get("text") or message.get("bytes") or "")
        if content["type"] == "auth":
            return str(content["token"])
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return ""


def _digest(token: str) -> bytes:
    # The table of links is searched by the hash: the time of the search says nothing about a token.
    return sha256(token.encode()).digest()


def _headers(scope: "Scope") -> dict[str, str]:
    """Return the headers of a request; of one that is given twice, all values."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        separator = "; " if key == "cookie" else ", "
        found[key] = f"{found[key]}{separator}{text}" if key in found else text
    return found


def _without_secrets(scope: "Scope") -> "Scope":
    """Return a request without what authenticates it, so that no log or exception of the application shows it."""
    secret = (b"authorization", b"cookie")
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() not in secret]}


def _from_own_page(scope: "Scope", headers: dict[str, str]) -> bool:
    """Whether a browser sends a request for one of our pages, or follows a link to one."""
    site = headers.get("sec-fetch-site")
    if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
        return site in (None, "none", "same-origin") or headers.get("sec-fetch-mode") == "navigate"
    return "origin" in headers or site == "same-origin"  # a foreign Origin was refused before


def _with_headers(send: "Send") -> "Send":
    async def sending(message: "Message") -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            added: Iterable[tuple[bytes, bytes]] = HEADERS.items()
            message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in present)]
        await send(message)

    return sending


async def _refuse(scope: "Scope", receive: "Receive", send: "Send", code: int, reason: str) -> None:
    """Answer that a request is refused; a browser that opens a page is told how to sign in."""
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.websockets import WebSocketClose

    if scope["type"] == "websocket":
        await WebSocketClose(POLICY_VIOLATION, reason)(scope, receive, send)
        return
    answer: Response = JSONResponse({"exception_message": reason}, code)
    if code == 401 and "text/html" in _headers(scope).get("accept", ""):
        answer = HTMLResponse(REFUSED_PAGE, code)
    await answer(scope, receive, send)
