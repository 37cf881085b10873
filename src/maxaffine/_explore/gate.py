"""Who may ask: only this machine, only by the address with the secret word, and never a foreign page."""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HOST = "127.0.0.1"
# Nothing but what this server sends itself: no inline code, no other origin, no frame around the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Gate:
    """Refuses requests without the secret word, its path's first part, and puts the headers on every reply."""

    def __init__(self, app: App, token: str, port: int) -> None:
        self._app = app
        self._prefix = f"/{token}".encode()
        self._hosts = {f"{HOST}:{port}".encode(), f"localhost:{port}".encode()}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if reason is None:
            path = scope["path"][len(self._prefix) :]
            inside = {**scope, "path": path, "raw_path": path.encode()}
            await self._app(inside, receive, _with_headers(send))
        elif scope["type"] == "http":
            await _refuse(_with_headers(send), reason)

    def _refusal(self, scope: Message) -> str | None:
        if scope["type"] != "http":
            return "only HTTP is spoken here"
        # A page elsewhere whose name was pointed at this machine (DNS rebinding) sends its own name as the host; one
        # that posts here sends its own origin.
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return "this server answers to 127.0.0.1 and localhost alone"
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if any(origin != b"http://" + hosts[0] for origin in origins):
            return "this server answers its own page alone"
        # Compared in constant time, so that the word cannot be guessed letter by letter.
        path = scope["path"].encode()
        start, rest = path[: len(self._prefix)], path[len(self._prefix) :]
        if not secrets.compare_digest(start, self._prefix) or not rest.startswith(b"/"):
            return "the address lacks the secret word; take the one that the terminal shows"
        return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            kept = [(name, value) for name, value in message["headers"] if name.decode().lower() not in HEADERS]
            message = {**message, "headers": kept + own}
        await send(message)

    return sending


async def _refuse(send: Send, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": f"Refused: {reason}.\n".encode()})
