"""Who gets in: every request that lacks the secret word, comes by another name or from another page is refused."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import maxaffine._explore
from tests.explore.conftest import Server

PAGE = Path(maxaffine._explore.__file__).parent / "page"
SECRET = "root:"


def test_listens_on_this_machine_alone(server: Server) -> None:
    rows = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [local for local, _, state in rows if state == "0A" and int(local.split(":")[1], 16) == server.port]
    assert listening == [f"0100007F:{server.port:04X}"]


def test_the_word_is_long_and_the_page_is_there(server: Server) -> None:
    assert re.fullmatch(r"[\w-]{43}", server.token)
    status, headers, content = server.raw("GET", f"/{server.token}/")
    assert status == 200 and headers["content-type"].startswith("text/html") and b"maxaffine explorer" in content


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/about",
        "/favicon.ico",
        "/{other}/about",
        "/{token}x/about",
        "/{short}/about",
        "/{token}",
        "//{token}/about",
        "/x/{token}/about",
        "/{upper}/about",
        "/?token={token}",
        "http://127.0.0.1/about",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_without_the_word_everything_is_refused(server: Server, path: str, method: str) -> None:
    words = {"token": server.token, "other": "x" * 43, "short": server.token[:-1], "upper": server.token.swapcase()}
    status, headers, content = server.raw(method, path.format(**words), b"" if method == "POST" else None)
    assert status == 403 and b"Refused" in content and b"cnn" not in content
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "",
        "[::1]:{port}",
    ],
)
def test_other_names_are_refused(server: Server, host: str) -> None:
    """DNS rebinding: a foreign page whose name leads here sends its own name."""
    headers = {"Host": host.format(port=server.port)}
    assert server.raw("GET", f"/{server.token}/about", headers=headers)[0] == 403


def test_own_names_are_taken(server: Server) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST"):
        assert server.raw("GET", f"/{server.token}/about", headers={"Host": f"{name}:{server.port}"})[0] == 200


def test_a_host_is_needed_once(server: Server) -> None:
    for hosts in ("", f"Host: 127.0.0.1:{server.port}\r\nHost: evil.example\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), 30) as link:
            link.sendall(f"GET /{server.token}/about HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
            assert link.makefile("rb").readline().split()[1] in (b"400", b"403")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_foreign_pages_are_refused(server: Server, origin: str) -> None:
    headers = {"Origin": origin.format(port=server.port)}
    assert server.raw("POST", f"/{server.token}/plane", b"{}", headers)[0] == 403


def test_websockets_are_refused(server: Server) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "x" * 24,
        "Sec-WebSocket-Version": "13",
    }
    status, _, content = server.raw("GET", f"/{server.token}/nowhere", headers=upgrade)
    assert status in (400, 403, 404) and SECRET.encode() not in content


@pytest.mark.parametrize(
    "path",
    [
        "../../../../../../etc/passwd",
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "..%5c..%5cetc%5cpasswd",
        "../web.py",
        "%2e%2e/web.py",
        "style.css/../../web.py",
        "style.css%00.png",
        "thumbnail?image=../../etc/passwd",
        "thumbnail?image=own/../../etc/passwd",
        "images?part=/etc&start=0&count=5",
    ],
)
def test_nothing_but_the_page_is_readable(server: Server, path: str) -> None:
    status, _, content = server.raw("GET", f"/{server.token}/{path}")
    assert status in (400, 404, 405) and SECRET.encode() not in content and b"import" not in content


def test_every_reply_has_the_strict_headers(server: Server) -> None:
    for path in ("", "about", "main.js", "nowhere", "thumbnail?image=test/0", "thumbnail?image=test/x", "explain"):
        headers = server.raw("GET", f"/{server.token}/{path}")[1]
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert set(policy.values()) == {"'none'", "'self'"}
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store" and "server" not in headers


def test_the_page_refers_to_nothing_elsewhere() -> None:
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|//[\w-]+\.\w|@import|url\(|\bstyle=|\bon\w+=\"", text), path.name


def _png(side: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.eye(side, dtype=np.uint8) * 255).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "unreadable"),
        (b"<svg onload='alert(1)'/>", "unreadable"),
        (_png()[:50], "unreadable"),
        (b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O'", "npy"),
    ],
)
def test_bad_uploads_get_a_message_and_the_explorer_lives_on(server: Server, content: bytes, words: str) -> None:
    assert words in server.refused("upload", {"name": "x.png"}, content)
    assert server.ask("upload", {"name": "good.png"}, _png())["image"].startswith("own/")


def test_an_announced_large_upload_is_not_read(server: Server) -> None:
    status, _, content = server.raw("POST", f"/{server.token}/upload?name=x", headers={"Content-Length": str(2**40)})
    assert status == 413 and b"more than 16 MiB" in content


def test_an_endless_upload_is_cut_off(server: Server) -> None:
    """Without a length announced, it is counted on the way: the answer comes before the end of what is sent."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as link:
        host = f"Host: 127.0.0.1:{server.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
        link.sendall(f"POST /{server.token}/upload?name=x HTTP/1.1\r\n{host}".encode())
        for _ in range(16):
            link.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        link.sendall(b"1\r\nx\r\n")
        assert link.makefile("rb").readline().split()[1] == b"413"
    assert server.ask("about")["data"] == "digits"


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        ("explain", {}, "image: is missing"),
        ("explain", {"image": "test/0"}, "checkpoint: is missing"),
        ("explain", {"image": "test/0", "checkpoint": "-1"}, "whole number"),
        ("explain", {"image": "test/0", "checkpoint": "2"}, "checkpoint: numbers run from 0 to 1"),
        ("explain", {"image": "test/359", "checkpoint": "0"}, "there is no"),
        ("explain", {"image": "test/９", "checkpoint": "0"}, "there is no"),
        ("neighbors", {"image": "elsewhere/1", "checkpoint": "0"}, "there is no"),
        ("images", {"part": "nowhere", "start": "0", "count": "3"}, "is none of"),
        ("plane", {"key": "none"}, "not kept"),
        ("plane/cell", {"key": "none", "cell": "0"}, "not kept"),
        ("plane/view", {"key": "none", "left": "nan", "right": "1", "bottom": "0", "top": "1"}, "each side must be"),
        (
            "plane/view",
            {"key": "none", "left": "x", "right": "1", "bottom": "0", "top": "1"},
            "left: expected a number",
        ),
        ("plane/view", {"key": "none", "left": "1", "right": "0", "bottom": "0", "top": "1"}, "span an area"),
        ("plane/view", {"key": "none", "left": "0", "right": "1", "bottom": "1", "top": "1"}, "span an area"),
        ("plane/view", {"key": "none", "left": "0", "right": "1e-320", "bottom": "0", "top": "1"}, "span an area"),
        ("plane/view", {"key": "none", "left": "0", "right": "1e999", "bottom": "0", "top": "1"}, "each side must be"),
    ],
)
def test_bad_questions_get_a_message(server: Server, path: str, values: dict, words: str) -> None:
    assert words in server.refused(path, values)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("[" * 100_000, "not JSON"),
        ("[]", "an object"),
        ({}, "list of references"),
        ({"images": ["test/0"] * 3}, "checkpoint"),
        ({"images": ["test/0", "test/1"], "checkpoint": 0}, "goes through three"),
        ({"images": ["test/0"] * 3, "checkpoint": 0}, "equal"),
        ({"images": ["test/0", "test/1", 2], "checkpoint": 0}, "list of references"),
    ],
)
def test_bad_planes_get_a_message(server: Server, asked: object, words: str) -> None:
    body = asked if isinstance(asked, str) else json.dumps(asked)
    assert words in server.refused("plane", body=body.encode())


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ("[1, 2]", "four numbers"),
        ("[1, 2, 3, 4, 5]", "four numbers"),
        ('[1, 2, "x", 3]', "four numbers"),
        ("[0, true, 0, 1]", "four numbers"),
        ("[0, null, 0, 1]", "four numbers"),
        ("[[0, 1], [0, 1]]", "four numbers"),
        ('{"left": 0}', "four numbers"),
        ('"0,1,0,1"', "four numbers"),
        ("3", "four numbers"),
        ("[0, NaN, 0, 1]", "each side must be"),
        ("[0, Infinity, 0, 1]", "each side must be"),
        ("[1, 2, 3, 1e300]", "each side must be"),
        (f"[1, 2, 3, 1{'0' * 400}]", "each side must be"),
        ("[1, 0, 0, 1]", "span an area"),
        ("[0, 1, 1, 0]", "span an area"),
        ("[0, 0, 0, 1]", "span an area"),
        ("[0, 1e-320, 0, 1]", "span an area"),
        ("[1e8, 100000000.00000001, 0, 1]", "span an area"),
    ],
)
def test_impossible_windows_are_refused(server: Server, window: str, words: str) -> None:
    body = f'{{"images": ["test/0", "test/1", "test/2"], "checkpoint": 0, "window": {window}}}'
    assert words in server.refused("plane", body=body.encode())


