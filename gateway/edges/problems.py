"""How the operators' edges say no: RFC 9457 problems with a `code`, whoever refuses."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.errors import OperatorError, Unrecordable
from gateway.wire.http import Reply

TYPE = "application/problem+json"
CODES: Mapping[int, str] = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    421: "wrong_host",
    422: "invalid",
    500: "internal",
    503: "unavailable",
}


def problem(status: int, detail: str) -> bytes:
    """The problem document of a status."""
    title = HTTPStatus(status).phrase
    code = CODES.get(status, "error")
    document = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")


def reply(status: int, detail: str) -> Reply:
    """The same, for a door that speaks ASGI alone."""
    return Reply(status, problem(status, detail), ((b"content-type", TYPE.encode()),))


def answer_problems(app: FastAPI) -> None:
    """Let everything that an application refuses or fails at be answered by a problem."""
    for kind in (OperatorError, Unrecordable, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)


def status_of(error: Exception) -> tuple[int, str]:
    """The status and the sentence that an error stands for."""
    match error:
        case OperatorError():
            return error.status, str(error)
        case Unrecordable():
            return 503, f"nothing was changed: {error}"
        case RequestValidationError():
            return 422, "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        case HTTPException():
            return error.status_code, str(error.detail)
        case _:
            return 500, "something broke; the gateway's own output says more"


async def _answer(_request: Request, error: Exception) -> Response:
    status, detail = status_of(error)
    headers = error.headers if isinstance(error, HTTPException) else None
    return Response(problem(status, detail), status, headers=headers, media_type=TYPE)
