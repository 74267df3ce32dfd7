"""Ask what is no broker how it is: ClickHouse for the day's money, and roles whose addresses are known.

Owns: both questions and how long they may take. Called by: `cli/status.py`. Next: `status/found.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pipeline import ist
from pipeline.status.found import RoleFound, Unknown

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

LIMIT_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024

RunQuery = Callable[[str, Mapping[str, object]], Awaitable[bytes]]
"""Runs a query of `sql/queries/` by name; its rows, a JSON array a line. It raises whatever it fails with."""


async def debited_nano(run: RunQuery, now_ms: int) -> int | Unknown:
    """Return what requests of the IST day of an instant were debited, in nano-rupees; Unknown where nobody answers in time."""
    day = ist.date_of(ist.day_of(now_ms)).isoformat()
    try:
        async with asyncio.timeout(LIMIT_S):
            rows = await run("status_debited", {"day": day})
        [(nano,)] = msgspec.json.Decoder(tuple[int]).decode_lines(rows)
    except TimeoutError:
        return Unknown(f"no answer within {LIMIT_S:.0f} s")
    except Exception as error:  # noqa: BLE001 - whatever it is, the screen shows it and all the rest
        return Unknown(_why(error))
    return nano


def _why(error: BaseException) -> str:
    """Return why a question failed: what the system said of the connection, where it was that, as drivers say it at length."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError):
            return "does not answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return f"does not answer: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()) or type(error).__name__


async def in_thread(call: Callable[[], T]) -> T:
    """Return what a blocking call returns. It runs in a thread that nobody waits for, so that one that hangs delays no exit."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[], None]) -> None:
        if not answer.done():
            set_it()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            failure = error
            loop.call_soon_threadsafe(settle, lambda: answer.set_exception(failure))
        else:
            loop.call_soon_threadsafe(settle, lambda: answer.set_result(result))

    Thread(target=run, name="status", daemon=True).start()
    return await answer


async def roles(client: httpx2.AsyncClient, addresses: Mapping[str, str]) -> Sequence[RoleFound]:
    """Return what each role says of itself at its address, by the names given."""
    return await asyncio.gather(*(_role(client, name, url) for name, url in addresses.items()))


async def _role(client: httpx2.AsyncClient, name: str, url: str) -> RoleFound:
    import httpx2

    try:
        async with asyncio.timeout(LIMIT_S):
            answer = await client.get(f"{url.rstrip('/')}/healthz")
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        return RoleFound(name, url, Unknown(f"does not answer ({type(error).__name__})"))
    try:
        parts = msgspec.json.decode(answer.content[:ANSWER_BYTES_MAX], type=dict[str, str])
    except msgspec.MsgspecError:
        return RoleFound(name, url, Unknown(f"answered {answer.status_code}, and nothing of its parts"))
    return RoleFound(name, url, parts)