def _gone(link: socket.socket) -> bool:
    """Whether the other side has closed a connection; an answer that waits there is read away."""
    link.setblocking(False)
    try:
        while link.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def test_a_client_that_keeps_the_server_waiting_is_dropped(server: Server) -> None:
    """Raw sockets that send nothing, half a head, a byte of it now and then, or half a body; a slow body is read on."""
    head = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    post = f"POST /{server.token}/plane HTTP/1.1\r\n".encode() + head + b"Content-Length: 40\r\n\r\n"
    get = f"GET /{server.token}/about HTTP/1.1\r\n".encode() + head
    sent = {"nothing": b"", "half": get, "drip": get, "body": post + b"{", "slow": post, "twice": get + b"\r\nGET /"}
    links = {name: socket.create_connection(("127.0.0.1", server.port), 30) for name in sent}
    try:
        for name, content in sent.items():
            links[name].sendall(content)
        for _ in range(14):
            time.sleep(0.5)
            with contextlib.suppress(OSError):
                links["drip"].sendall(b"X")
            links["slow"].sendall(b" ")
        assert {name for name, link in links.items() if _gone(link)} == {*sent} - {"slow"}
        # The slow one still gets its answer: blanks are not JSON.
        links["slow"].setblocking(True)
        links["slow"].sendall(b" " * 26)
        assert links["slow"].recv(65536).split()[1] == b"400"
    finally:
        for link in links.values():
            link.close()
    assert server.ask("about")["model"]
