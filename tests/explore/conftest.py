"""A small network on the digits at two moments of its training, and the explorer that a user would start for it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from torch import nn

from maxaffine import SplineNetwork
from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine._capture import capture
from maxaffine._report import Choices, Subject, find_subject

NET = """
from torch import nn

def make():
    parts = nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 10)
    return nn.Sequential(*parts)
"""
TRAIN_LIMIT = 300


@dataclass(frozen=True)
class Trained:
    """The network, untouched, and where its weights are."""

    data: data.DataSet
    modules: tuple[nn.Module, nn.Module]
    folder: Path
    moments: dict[str, Subject]

    @property
    def nets(self) -> list[SplineNetwork]:
        return [subject.net for subject in self.moments.values()]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("explore")
    (folder / "net.py").write_text(NET, encoding="utf-8")
    digits = data.load("digits")
    modules = []
    for name, epochs in (("first", 1), ("last", 20)):
        module = models.load_model(f"{folder / 'net.py'}:make")
        models.train(module, digits.train, epochs=epochs, seed=0, progress=False)
        models.save_weights(module, folder / f"{name}.safetensors")
        modules.append(module.eval())
    nets = (capture(module, digits.test.inputs[:2]) for module in modules)
    moments = {name: find_subject(net, digits, Choices(), "net") for name, net in zip("ab", nets, strict=True)}
    return Trained(digits, (modules[0], modules[1]), folder, moments)


@dataclass
class Server:
    """The running explorer, and ways to ask it."""

    process: subprocess.Popen
    address: str

    @property
    def port(self) -> int:
        return int(self.address.split(":")[2].split("/")[0])

    @property
    def token(self) -> str:
        return self.address.split("/")[3]

    def raw(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send what no browser would tidy up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if isinstance(body, bytes):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body if isinstance(body, bytes) else None)
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        finally:
            connection.close()

    def ask(self, path: str, values: dict | None = None, body: bytes | None = None, method: str = "GET") -> Any:
        """Ask as the page does."""
        target = f"/{self.token}/{path}?{urlencode(values or {}, quote_via=quote)}"
        status, _, content = self.raw("POST" if body is not None else method, target, body)
        found = json.loads(content)
        assert status == 200, found
        return found

    def refused(self, path: str, values: dict | None = None, body: bytes | None = None) -> str:
        """What the page is told instead of an answer."""
        target = f"/{self.token}/{path}?{urlencode(values or {}, quote_via=quote)}"
        status, _, content = self.raw("POST" if body is not None else "GET", target, body)
        assert status in (400, 413), content
        return json.loads(content)["error"]

    def stop(self) -> tuple[int, str]:
        """Press Ctrl-C; the exit code and what was written to stderr."""
        self.process.send_signal(signal.SIGINT)
        _, complaints = self.process.communicate(timeout=60)
        return self.process.returncode, complaints


def start(*words: object) -> Server:
    """Start the command."""
    command = [sys.executable, "-m", "maxaffine", "explore", *map(str, words), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(process.communicate()[1])
    return Server(process, json.loads(line)["address"])


@pytest.fixture(scope="session")
def server(trained: Trained) -> Iterator[Server]:
    weights = [trained.folder / f"{name}.safetensors" for name in ("first", "last")]
    running = start(
        f"{trained.folder / 'net.py'}:make", "digits", "--train-limit", TRAIN_LIMIT, "--checkpoints", *weights
    )
    try:
        yield running
    finally:
        code, complaints = running.stop()
        # Ctrl-C is the usual end.
        assert (code, complaints) == (0, "")
