"""The web server: uvicorn on one socket, which leaves clients that send too slowly."""

from __future__ import annotations

import socket
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sid2core.errors import Sid2Error
from sid2core.serving import guard
from sid2core.serving.guard import Guard

CONNECTIONS = 256
_HEADER_BYTES = 16 * 1024


class ServeError(Sid2Error):
    """The server cannot listen there."""


class _Impatient(H11Protocol):
    """HTTP/1.1 with a time limit for the header; :class:`Guard` has one for the body."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the header."""
        super().connection_made(transport)
        self._late = self.loop.call_later(guard.SECONDS, self._leave)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._late.cancel()
        super().connection_lost(exc)

    def _leave(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.write(guard.late())
            self.transport.close()


class _Server(uvicorn.Server):
    """A server that ends its streams when it is asked to end."""

    def __init__(self, config: uvicorn.Config, app: Guard):
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        self._app.ended = True
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one.

    Raises:
        ServeError: the address is unknown, or the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        msg = f"{host}, port {port}: {error.strerror or error}; give another --host or --port"
        raise ServeError(msg) from None


def server(app: Guard) -> uvicorn.Server:
    """The server, not yet started: ``server(app).run(sockets=[listen(host, port)])``."""
    config = uvicorn.Config(
        app,
        http=_Impatient,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_graceful_shutdown=2,
    )
    return _Server(config, app)
