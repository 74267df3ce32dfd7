"""The commands that make the database again: rebuild clickhouse, rebuild roll-ups.

Called by: `cli/main.py`. Next: `sink/rebuild.py`, by way of `cli/engine_work.py`.

Where no `up` runs on the data directory and no Kafka is set, its broker is started for as long as the command takes: an `up`
whose database is of another history does not get ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pipeline.cli import engine_work
from pipeline.cli.context import (
    DATA_DIR,
    CommandError,
    DataDir,
    of_connection,
    print_json,
    running_on,
    settings_from_environment,
)
from pipeline.local import deployment
from pipeline.local.broker import Broker
from pipeline.local.rights import Rights
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.clickhouse.client import Engine
    from pipeline.sink.rebuild import Rebuilt

T = TypeVar("T")
DAYS = ["%Y-%m-%d"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make again what the journal or the rows can tell, while debits go on.")
    group.command("clickhouse")(clickhouse_command)
    group.command("roll-ups")(roll_ups_command)
    app.add_typer(group, name="rebuild")


def clickhouse_command(
    from_backup: Annotated[
        bool,
        typer.Option("--from-backup", help="Keep the rows that a restored backup has, and go on after them."),
    ] = False,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Empty the database and write the journal into it again. Run it again where it was ended."""
    from pipeline.sink.rebuild import CLICKHOUSE, Rebuild, Rebuilt

    async def work(settings: Settings, engine: Engine) -> Rebuilt:
        rebuild = Rebuild(settings, engine, CLICKHOUSE)
        return await (rebuild.from_backup() if from_backup else rebuild.clickhouse())

    parameters = {"from_backup": "true"} if from_backup else {}
    print_json(_do("rebuild/clickhouse", work, Rebuilt, data_dir, parameters))


def roll_ups_command(
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=DAYS, help="The first IST day; all that have rows where absent."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=DAYS, help="The last IST day; all that have rows where absent."),
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Make the roll-ups of these days again from the rows. Run it again where it was ended."""
    from pipeline.sink.rebuild import ROLL_UPS, Rebuild, Rebuilt

    days = {name: day.date() for name, day in (("first", first), ("last", last)) if day is not None}
    if len(days) == 2 and days["first"] > days["last"]:  # noqa: PLR2004 - both are given
        raise typer.BadParameter("--from is after --to")

    async def work(settings: Settings, engine: Engine) -> Rebuilt:
        return await Rebuild(settings, engine, ROLL_UPS).roll_ups(days.get("first"), days.get("last"))

    parameters = {name: day.isoformat() for name, day in days.items()}
    print_json(_do("rebuild/roll-ups", work, Rebuilt, data_dir, parameters))


def _do(
    name: str,
    work: engine_work.Work[T],
    report: type[T],
    data_dir: Path,
    parameters: Mapping[str, str] = engine_work.NO_PARAMETERS,
) -> T:
    """Return the report of `work`. Raises CommandError where nothing is there to work with, and as `engine_work.do`."""
    environment = settings_from_environment(Settings, weak_secrets=True)
    if running_on(data_dir) is None and environment.kafka_url is None:
        if not (data_dir / "kafka").is_dir():
            raise CommandError(f"no `up` has run on {data_dir}, and METERING_KAFKA_URL is not set")
        return asyncio.run(_with_its_broker(work, data_dir.absolute()))
    return engine_work.do(name, work, report, data_dir, parameters)


async def _with_its_broker(work: engine_work.Work[T], data_dir: Path) -> T:
    from pipeline.clickhouse.client import open_engine

    async with deployment.claimed(data_dir) as lock:
        environment = settings_from_environment(Settings, weak_secrets=True)
        rights = Rights(deployment.secrets_of(data_dir).kafka_password, environment.deployment)
        broker = Broker(data_dir / "kafka", 0, keep_open=(lock,), rights=rights)
        await broker.start()
        try:
            clickhouse_url = f"chdb://{data_dir / 'clickhouse'}"
            settings = settings_from_environment(
                Settings,
                weak_secrets=True,
                clickhouse_url=clickhouse_url,
                **of_connection(broker.connection),
            )
            engine = open_engine(clickhouse_url)
            try:
                return await work(settings, engine)
            finally:
                engine.close()
        finally:
            await broker.stop()
