"""How every JSON body is read: exactly, or not at all.

Owns: the one reader of JSON bodies, and the types of numbers in them.
Called by: the routers whose routes take a body, through `ExactRoute`.

Numbers with a fraction become decimals of their digits, through no float. A key that is given twice is refused: two
readers may each take another one of the two. So is `NaN`, which is no JSON. A number may come as text too, of plain
digits: `"1_00"`, which Python reads as 100, is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Annotated, Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator

from pipeline.api.http.errors import BadBodyError

DIGITS_MAX = 100
"""Of one number: more are in no amount, and reading them takes time that grows with their square."""

_PLAIN = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)


def _plain_digits(value: object) -> object:
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise ValueError("must be a number in plain digits")
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic tells a caller of ValueErrors
    return value


RupeesGiven = Annotated[Decimal, BeforeValidator(_plain_digits)]
WholeNumber = Annotated[int, BeforeValidator(_plain_digits)]


def read_json(body: bytes) -> object:
    """Return the value of a JSON text. Raises json.JSONDecodeError or BadBodyError."""
    try:
        return json.loads(
            body,
            object_pairs_hook=_object,
            parse_float=_number(Decimal),
            parse_int=_number(int),
            parse_constant=_no_number,
        )
    except UnicodeDecodeError:
        raise BadBodyError("the body is not UTF-8") from None
    except RecursionError:
        raise BadBodyError("the body is nested too deep") from None


class ExactRequest(Request):
    """A request whose JSON is read exactly."""

    async def json(self) -> Any:
        """Return the body's value. Raises json.JSONDecodeError or BadBodyError."""
        return read_json(await self.body())


class ExactRoute(APIRoute):
    """A route whose body is read exactly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler of this route, asked with an `ExactRequest`."""
        handle = super().get_route_handler()

        async def exact(request: Request) -> Response:
            return await handle(ExactRequest(request.scope, request.receive))

        return exact


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise BadBodyError(f"{key[:100]} is given twice", key[:100])
        found[key] = value
    return found


def _number(kind: Callable[[str], Decimal | int]) -> Callable[[str], Decimal | int]:
    def read(digits: str) -> Decimal | int:
        if len(digits) > DIGITS_MAX:
            raise BadBodyError(f"a number has more than {DIGITS_MAX} digits")
        try:
            return kind(digits)
        except ArithmeticError:
            raise BadBodyError("a number is out of range") from None

    return read


def _no_number(word: str) -> NoReturn:
    raise BadBodyError(f"{word} is no number in JSON")
