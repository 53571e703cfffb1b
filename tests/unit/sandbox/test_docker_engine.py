"""Engines that are absent, silent, or none at all: an error each that names the mend, in bounded time."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.docker import Docker
from sandbox.docker.engine import Engine, Refused, unreachable
from sandbox.errors import SandboxError

Serve = Callable[[bytes | None], Path]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """An engine that answers every question with the same bytes, or with nothing at all."""
    listener = socket.socket(socket.AF_UNIX)
    kept: list[socket.socket] = []

    def answer(said: bytes | None) -> None:
        while True:
            try:
                caller = listener.accept()[0]
            except OSError:
                return
            if said is None:
                kept.append(caller)
                continue
            caller.recv(65536)
            caller.sendall(said)
            caller.close()

    def start(said: bytes | None) -> Path:
        path = tmp_path / "engine"
        listener.bind(str(path))
        listener.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        thread.append(threading.Thread(target=answer, args=(said,)))
        thread[0].start()
        return path

    thread: list[threading.Thread] = []
    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for each in thread:
        each.join()
    for caller in kept:
        caller.close()


def reply(value: object, status: int = 200) -> bytes:
    return f"HTTP/1.0 {status} X\r\n\r\n{json.dumps(value)}".encode()


def test_no_engine_is_an_error_that_says_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with pytest.raises(SandboxError, match=r"no engine at .*Start Docker"):
        Docker.find("runc")


def test_an_engine_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    with pytest.raises(SandboxError, match="this machine's engine only"):
        Docker.find("runc")


def test_no_permission_names_the_group() -> None:
    said = unreachable("/run/docker.sock", PermissionError(13, "Permission denied"))
    assert "no permission to use /run/docker.sock" in str(said)
    assert "group" in said.mend


def test_an_engine_that_says_nothing_is_given_up(serve: Serve) -> None:
    serve(None)
    with pytest.raises(SandboxError, match="no answer from the engine"):
        Docker.find("runc", timeout_s=0.2)


@pytest.mark.parametrize(
    "said",
    [b"", b"SSH-2.0-x\r\n", b"HTTP/1.0 200 OK\r\n\r\nnot json", b"HTTP/1.0 x y\r\n\r\n{}", reply([]), reply({}, 500)],
    ids=["nothing", "another protocol", "no json", "no status", "a list", "an error"],
)
def test_what_is_no_engine_is_told_apart(serve: Serve, said: bytes) -> None:
    serve(said)
    with pytest.raises(SandboxError, match="is no engine"):
        Docker.find("runc")


def test_gvisor_needs_its_runtime(serve: Serve) -> None:
    serve(reply({"Runtimes": {"runc": {}}}))
    with pytest.raises(SandboxError, match=r"no runtime 'runsc'\. Install gVisor"):
        Docker.find("gvisor")


async def test_a_refusal_carries_the_engines_own_words(serve: Serve) -> None:
    path = serve(reply({"message": "write /x: no space left on device"}, 500))
    with pytest.raises(Refused, match=r"no space left on device.*Free disk space"):
        await Engine(socket=str(path)).call("GET", "/info")


async def test_a_call_has_a_deadline(serve: Serve) -> None:
    path = serve(None)
    with pytest.raises(SandboxError, match="no answer from the engine"):
        await Engine(socket=str(path)).call("GET", "/info", timeout_s=0.1)


async def test_an_answer_that_makes_no_sense_is_an_error(serve: Serve) -> None:
    path = serve(b"HTTP/1.0 200 OK\r\n\r\n{")
    with pytest.raises(SandboxError, match="makes no sense"):
        await Engine(socket=str(path)).call("GET", "/info")
