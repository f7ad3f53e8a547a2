"""The web application: the page, and a stream of states for each drawing."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jinja2
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from sid2core import report
from sid2core.errors import Sid2Error, message
from sid2core.serving import guard
from sid2core.serving.guard import Receive, Refused, Scope, Send
from sid2core.serving.jobs import Full, Job, Work, Worker

_PAGE = Path(__file__).parent / "page"
_LOOK = Path(report.__file__).parent / "templates" / "page.css"
"""Colours and type are those of the result page."""
_LOOK_SECONDS = 0.25
"""So often a stream looks whether its client has gone."""
_SEND_SECONDS = 30.0
"""A client that takes longer to read a state is left."""
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'nonce-{0}'; script-src 'nonce-{0}'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@runtime_checkable
class Drawer(Protocol):
    """A model that draws what JSON values ask for."""

    def about(self) -> Mapping[str, Any]:
        """What the page must know of it, as JSON values."""
        ...

    def work(self, asked: Mapping[str, Any]) -> Work:
        """The drawing that ``asked`` describes.

        Raises:
            Sid2Error: it cannot be drawn, or exceeds a limit.
        """
        ...


def application(
    drawers: Mapping[str, Drawer],
    start: Mapping[str, Any],
    *,
    host: str = guard.LOOPBACK[1],
    token: str | None = None,
) -> guard.Guard:
    """The application.

    Args:
        drawers: the models by name; no others can be asked for.
        start: what the page shows first: limits, samplers and settings, as JSON values.
        host: on which it listens.
        token: who knows it may ask; None is everybody who reaches the host.
    """
    workers = {name: Worker(name) for name in drawers}
    models = [{"name": name, **drawer.about()} for name, drawer in drawers.items()]
    routes = [
        Route("/", partial(_page, about={"models": models, **start})),
        Route("/draw", partial(_draw, drawers=drawers, workers=workers), methods=["POST"]),
    ]
    handlers = {Refused: _refused, HTTPException: _http}
    return guard.Guard(Starlette(routes=routes, exception_handlers=handlers), host, token)


async def _page(request: Request, about: Mapping[str, Any]) -> Response:
    del request
    nonce = secrets.token_urlsafe(16)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_text("page.html.j2"))
    # Within a script element only "<" could end it; names come from files.
    shown = json.dumps(about).replace("<", r"\u003c")
    content = template.render(
        nonce=nonce,
        css=Markup(_LOOK.read_text(encoding="utf-8") + _text("page.css")),
        script=Markup(_text("page.js")),
        about=Markup(shown),
    )
    return HTMLResponse(content, headers={"content-security-policy": _POLICY.format(nonce)})


async def _draw(
    request: Request, drawers: Mapping[str, Drawer], workers: Mapping[str, Worker]
) -> Response:
    asked = _asked(request.headers.get("content-type", ""), await request.body())
    name = asked.pop("model", None)
    if not isinstance(name, str) or name not in drawers:
        raise Refused(404, f"model: found {_short(name)}; expected {_any_of(list(drawers))}.")
    try:
        # Making conditions of prompts may take a moment; the page must not wait for it.
        work = await asyncio.to_thread(drawers[name].work, asked)
    except Sid2Error as error:
        raise Refused(422, message(error).replace("\n", " ")) from None
    job = Job(work, asyncio.get_running_loop())
    try:
        workers[name].submit(job)
    except Full as error:
        raise Refused(429, str(error)) from None
    return _Stream(job, workers[name])


class _Stream(Response):
    """The states of a job, a line of JSON each; the job is cancelled when the client goes."""

    media_type = "application/x-ndjson"

    def __init__(self, job: Job, worker: Worker):
        super().__init__()
        del self.headers["content-length"]
        self._job, self._worker = job, worker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_gone(receive))
        try:
            await self._send(send, {"type": "http.response.start", "status": 200})
            event = ""
            while event not in ("done", "error") and not gone.done():
                state = await self._job.next(_LOOK_SECONDS)
                if scope[guard.ENDED]():
                    state = {"event": "error", "message": "the server ends"}
                if state is None:
                    ahead = self._worker.ahead(self._job)
                    if not ahead:
                        continue
                    state = {"event": "waiting", "ahead": ahead}
                event = state["event"]
                line = json.dumps(state).encode() + b"\n"
                await self._send(
                    send, {"type": "http.response.body", "body": line, "more_body": True}
                )
            await self._send(send, {"type": "http.response.body", "more_body": False})
        except (TimeoutError, OSError):  # the client does not read, or has gone
            return
        finally:
            gone.cancel()
            self._job.cancel()

    async def _send(self, send: Send, part: dict[str, Any]) -> None:
        if part["type"] == "http.response.start":
            part["headers"] = self.raw_headers
        async with asyncio.timeout(_SEND_SECONDS):
            await send(part)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _asked(kind: str, body: bytes) -> dict[str, Any]:
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, f"Content-Type: found {_short(kind)}; expected application/json.")
    try:
        asked = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"body: it is not JSON ({_short(str(error))}).") from None
    if not isinstance(asked, dict):
        raise Refused(400, "body: expected a JSON object with the settings.")
    return asked


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


async def _refused(request: Request, error: Exception) -> Response:
    del request
    return PlainTextResponse(f"{error}\n", getattr(error, "status", 400))


async def _http(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    sentence = f"{request.method} {_short(request.url.path)}: expected GET / or POST /draw.\n"
    return PlainTextResponse(sentence, status)


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _any_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _text(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")
