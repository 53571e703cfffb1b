"""A gateway that says what it is told to, on a control socket of its own."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.app import run


@dataclass
class FakeGateway:
    """Answers by (method, path); remembers what was asked."""

    state: Path
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any, status: int = 200) -> None:
        self.answers[method, f"/api/v1{path}"] = (status, body)

    def handle(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append((method, path.removeprefix("/api/v1"), body))
        return self.answers.get((method, path), (404, {"code": "operator_error", "detail": f"nothing at {path}"}))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[FakeGateway]:
    fake = FakeGateway(state=tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, asked: Any) -> None:
            status, body = fake.handle(self.command, self.path, asked)
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def address_string(self) -> str:
            return "control"

    with socketserver.UnixStreamServer(str(tmp_path / "control.sock"), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield fake
        server.shutdown()
        serving.join()


@pytest.fixture
def pratique(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line: (exit code, stdout, stderr)."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return command
