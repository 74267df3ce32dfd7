"""Query parameters: what they may look like, and the days a range means.

Owns: the types of the parameters, the filters that several answers take, the refusal of unknown, repeated and empty
ones, and the defaults of ranges.
Called by: the routers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator, Field

from pipeline import ist
from pipeline.api.http.errors import invalid

DAYS_DEFAULT = 30
DAYS_MAX = 366
LIMIT_DEFAULT = 50
LIMIT_MAX = 200
BEFORE_MAX = 2**53

FIRST_DAY = date(1970, 1, 1)
LAST_DAY = date(2149, 6, 6)
"""The days the engine can tell apart."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_NUMBER = re.compile(r"[0-9]{1,20}\Z")


def plain_day(text: object) -> date:
    """Return the day that a parameter's text names. Raises ValueError where it names none."""
    try:
        if isinstance(text, str) and _DAY.match(text):
            day = date.fromisoformat(text)
            if FIRST_DAY <= day <= LAST_DAY:
                return day
    except ValueError:
        pass
    raise ValueError(f"must be a day YYYY-MM-DD, from {FIRST_DAY} to {LAST_DAY}")


def plain_number(text: object) -> object:
    """Return a parameter's text, to be read as a number. Raises ValueError where it is not of digits alone."""
    if isinstance(text, str) and not _NUMBER.match(text):
        raise ValueError("must be a whole number in plain digits")
    return text


Day = Annotated[date, BeforeValidator(plain_day)]
From = Annotated[Day | None, Query(alias="from", description="First IST day, included")]
To = Annotated[Day | None, Query(alias="to", description="Last IST day, included")]
Model = Annotated[str | None, Query(description="Only this model")]
KeyId = Annotated[str | None, Query(description="Only this key")]
Provider = Annotated[str | None, Query(description="Only what this provider served")]
Before = Annotated[
    Annotated[int, Field(ge=1, le=BEFORE_MAX), BeforeValidator(plain_number)] | None,
    Query(description="Only what has a lower id: `next_before` of the page before"),
]
Limit = Annotated[
    Annotated[int, Field(ge=1, le=LIMIT_MAX), BeforeValidator(plain_number)],
    Query(description="How many at most"),
]


def only(*names: str) -> Callable[[Request], Coroutine[None, None, None]]:
    """Return a dependency that refuses query parameters other than these, repeated ones and empty ones.

    A misspelt filter that is ignored shows the wrong numbers, so it is an error.
    """

    async def check(request: Request) -> None:
        seen = set()
        for name, value in request.query_params.multi_items():
            if name not in names:
                raise invalid(name, f"unknown parameter {name!r}; known: {', '.join(names) or 'none'}")
            if name in seen:
                raise invalid(name, f"{name} is given more than once")
            if not value:
                raise invalid(name, f"{name} is empty: leave it out instead")
            seen.add(name)

    return check


@dataclass(frozen=True)
class Range:
    """IST days, both ends included."""

    first: date
    last: date


def last_days(now_ms: int, days: int) -> Range:
    """Return today and the days before it, `days` in all."""
    today = ist.day_of(now_ms)
    return Range(ist.date_of(today - days + 1), ist.date_of(today))


def bounded_range(first: date | None, last: date | None, now_ms: int) -> Range:
    """Return the days of a range that has to be bounded. Raises ApiError for a bad one.

    Without an end it ends today; without a start it is the 30 days up to its end.
    """
    end = last if last is not None else ist.date_of(ist.day_of(now_ms))
    if first is None:
        start = max(ist.day_of_date(end) - DAYS_DEFAULT + 1, 0)
        return Range(ist.date_of(start), end)
    days = (end - first).days + 1
    if days < 1:
        raise invalid("from", f"from {first} lies after to {end}")
    if days > DAYS_MAX:
        raise invalid("from", f"{first} to {end} are {days} days; {DAYS_MAX} is the most")
    return Range(first, end)


def open_range(first: date | None, last: date | None) -> Range:
    """Return the days of a range that may be open at either end. Raises ApiError for a bad one."""
    if first is not None and last is not None and first > last:
        raise invalid("from", f"from {first} lies after to {last}")
    return Range(first or FIRST_DAY, last or LAST_DAY)


@dataclass(frozen=True)
class Filters:
    """Which of an org's requests an answer is about. An empty text filters nothing; days are as they were given."""

    first: date | None
    last: date | None
    model: str
    key_id: str
    provider: str

    @property
    def narrows(self) -> bool:
        """Whether anything but the days is left out."""
        return bool(self.model or self.key_id or self.provider)

    @property
    def values(self) -> dict[str, str]:
        """The parameters of a query that filters, its days aside."""
        return {"model": self.model, "key_id": self.key_id, "provider": self.provider}


FILTERS = ("from", "to", "model", "key_id", "provider")
"""The parameters that `Filters` are made of, for `only`."""


async def filters_of(
    from_: From = None,
    to: To = None,
    model: Model = None,
    key_id: KeyId = None,
    provider: Provider = None,
) -> Filters:
    """Return the filters that a request was made with."""
    return Filters(from_, to, model or "", key_id or "", provider or "")


FiltersOf = Annotated[Filters, Depends(filters_of)]


def filters_of_form(fields: Iterable[tuple[str, str]]) -> Filters:
    """Return the filters in the fields of a form, where an empty field filters nothing.

    Raises ApiError for an unknown or repeated field, and for a day that is none.
    """
    given: dict[str, str] = {}
    for name, value in fields:
        if name not in FILTERS:
            raise invalid(name, f"there is no filter {name!r}; there are {', '.join(FILTERS)}")
        if name in given:
            raise invalid(name, f"{name} is given more than once")
        given[name] = value
    days: dict[str, date | None] = dict.fromkeys(("from", "to"))
    for name in days:
        if given.get(name):
            try:
                days[name] = plain_day(given[name])
            except ValueError as error:
                raise invalid(name, f"{name} {error}; {given[name]!r} is none") from None
    model, key_id, provider = (given.get(name, "") for name in ("model", "key_id", "provider"))
    return Filters(days["from"], days["to"], model, key_id, provider)
