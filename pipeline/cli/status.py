"""The command that shows a whole deployment on one screen: status.

Owns: whom it asks. Called by: `cli/main.py`. Next: `status/brokers.py` and `status/places.py` ask, `status/screen.py` tells.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import (
    DATA_DIR,
    CommandError,
    DataDir,
    print_json,
    running_on,
    settings_for,
)
from pipeline.cli.engine_work import asking_server
from pipeline.local.deployment import Deployment
from pipeline.settings import Settings

if TYPE_CHECKING:
    import httpx2

    from pipeline.status.found import DeploymentFound
    from pipeline.status.places import RunQuery

EMBEDDED = "chdb://"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def status(
        as_json: Annotated[bool, typer.Option("--json", help="As JSON, every figure exact.")] = False,
        role: Annotated[
            list[str] | None,
            typer.Option(
                "--role",
                metavar="URL",
                help="Also ask a role how it is, http://worker-1:8001; as often as there are.",
            ),
        ] = None,
        data_dir: DataDir = DATA_DIR,
    ) -> None:
        """Show how each part is, how far behind, and the day's figures; exit 1 unless all is well."""
        from pipeline.status import screen
        from pipeline.status.judged import is_well, judged

        running = running_on(data_dir)
        settings = settings_for(data_dir)
        if settings.kafka_url is None:
            raise CommandError(
                f"no `up` runs on {data_dir}, or it is not ready, and METERING_KAFKA_URL is not set"
            )
        # What cannot be reached the screen says itself, once.
        logging.disable(logging.WARNING)
        found = asyncio.run(_look(settings, running, role or []))
        if as_json:
            print_json(screen.as_json(found))
        else:
            sys.stdout.write(screen.as_text(found))
        if not is_well(found, judged(found)):
            raise typer.Exit(1)


async def _look(settings: Settings, running: Deployment | None, urls: list[str]) -> DeploymentFound:
    import httpx2

    from pipeline.status import brokers, places
    from pipeline.status.found import DeploymentFound

    now_ms = time.time_ns() // 1_000_000
    async with httpx2.AsyncClient(timeout=places.LIMIT_S, trust_env=False) as client:
        kafka, debited_nano, roles = await asyncio.gather(
            brokers.look(settings.kafka, settings.deployment, now_ms),
            places.debited_nano(_run_query(client, settings, running), now_ms),
            places.roles(client, {**_addresses(running), **{_name(url): url for url in urls}}),
        )
    return DeploymentFound(now_ms, settings.deployment, kafka, debited_nano, roles)


def _addresses(running: Deployment | None) -> Mapping[str, str]:
    if running is None:
        return {}
    return {"worker": running.worker_url, "server": running.server_status_url or running.http_url}


def _name(url: str) -> str:
    return url.partition("://")[2].rstrip("/") or url


def _run_query(client: httpx2.AsyncClient, settings: Settings, running: Deployment | None) -> RunQuery:
    """Return what runs queries: the server that has the embedded engine in it, or ClickHouse itself.

    What it returns raises CommandError where nobody is set that could be asked.
    """
    from pipeline.status.places import in_thread

    if running is not None:
        return asking_server(client, running.http_url, running.operator_token)
    if settings.operator_token is not None and (settings.clickhouse_url or "").startswith(EMBEDDED):
        server, token = f"http://{settings.host}:{settings.port}", settings.operator_token.get_secret_value()
        return asking_server(client, server, token)

    async def run(name: str, parameters: Mapping[str, object]) -> bytes:
        return await in_thread(lambda: _of_clickhouse(settings, name, parameters))

    return run


def _of_clickhouse(settings: Settings, name: str, parameters: Mapping[str, object]) -> bytes:
    """Return the rows of a query. Raises CommandError, EngineError or EngineUnavailable."""
    from pipeline.clickhouse.adding import put_together
    from pipeline.clickhouse.queries import query
    from pipeline.clickhouse.shards import open_database

    url = settings.clickhouse_url
    if url is None:
        raise CommandError("METERING_CLICKHOUSE_URL is not set")
    if url.startswith(EMBEDDED):
        raise CommandError(
            "the embedded engine is in the server's process, which takes METERING_OPERATOR_TOKEN to be asked"
        )
    bound = query(name).of_platform(**parameters)
    database = open_database(url, settings.clickhouse_tls)
    try:
        answers = [
            each.query_bytes(bound.sql, bound.parameters, output="JSONCompactEachRow")
            for each in database.shards
        ]
    finally:
        database.close()
    return put_together(name, answers)
