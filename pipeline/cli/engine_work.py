"""Work that needs ClickHouse, or Razorpay's key: done by the server of a running `up`, else here.

Owns: the way to the operator's endpoints, and how failures are said.
Called by: `cli/verify.py`, `cli/rebuild.py`, `cli/reconcile.py`, `cli/settle.py`. Next: `api/routes/operator.py`.

The embedded engine belongs to one process, the server's, so a command beside it has to ask that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiokafka.errors import KafkaError

from pipeline.cli.context import CommandError, running_on, settings_for
from pipeline.kafka.partitions import PartitionsError
from pipeline.local.deployment import Deployment
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.clickhouse.client import Engine

T = TypeVar("T")

Work = Callable[[Settings, "Engine"], Awaitable[T]]

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
    from pipeline.clickhouse.client import EngineError, EngineUnavailable, open_engine

    if settings.clickhouse_url is None:
        raise CommandError("METERING_CLICKHOUSE_URL is not set, and no `up` runs on the data directory")
    try:
        engine = open_engine(settings.clickhouse_url)
        try:
            return asyncio.run(_awaited(work(settings, engine)))
        finally:
            engine.close()
    except (EngineError, EngineUnavailable) as error:
        raise CommandError(f"ClickHouse: {error}") from None
    except PartitionsError as error:
        raise CommandError(str(error)) from None
    except (KafkaError, TimeoutError) as error:
        raise CommandError(f"Kafka at {settings.kafka_servers} cannot be reached: {error!r}") from None


async def _awaited(work: Awaitable[T]) -> T:
    return await work
