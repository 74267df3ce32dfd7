"""The one JSON envelope that every failure answers with.

Owns: the envelope, the exception a route raises for it, and what other exceptions become.
Called by: every route and `api/http/edge.py`.

    {"error": {"message", "type", "code", "request_id", and where it applies "param" and more}}
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from pipeline.accounts.commands import CommandRefusal
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.outcomes import RefusalCode

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5


class ApiError(Exception):
    """A failure the caller is told about. `more` adds fields to the envelope, `headers` to the answer.

    The code says which HTTP status and `type` it has; `message` is for people, the code's own where it is left
    out.
    """

    def __init__(
        self,
        code: RefusalCode,
        message: str = "",
        *,
        param: str | None = None,
        more: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say which code of the contract, and for people what is wrong."""
        self.code = code
        self.message = message or code.wording
        super().__init__(self.message)
        self.param = param
        self.more = dict(more or {})
        self.headers = dict(headers or {})


class BadBodyError(HTTPException):
    """A body that cannot be taken as it is; `param` names the field, `body` where it is none.

    The framework passes its own exceptions on while it reads a body, and no others.
    """

    def __init__(self, message: str, param: str = "body") -> None:
        """Say for people what is wrong."""
        super().__init__(400, message)
        self.param = param


def invalid(param: str, message: str) -> ApiError:
    """Return the error for a parameter that is missing, malformed or out of range."""
    return ApiError(RefusalCode.INVALID_REQUEST, message, param=param)


def not_found(message: str = "") -> ApiError:
    """Return the error for what does not exist or belongs to another org: the two look the same."""
    return ApiError(RefusalCode.NOT_FOUND, message)


def unavailable() -> ApiError:
    """Return the error for a part that is down."""
    return ApiError(RefusalCode.UNAVAILABLE, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def too_many(wait_ms: int) -> ApiError:
    """Return the error for who asks too often and may come again after some milliseconds."""
    return ApiError(RefusalCode.RATE_LIMIT_EXCEEDED, headers={"Retry-After": str(-(-wait_ms // 1000))})


def refused(refusal: CommandRefusal) -> ApiError:
    """Return the error for a command that its account's owner refused."""
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    return ApiError(refusal.code, refusal.message, param=refusal.param, headers=headers)


def answer(error: ApiError, request_id: str | None) -> Response:
    """Return the answer that tells of an error."""
    body: dict[str, object] = {
        "message": _text(error.message),
        "type": error.code.type,
        "code": error.code,
    }
    if error.param is not None:
        body["param"] = _text(error.param)
    if request_id is not None:
        body["request_id"] = request_id
    content = msgspec.json.encode({"error": {**body, **error.more}})
    return Response(content, error.code.status, error.headers, "application/json")


def install(app: FastAPI, problem_page: Callable[[Request, ApiError], Awaitable[Response]]) -> None:
    """Make every failure inside the app's routes answer with the envelope, or a browser with a page.

    A browser that goes to an address says that it takes HTML; no script and no program does, unless it asks for it.
    """

    async def handle(request: Request, error: Exception) -> Response:
        told = told_of(error)
        wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if told.code is RefusalCode.NOT_FOUND and wants_page:
            return await problem_page(request, told)
        if told.code is RefusalCode.METHOD_NOT_ALLOWED:
            told.headers["Allow"] = ", ".join(sorted(_verbs_at(app, request.scope["path"])))
        return answer(told, getattr(request.state, "request_id", None))

    for kind in (ApiError, RequestValidationError, HTTPException, EngineUnavailable):
        app.add_exception_handler(kind, handle)


def told_of(error: Exception) -> ApiError:  # noqa: PLR0911 - one case a kind of exception
    """Return what a caller is told of an exception; one that is no failure of a request's kind is raised again."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _invalid(error.errors())
        case BadBodyError():
            return invalid(error.param, error.detail)
        case HTTPException(status_code=405):
            return ApiError(RefusalCode.METHOD_NOT_ALLOWED)
        case HTTPException(status_code=404):
            return not_found("no such endpoint")
        case HTTPException():
            # Whatever else the framework says of a request is the request's fault.
            return ApiError(RefusalCode.INVALID_REQUEST, str(error.detail), headers=error.headers)
        case EngineUnavailable():
            log.warning("the engine is not available: %s", error)
            return unavailable()
    raise error


def _text(given: str) -> str:
    """Return a text that can be written: JSON may escape half of a surrogate pair, which UTF-8 cannot have."""
    return given.encode("utf-8", "replace").decode()


def _verbs_at(app: FastAPI, path: str) -> set[str]:
    """Return all verbs that an address takes: each has a route of its own, and the framework names the first one's."""
    routes = iter_route_contexts(app.routes)
    return {verb for route in routes if route.path_regex.match(path) for verb in route.methods or ()}


def _invalid(errors: Sequence[Mapping[str, object]]) -> ApiError:
    """Return the first of a validation's errors, naming the parameter or the field of the body."""
    first = errors[0]
    place = first["loc"]
    assert isinstance(place, tuple)
    if first["type"] == "json_invalid":
        return invalid("body", "the body is not JSON")
    param = ".".join(str(part) for part in place[1:]) or str(place[0])
    message = str(first["msg"]).removeprefix("Value error, ")
    return invalid(param, f"{param}: {message[:1].lower()}{message[1:]}")
