"""The commands that make again what is lost: rebuild clickhouse, rebuild roll-ups, rebuild state.

Called by: `cli/main.py`. Next: `sink/rebuild.py`, by way of `cli/engine_work.py`, and `operations/rebuild_state.py`.

Where no `up` runs on the data directory and no Kafka is set, its broker is started for as long as the command takes: an `up`
whose database is of another history does not get ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from aiokafka.errors import KafkaError, ProducerFenced

from pipeline.cli import engine_work
from pipeline.cli.context import (
    DATA_DIR,
    DAYS,
    CommandError,
    DataDir,
    kafka_failed,
    of_connection,
    print_json,
    running_on,
    settings_from_environment,
)
from pipeline.connection import KafkaConnection
from pipeline.formats import NewerFormatError
from pipeline.identity import MixedHistoriesError
from pipeline.kafka.partitions import PartitionsError
from pipeline.local import deployment
from pipeline.local.broker import Broker
from pipeline.local.rights import Rights
from pipeline.operations.rebuild_state import rebuild_state
from pipeline.posting.rebuilding import RebuiltState
from pipeline.posting.state import StateError
from pipeline.settings import Settings
from pipeline.steps import AnotherTopicError

if TYPE_CHECKING:
    from pipeline.clickhouse.shards import Database
    from pipeline.sink.rebuild import Rebuilt

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make again what the journal or the rows can tell, while debits go on.")
    group.command("clickhouse")(clickhouse_command)
    group.command("roll-ups")(roll_ups_command)
    group.command("state")(state_command)
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

    async def work(settings: Settings, database: Database) -> Rebuilt:
        rebuild = Rebuild(settings, database, CLICKHOUSE)
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

    async def work(settings: Settings, database: Database) -> Rebuilt:
        return await Rebuild(settings, database, ROLL_UPS).roll_ups(days.get("first"), days.get("last"))

    parameters = {name: day.isoformat() for name, day in days.items()}
    print_json(_do("rebuild/roll-ups", work, Rebuilt, data_dir, parameters))


def state_command(
    whole_too: Annotated[
        bool, typer.Option("--whole-too", help="Also the state of partitions that a worker would start with.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Make the workers' state again, with no worker running. Run it again where it was ended."""
    environment = settings_from_environment(Settings, weak_secrets=True)
    if running_on(data_dir) is not None:
        raise CommandError(f"an `up` runs on {data_dir}: stop it first, as no worker may run meanwhile")
    if environment.kafka_url is None:
        print_json(asyncio.run(_state_of_its_broker(data_dir.absolute(), whole_too=whole_too)))
    else:
        print_json(asyncio.run(_state(environment, whole_too=whole_too)))


async def _state_of_its_broker(data_dir: Path, *, whole_too: bool) -> RebuiltState:
    async with _broker_of(data_dir) as kafka:
        settings = settings_from_environment(Settings, weak_secrets=True, **of_connection(kafka))
        return await _state(settings, whole_too=whole_too)


async def _state(settings: Settings, *, whole_too: bool) -> RebuiltState:
    """Return what was made. Raises CommandError where it cannot be, or a worker is there."""
    try:
        return await rebuild_state(settings, whole_too=whole_too)
    except ProducerFenced:
        raise CommandError("a worker has started meanwhile: stop all workers, and run it again") from None
    except (StateError, MixedHistoriesError, AnotherTopicError, NewerFormatError, PartitionsError) as error:
        raise CommandError(str(error)) from None
    except (KafkaError, TimeoutError) as error:
        raise kafka_failed(error) from None


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
        return asyncio.run(_with_its_broker(work, data_dir.absolute()))
    return engine_work.do(name, work, report, data_dir, parameters)


async def _with_its_broker(work: engine_work.Work[T], data_dir: Path) -> T:
    from pipeline.clickhouse.client import open_engine

    async with _broker_of(data_dir) as kafka:
        clickhouse_url = f"chdb://{data_dir / 'clickhouse'}"
        settings = settings_from_environment(
            Settings, weak_secrets=True, clickhouse_url=clickhouse_url, **of_connection(kafka)
        )
        engine = open_engine(clickhouse_url)
        try:
            return await work(settings, engine)
        finally:
            engine.close()


@asynccontextmanager
async def _broker_of(data_dir: Path) -> AsyncIterator[KafkaConnection]:
    """Run the broker of a directory, and yield how it is reached. Raises CommandError where there is none."""
    if not (data_dir / "kafka").is_dir():
        raise CommandError(f"no `up` has run on {data_dir}, and METERING_KAFKA_URL is not set")
    async with deployment.claimed(data_dir) as lock:
        environment = settings_from_environment(Settings, weak_secrets=True)
        rights = Rights(deployment.secrets_of(data_dir).kafka_password, environment.deployment)
        broker = Broker(data_dir / "kafka", 0, keep_open=(lock,), rights=rights)
        await broker.start()
        try:
            yield broker.connection
        finally:
            await broker.stop()
