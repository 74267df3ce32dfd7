"""Work that needs ClickHouse, or Razorpay's key: what has to be done by the server of a running `up`, and what is here.

Owns: the way to the operator's endpoints, and how failures are said.
Called by: `cli/verify.py`, `cli/rebuild.py`, `cli/reconcile.py`, `cli/settle.py`. Next: `api/routes/operator.py`.

The embedded engine belongs to one process, the server's, so a command beside it has to ask that one. It asks as little
as can be: `metering verify` sends it queries and does all else by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiokafka.errors import KafkaError

from pipeline.cli.context import CommandError, kafka_failed, running_on, settings_for
from pipeline.kafka.partitions import PartitionsError
from pipeline.local.deployment import Deployment
from pipeline.settings import Settings

if TYPE_CHECKING:
    import httpx2

    from pipeline.clickhouse.shards import Database
    from pipeline.operations.verify import Ask

T = TypeVar("T")

Work = Callable[[Settings, "Database"], Awaitable[T]]

LIMIT_S = 1800.0
NO_PARAMETERS: Mapping[str, str] = {}


def do(
    name: str, work: Work[T], report: type[T], data_dir: Path, parameters: Mapping[str, str] = NO_PARAMETERS
) -> T:
    """Return the report of `work`, which the server knows as POST /operator/NAME and tells the parameters.

    Raises CommandError where Kafka or ClickHouse does not answer, and what `work` raises otherwise.
    """
    running = running_on(data_dir)
    return in_server(running, name, report, parameters) if running else _here(settings_for(data_dir), work)


def with_queries(work: Callable[[Settings, Ask], Awaitable[T]], data_dir: Path) -> T:
    """Return what `work` returns, done in this process with what sends queries to ClickHouse.

    Raises as `do`.
    """
    from pipeline.operations.verify import asking

    running = running_on(data_dir)
    if running is None:
        return _here(settings_for(data_dir), lambda settings, database: work(settings, asking(database)))
    settings = settings_for(data_dir)
    at = running

    async def through_the_server() -> T:
        import httpx2

        async with httpx2.AsyncClient(timeout=LIMIT_S, trust_env=False) as client:
            return await work(settings, asking_server(client, at.http_url, at.operator_token))

    return _run(through_the_server)


def asking_server(client: httpx2.AsyncClient, http_url: str, token: str) -> Ask:
    """Return what has a server run queries, by POST /operator/queries/NAME. It raises CommandError where that fails."""
    import httpx2

    from pipeline.api.routes.operator import TOKEN_HEADER

    async def ask(name: str, parameters: Mapping[str, object]) -> bytes:
        try:
            answer = await client.post(
                f"{http_url}/operator/queries/{name}",
                headers={TOKEN_HEADER: token},
                content=msgspec.json.encode(parameters),
            )
        except httpx2.HTTPError as error:
            raise CommandError(f"the server at {http_url} cannot be reached: {error!r}") from None
        if answer.status_code != httpx2.codes.OK:
            raise CommandError(f"the server could not {name}: {answer.status_code} {answer.text[:500]}")
        return answer.content

    return ask


def in_server(at: Deployment, name: str, report: type[T], parameters: Mapping[str, str] = NO_PARAMETERS) -> T:
    """Return the answer of POST /operator/NAME. Raises CommandError where the server does not give it."""
    import httpx2

    from pipeline.api.routes.operator import TOKEN_HEADER

    try:
        answer = httpx2.post(
            f"{at.http_url}/operator/{name}",
            params=dict(parameters),
            headers={TOKEN_HEADER: at.operator_token},
            timeout=LIMIT_S,
            trust_env=False,
        )
    except httpx2.HTTPError as error:
        raise CommandError(f"the server at {at.http_url} cannot be reached: {error!r}") from None
    if answer.status_code != httpx2.codes.OK:
        raise CommandError(f"the server could not {name}: {answer.status_code} {answer.text[:500]}")
    return msgspec.json.decode(answer.content, type=report)


def _here(settings: Settings, work: Work[T]) -> T:
    from pipeline.clickhouse.client import EngineError, EngineUnavailable
    from pipeline.clickhouse.shards import open_database

    if settings.clickhouse_url is None:
        raise CommandError("METERING_CLICKHOUSE_URL is not set, and no `up` runs on the data directory")
    try:
        database = open_database(settings.clickhouse_url, settings.clickhouse_tls)
        try:
            return _run(lambda: work(settings, database))
        finally:
            database.close()
    except (EngineError, EngineUnavailable) as error:
        raise CommandError(f"ClickHouse: {error}") from None


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Return what `work` does. Raises CommandError where Kafka cannot be reached or lacks topics."""
    try:
        return asyncio.run(_awaited(work()))
    except PartitionsError as error:
        raise CommandError(str(error)) from None
    except (KafkaError, TimeoutError) as error:
        raise kafka_failed(error) from None


async def _awaited(work: Awaitable[T]) -> T:
    return await work
