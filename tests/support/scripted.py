"""Run a protocol with answers written down beforehand, and note the steps that it took."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")


def run(protocol: Generator[S, Any, T], answer: Callable[[S], object]) -> tuple[T, list[S]]:
    """Return what a protocol returns and its steps; what `answer` raises is raised at its step."""
    steps: list[S] = []
    try:
        step = next(protocol)
        while True:
            steps.append(step)
            try:
                told = answer(step)
            except Exception as error:  # noqa: BLE001 - it is the protocol's
                step = protocol.throw(error)
            else:
                step = protocol.send(told)
    except StopIteration as end:
        return end.value, steps


def names(steps: list[Any]) -> list[str]:
    """Return the kinds of steps, in their order."""
    return [type(step).__name__ for step in steps]
