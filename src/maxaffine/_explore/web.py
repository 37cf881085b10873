"""The explorer over HTTP: which address asks which question."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxaffine._explore.explorer import Explorer
from maxaffine._report import DRAWN, Window
from maxaffine.errors import BadInput, MaxAffineError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

PAGE = Path(__file__).parent / "page"
MOST_BYTES = 16 * 2**20
# Of a window: its coordinates, and how narrow it may be beside them.
LARGEST_NUMBER, NARROWEST = 10**9, 1e-12


@dataclass(frozen=True)
class Call:
    """One question."""

    query: Mapping[str, str]  # what follows the question mark of the address
    body: bytes

    def word(self, name: str) -> str:
        """A word of the query."""
        if name not in self.query:
            raise BadInput(f"{name}: is missing")
        return self.query[name]

    def number(self, name: str) -> int:
        """A whole number of the query."""
        text = self.word(name)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise BadInput(f"{name}: expected a whole number of at least 0")
        return int(text)

    def window(self) -> Window:
        """Left, right, bottom and top."""
        return _window([self._side(name) for name in ("left", "right", "bottom", "top")])

    def _side(self, name: str) -> float:
        try:
            return float(self.word(name))
        except ValueError as error:
            raise BadInput(f"{name}: expected a number") from error

    def json(self) -> Mapping[str, Any]:
        """The body as an object of JSON."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"body: it is not JSON ({error})") from error
        if not isinstance(found, dict):
            raise BadInput("body: expected an object")
        return found


Answer = Callable[[Call], Any]


class TooLarge(Exception):
    """What was sent is larger than anything that is accepted."""


def answers(explorer: Explorer) -> dict[tuple[str, str], Answer]:
    """(method, path) -> answer; bytes are a PNG file, anything else goes out as JSON."""
    planes = explorer.planes
    return {
        ("GET", "/about"): lambda call: explorer.about(),
        ("GET", "/images"): lambda call: explorer.images(
            call.word("part"),
            call.number("label") if call.query.get("label") else None,
            call.number("start"),
            call.number("count"),
        ),
        ("GET", "/thumbnail"): lambda call: explorer.shelf.thumbnail(call.word("image")),
        ("POST", "/upload"): lambda call: explorer.upload(call.body, call.word("name")),
        ("GET", "/explain"): lambda call: explorer.explain(call.word("image"), call.number("checkpoint")),
        ("GET", "/neighbors"): lambda call: explorer.neighbors(call.word("image"), call.number("checkpoint")),
        ("POST", "/plane"): lambda call: explorer.divide(*_divide(call.json())),
        ("GET", "/plane"): lambda call: planes.state(call.word("key")),
        ("DELETE", "/plane"): lambda call: planes.cancel(call.word("key")),
        ("GET", "/plane/view"): lambda call: planes.view(
            call.word("key"), call.window(), call.number("width"), call.number("height")
        ),
        ("GET", "/plane/cell"): lambda call: planes.cell(call.word("key"), call.number("cell")),
        ("POST", "/plane/cell"): lambda call: explorer.keep_center(call.word("key"), call.number("cell")),
    }


def application(explorer: Explorer) -> Starlette:
    """The web application without its gate: the page's files and the answers."""
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    routes = [Route(path, _endpoint(answer), methods=[method]) for (method, path), answer in answers(explorer).items()]
    drawn = Mount("/drawn", StaticFiles(directory=DRAWN))
    return Starlette(routes=[*routes, drawn, Mount("/", StaticFiles(directory=PAGE, html=True))])


def _endpoint(answer: Answer) -> Callable[[Request], Any]:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response

    async def endpoint(request: Request) -> Response:
        try:
            call = Call(request.query_params, await _body(request))
            found = await run_in_threadpool(answer, call)
        except TooLarge:
            # The rest of the body is not read, so the connection cannot be used again.
            words = f"body: more than {MOST_BYTES // 2**20} MiB; make the file smaller"
            return JSONResponse({"error": words}, 413, {"connection": "close"})
        except ClientDisconnect:
            # Nobody is left to read an answer.
            return Response(status_code=400)
        except MaxAffineError as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(found, media_type="image/png") if isinstance(found, bytes) else JSONResponse(found)

    return endpoint


async def _body(request: Request) -> bytes:
    """What was sent, read no further than is accepted."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > MOST_BYTES:
        raise TooLarge
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


def _divide(asked: Mapping[str, Any]) -> tuple[list[str], int, Window | None]:
    images, checkpoint, window = asked.get("images"), asked.get("checkpoint"), asked.get("window")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise BadInput("images: expected a list of references")
    if not isinstance(checkpoint, int) or isinstance(checkpoint, bool):
        raise BadInput("checkpoint: expected a whole number of at least 0")
    return images, checkpoint, None if window is None else _window(window)


def _window(sides: Any) -> Window:
    """Four sides as a window that spans an area, refused where numbers cannot say what lies in it."""
    # A boolean is an int in Python, but no place on a plane.
    numbers = isinstance(sides, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in sides)
    if not numbers or len(sides) != 4:
        raise BadInput("window: expected four numbers: left, right, bottom and top")
    # NaN is not below anything.
    if not all(abs(side) < LARGEST_NUMBER for side in sides):
        raise BadInput(f"window: each side must be a number between ±{LARGEST_NUMBER:.0e}")
    left, right, bottom, top = map(float, sides)
    # Narrower, and double precision could not tell its points apart.
    least = NARROWEST * max(1.0, *(abs(side) for side in sides))
    if not (right - left > least and top - bottom > least):
        raise BadInput("window: left, right, bottom and top must span an area, left below right and bottom below top")
    return left, right, bottom, top
