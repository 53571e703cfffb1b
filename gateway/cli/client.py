"""The operator's road to a running gateway: the REST API over `control.sock`."""

import contextlib
import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from typing_extensions import override

from gateway.errors import OperatorError, PratiqueError

TIMEOUT_S = 30.0


class Unreachable(PratiqueError):
    """No gateway answers on the control socket."""


class Operator:
    """One request at a time, each on a connection of its own."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON at `/api/v1{path}`.

        Raises:
            Unreachable: no gateway is there.
            OperatorError: it answered no; the sentence is its own.
        """
        return self._request("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON that `/api/v1{path}` answers to `body`; raises as `get` does."""
        return self._request("POST", path, body or {})

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        connection = _Connection(self._socket_path)
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body is not None else {})
        with contextlib.closing(connection):
            try:
                content = None if body is None else json.dumps(body).encode()
                connection.request(method, f"/api/v1{path}", content, headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(
                    f"no gateway answers at {self._socket_path}; start it with `pratique serve`,"
                    " or wait until it says that it is up"
                ) from error
        if response.status >= 400:
            raise OperatorError(_sentence(answer, response.status), status=response.status)
        return _decoded(answer)


def operator(state: Path) -> Operator:
    """The gateway whose state lives in `state`."""
    return Operator(state / "control.sock")


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _decoded(answer: bytes) -> Any:
    if not answer:
        return None
    try:
        return json.loads(answer)
    except ValueError as error:
        raise OperatorError("the gateway's answer is not JSON; is it the same version?", status=502) from error


def _sentence(answer: bytes, status: int) -> str:
    """What an RFC 9457 problem says, or that something broke."""
    try:
        problem = json.loads(answer)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("detail"), str):
        return str(problem["detail"])
    return f"the gateway answered {status}; its own output says more"
