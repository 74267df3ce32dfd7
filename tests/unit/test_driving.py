"""A protocol gets the answers of its steps, and the errors, at the step that they belong to."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pipeline.driving import drive
from pipeline.steps import Now, Reached

Asked = Generator[Now | Reached, object, int]


class TriedError(Exception):
    """What a step comes to in these tests."""


async def test_each_step_is_answered_and_the_result_returned() -> None:
    def doubled() -> Asked:
        now_ms = yield from Now()
        yield from Reached("a point")
        return 2 * now_ms

    taken: list[object] = []

    async def take(step: Now | Reached) -> object:
        taken.append(step)
        return 21 if isinstance(step, Now) else None

    assert await drive(doubled(), take) == 42
    assert isinstance(taken[0], Now)
    assert taken[1] == Reached("a point")


async def test_an_error_is_raised_at_its_step_where_the_protocol_may_go_on() -> None:
    def patient() -> Asked:
        try:
            yield from Reached("a point")
        except TriedError:
            return (yield from Now())
        return 0

    async def take(step: Now | Reached) -> object:
        if isinstance(step, Reached):
            raise TriedError
        return 7

    assert await drive(patient(), take) == 7


async def test_an_error_that_the_protocol_does_not_know_ends_it() -> None:
    closed: list[bool] = []

    def careless() -> Asked:
        try:
            return (yield from Now())
        finally:
            closed.append(True)

    async def take(_step: Now | Reached) -> object:
        raise TriedError

    with pytest.raises(TriedError):
        await drive(careless(), take)
    assert closed == [True]
