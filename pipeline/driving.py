"""Drive a protocol with real parts: take each step it asks for, and tell it what came of it.

Owns: the loop that every door shares. Which step is taken how is the door's: `worker/partition.py`,
`sink/partition.py`, `kafka/outgoing.py`, `operations/redrive.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")


async def drive(protocol: Generator[S, Any, T], take: Callable[[S], Awaitable[object]]) -> T:
    """Run a protocol to its end and return what it returns; `take` takes one step and returns the answer.

    What `take` raises is raised in the protocol at that step, which knows a few errors and lets the others out.
    """
    try:
        step = next(protocol)
        while True:
            try:
                answer = await take(step)
            except Exception as error:  # noqa: BLE001 - the protocol decides what of it is an end
                step = protocol.throw(error)
            else:
                step = protocol.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        protocol.close()
