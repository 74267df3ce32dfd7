"""The one JSON envelope that every failure answers with.

Owns: the envelope, the exception a route raises for it, and what other exceptions become.
Called by: every route and `api/http/edge.py`.

    {"error": {"message", "type", "code", "request_id", and where it applies "param" and more}}
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from pipeline.clickhouse.errors import EngineUnavailable

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


class ApiError(Exception):
    """A failure the caller is told about. `more` adds fields to the envelope, `headers` to the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        more: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say which HTTP status, which code of the contract, and for people what is wrong."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.more = dict(more or {})
        self.headers = dict(headers or {})


def invalid(param: str, message: str) -> ApiError:
    """Return the error for a parameter that is missing, malformed or out of range."""
    return ApiError(400, "invalid_request", message, param=param)


def not_found(message: str = "there is nothing here") -> ApiError:
    """Return the error for what does not exist or belongs to another org: the two look the same."""
    return ApiError(404, "not_found", message)


def unavailable() -> ApiError:
    """Return the error for a part that is down."""
    message = "a part that this needs is not available; nothing was lost, try again"
    return ApiError(503, "unavailable", message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def answer(error: ApiError, request_id: str | None) -> Response:
    """Return the answer that tells of an error."""
    body: dict[str, object] = {
        "message": error.message,
        "type": _TYPES.get(error.status, "api_error"),
        "code": error.code,
    }
    if error.param is not None:
        body["param"] = error.param
    if request_id is not None:
        body["request_id"] = request_id
    content = msgspec.json.encode({"error": {**body, **error.more}})
    return Response(content, error.status, error.headers, "application/json")


def install(app: FastAPI) -> None:
    """Make every failure inside the app's routes answer with the envelope."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer(_api_error(error), getattr(request.state, "request_id", None))

    for kind in (ApiError, RequestValidationError, HTTPException, EngineUnavailable):
        app.add_exception_handler(kind, handle)


def _api_error(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _invalid(error.errors())
        case HTTPException(status_code=405):
            return ApiError(405, "method_not_allowed", "not with this method", headers=error.headers)
        case HTTPException(status_code=404):
            return not_found("no such endpoint")
        case HTTPException():
            return ApiError(error.status_code, "invalid_request", str(error.detail), headers=error.headers)
        case EngineUnavailable():
            log.warning("the engine is not available: %s", error)
            return unavailable()
    raise error


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
