"""Who may ask, and how much: hosts, origins, the token, the size and the speed of bodies.

Pure ASGI, before any other code sees a request. A refusal is one sentence of plain text.
"""

from __future__ import annotations

import asyncio
import hmac
import http.cookies
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse

from sid2core.errors import printable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES = 64 * 1024
_DRAINED_BYTES = 32 * 1024**2
"""So much of a body that is too long is read and dropped: else the client would not see why."""
SECONDS = 10.0
"""A client that takes longer to send a request is refused."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
COOKIE = "sid2_token"
ENDED = "sid2core.ended"
"""In a scope: a function that says whether the server ends."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    # One request a connection: a slow client can be recognised by its age.
    "connection": "close",
}


class Refused(Exception):
    """A request that is not answered otherwise; the status and one sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Guard:
    """Wraps an app.

    Args:
        app: sees only requests that passed, with their whole body.
        host: on which the server listens; without loopback, any address of this machine is a host.
        token: must be in a cookie or in the header Authorization; None is no token.
    """

    def __init__(self, app: App, host: str = LOOPBACK[1], token: str | None = None):
        self._app, self._token = app, token
        self.ended = False
        """Whether the server ends, so that streams must end too."""
        self._anywhere = not is_loopback(host)
        machine = {socket.gethostname(), socket.getfqdn()} if self._anywhere else set()
        self._names = {name.lower() for name in {*LOOPBACK, host, *machine} if name}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            if self._token is not None and not self._authorised(headers):
                await self._enter(scope)(scope, receive, send)
                return
            body = await _body(headers, receive)
        except Refused as refusal:
            answer = PlainTextResponse(f"{refusal}\n", refusal.status)
            await answer(scope, receive, send)
            return
        scope[ENDED] = lambda: self.ended
        await self._app(scope, _replayed(body, receive), send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_own(_name(host)):
            msg = f"Host: found {_shown(host)}; expected the address that the server printed."
            raise Refused(421, msg)
        origin = headers.get("origin")
        if origin is not None and origin != f"{scope['scheme']}://{host}":
            msg = f"Origin: found {_shown(origin)}; only the page of this server may ask."
            raise Refused(403, msg)
        site = headers.get("sec-fetch-site", "none")
        if site in ("cross-site", "same-site") and scope["method"] != "GET":
            raise Refused(403, f"Sec-Fetch-Site: found {site}; expected the page of this server.")

    def _is_own(self, name: str) -> bool:
        return name in self._names or (self._anywhere and _is_address(name))

    def _authorised(self, headers: Headers) -> bool:
        given = [headers.get("authorization", "").removeprefix("Bearer ")]
        cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except http.cookies.CookieError as error:
            raise Refused(400, f"Cookie: {printable(str(error))}.") from None
        if COOKIE in cookies:
            given.append(cookies[COOKIE].value)
        return any(self._is_token(one) for one in given)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self._token or "").encode())

    def _enter(self, scope: Scope) -> App:
        """The token in a URL becomes a cookie, and the URL is opened again without it."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        others = [(name, value) for name, value in pairs if name != "token"]
        if scope["method"] != "GET" or not any(
            name == "token" and self._is_token(value) for name, value in pairs
        ):
            raise Refused(401, "token: open the address with the token that the server printed.")
        answer = RedirectResponse(f"/?{urlencode(others)}" if others else "/", 303)
        answer.set_cookie(COOKIE, self._token or "", httponly=True, samesite="strict")
        return answer


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def late() -> bytes:
    """The whole answer to a client whose header did not come in time."""
    text = f"The request did not come within {SECONDS:g} seconds.\n".encode()
    start = f"HTTP/1.1 408 Request Timeout\r\ncontent-length: {len(text)}\r\n".encode()
    return start + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n" + text


async def _body(headers: Headers, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        Refused: it is too long, too slow, or the client has gone.
    """
    length = headers.get("content-length", "0")
    announced = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else _DRAINED_BYTES
    parts, size, more = list[bytes](), 0, announced < _DRAINED_BYTES
    try:
        async with asyncio.timeout(SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "body: the client has gone.")
                part = message.get("body", b"")
                size += len(part)
                parts = [*parts, part] if size <= BODY_BYTES else []
                more = message.get("more_body", False) and size < _DRAINED_BYTES
    except TimeoutError:
        raise Refused(408, f"body: it did not come within {SECONDS:g} seconds.") from None
    if max(size, announced) > BODY_BYTES:
        raise Refused(413, f"body: found more than {BODY_BYTES // 1024} KiB; settings take less.")
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    first = True

    async def again() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return wrapped


def _name(host: str) -> str:
    """The host of ``host:port``, without brackets."""
    found = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](:\d*)?|([^:\[\]/@]*)(:\d*)?", host)
    return "" if found is None else (found[1] or found[3] or "").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return printable(text[:80]) or "nothing"
