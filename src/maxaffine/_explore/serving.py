"""Serve the explorer on this machine until Ctrl-C."""

import asyncio
import secrets
import socket
from collections.abc import Callable

from maxaffine import _drawing as drawing
from maxaffine._explore.explorer import Explorer
from maxaffine._explore.gate import HOST, Gate
from maxaffine._explore.web import application
from maxaffine.errors import BadInput

PACKAGES = ("starlette", "uvicorn", "PIL", "scipy")
BACKLOG = 64
# Seconds between two looks at a connection.
PATIENCE = 2.5


def require() -> None:
    """Check, before any work is spent, that the packages which serve are installed."""
    drawing.require("the explorer", PACKAGES, "explore")


def serve(explorer: Explorer, port: int = 0, ready: Callable[[str], object] = print) -> None:
    """Answer on 127.0.0.1 until Ctrl-C; ``ready`` is called with the address once connections are taken."""
    import uvicorn

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise BadInput(f"port: {port} cannot be had on {HOST} ({error}); choose another one, or 0") from error
        listening.listen(BACKLOG)
        port, token = listening.getsockname()[1], secrets.token_urlsafe(32)
        gate = Gate(application(explorer), token, port)
        # No access log: it would write the secret word to the terminal with every request. No warnings: whoever sends
        # malformed requests could fill the terminal with them.
        config = uvicorn.Config(
            gate,
            http=_impatient(),
            access_log=False,
            log_level="error",
            ws="none",
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        ready(f"http://{HOST}:{port}/{token}/")
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass
        finally:
            explorer.close()


def _impatient() -> type[asyncio.Protocol]:
    """HTTP that drops a client which keeps it waiting: no whole head, or nothing more of a body, for some seconds."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        """Uvicorn's own, which by itself waits for ever for a first request and for the rest of one."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.received, self.seen = 0, None
            self.watch = self.loop.call_later(PATIENCE, self.look)

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self.watch.cancel()
            super().connection_lost(exc)

        def look(self) -> None:
            # Of a head all counts at once, or a byte now and then would hold the connection; a body may be long, so
            # of one any further byte counts. While an answer is made or sent, it is not the client that is waited for.
            answering = self.cycle is not None and not self.cycle.response_complete
            waiting = self.cycle.more_body if answering else self.transport.get_write_buffer_size() == 0
            state = (self.cycle, self.received if answering else None) if waiting else None
            if state is not None and state == self.seen:
                self.transport.close()
                return
            self.seen = state
            self.watch = self.loop.call_later(PATIENCE, self.look)

    return Impatient
