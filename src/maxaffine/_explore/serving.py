"""Serve the explorer on this machine until Ctrl-C."""

from __future__ import annotations

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
