"""A base from a registry: pulled by the Docker engine by its digest, and exported; nothing of it is run."""

import http.client
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from typing_extensions import override

from sandbox.errors import SandboxError
from sandbox.images.debian import Told

QUIET_S: Final = 120.0
"""How long the engine may say nothing."""

LABEL: Final = "dev.pratique.image-build"

_PINNED: Final = re.compile(r"(?P<name>[^@\s]+?)(?::[\w.-]+)?@(?P<digest>sha256:[0-9a-f]{64})")
_PIN: Final = (
    "Find the digest and write {name}@sha256:...: `docker pull {name}`, then "
    "`docker inspect --format '{{{{index .RepoDigests 0}}}}' {name}`."
)


def pinned(reference: str) -> tuple[str, str]:
    """The name and the digest of a reference.

    Raises:
        SandboxError: it has no digest: a tag says only what was meant, not what comes.
    """
    match = _PINNED.fullmatch(reference)
    if match is None and (reference.endswith(".tar") or reference.startswith(("/", "."))):
        raise SandboxError("base", f"there is no file {reference}", "Write the path of a tar.")
    if match is None:
        mend = _PIN.format(name=reference.partition("@")[0])
        raise SandboxError("base", f"{reference} has no digest, and a tag can be moved", mend)
    return match["name"], match["digest"]


def export(reference: str, archive: Path, told: Told) -> None:
    """Write the tar of an image's file system; the engine keeps of it only what it had before.

    Raises:
        SandboxError: no engine, no such image, or the engine's answer is of another digest.
    """
    name, digest = pinned(reference)
    engine = _Engine.find()
    had = engine.inspect(f"{name}@{digest}") is not None
    if not had:
        engine.pull(name, digest, told)
    try:
        found = engine.inspect(f"{name}@{digest}") or {}
        if not any(known.endswith(f"@{digest}") for known in found.get("RepoDigests") or ()):
            raise SandboxError("base", f"the engine has no {name} of {digest}", "Pull it again.")
        told(f"exporting {name}")
        engine.export(found["Id"], archive)
    finally:
        if not had:
            engine.request("DELETE", f"/images/{name}@{digest}")


class _Engine:
    """The few requests that this takes."""

    def __init__(self, path: str) -> None:
        self._path = path

    @classmethod
    def find(cls) -> "_Engine":
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if not host.startswith("unix://"):
            mend = "Use an engine of this machine: unset DOCKER_HOST, or unix:///path."
            raise SandboxError("docker", f"DOCKER_HOST is {host}", mend)
        return cls(host.removeprefix("unix://"))

    def inspect(self, image: str) -> Mapping[str, Any] | None:
        status, body = self.request("GET", f"/images/{image}/json")
        return json.loads(body) if status == 200 else None

    def pull(self, name: str, digest: str, told: Told) -> None:
        path = f"/images/create?fromImage={quote(name, safe='')}&tag={quote(digest, safe='')}"
        with self._answer("POST", path) as answer:
            if answer.status != 200:
                raise _refused(name, digest, _message(answer.read()))
            for line in answer:
                said = json.loads(line)
                if "error" in said:
                    raise _refused(name, digest, said["error"])
                told(f"{said.get('status', '')} {said.get('id', '')}".strip())

    def export(self, image: str, archive: Path) -> None:
        body = {"Image": image, "Cmd": ["/nothing"], "Labels": {LABEL: "1"}, "NetworkDisabled": True}
        status, said = self.request("POST", "/containers/create", body)
        if status != 201:
            raise SandboxError("docker", _message(said), "See what `docker info` says.")
        container = json.loads(said)["Id"]
        try:
            with self._answer("GET", f"/containers/{container}/export") as answer, archive.open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
        finally:
            self.request("DELETE", f"/containers/{container}?force=1&v=1")

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        with self._answer(method, path, body) as answer:
            return answer.status, answer.read()

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        with closing(_Connection(self._path)) as connection:
            try:
                content = None if body is None else json.dumps(body)
                connection.request(method, path, content, {"Content-Type": "application/json"})
                yield connection.getresponse()
            except (ConnectionError, FileNotFoundError, PermissionError, TimeoutError, http.client.HTTPException) as no:
                mend = "Start Docker, or set DOCKER_HOST; to use /var/run/docker.sock one must be in the group docker."
                raise SandboxError("docker", f"no engine answers at {self._path}: {no!r}", mend) from no


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=QUIET_S)
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _refused(name: str, digest: str, why: str) -> SandboxError:
    return SandboxError(
        "base", f"{name}@{digest} could not be pulled: {why}", "See whether `docker pull` gets it; log in if it must."
    )


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError):
        return body.decode(errors="replace").strip() or "no reason was given"
