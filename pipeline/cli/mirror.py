"""The command that keeps a copy on a second cluster, and makes it the deployment's own: mirror.

Owns: nothing but the way there. What copies is imported only where it runs: it knows every topic, and would bring the mails'
templates into each process of the product.
Called by: `cli/main.py`. Next: `mirror/copier.py` and `mirror/promotion.py`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from aiokafka.errors import KafkaError

from pipeline import logs
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, kafka_failed, print_json, role_settings_for
from pipeline.connection import KafkaConnection
from pipeline.kafka.partitions import PartitionsError
from pipeline.settings import CommonSettings

T = TypeVar("T")
SCHEME = "kafka://"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mirror")(mirror_command)


def mirror_command(
    to: Annotated[
        str | None,
        typer.Option("--to", help="kafka://host:port of the second cluster: copy to it, for ever."),
    ] = None,
    do_promote: Annotated[
        bool, typer.Option("--promote", help="Make the copy at METERING_KAFKA_URL the deployment's own.")
    ] = False,
    do_tell: Annotated[
        bool, typer.Option("--status", help="Print what the copy at METERING_KAFKA_URL holds.")
    ] = False,
    max_age_s: Annotated[
        float | None,
        typer.Option(
            "--max-age", help="With --status: exit 1 where the copy is older, in seconds, or of no use."
        ),
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Keep a copy of all topics on a second cluster, from which workers can go on when the first is lost."""
    if sum((to is not None, do_promote, do_tell)) != 1:
        raise typer.BadParameter("give one of --to, --promote and --status")
    from pipeline.mirror.copier import mirror
    from pipeline.mirror.promotion import promote, told

    settings = role_settings_for(CommonSettings, data_dir)
    if do_promote:
        print_json(_run(promote(settings.kafka, settings)))
        return
    if to is None:
        found = _run(told(settings.kafka))
        print_json(found)
        if max_age_s is not None and (found.age_s > max_age_s or not found.usable):
            raise typer.Exit(1)
        return
    if not to.startswith(SCHEME):
        raise typer.BadParameter(f"--to must look like {SCHEME}host:port")
    logs.configure(settings.log_level, settings.log_format)
    target = KafkaConnection(to.removeprefix(SCHEME), settings.kafka_security)
    _run(_until_told(mirror(settings.kafka, target, settings)))


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or SIGINT; what was not committed by then is copied again by the next start."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _run(work: Coroutine[Any, Any, T]) -> T:
    from pipeline.mirror.writing import MirrorError

    try:
        return asyncio.run(work)
    except (MirrorError, PartitionsError) as error:
        raise CommandError(str(error)) from None
    except (KafkaError, TimeoutError) as error:
        raise kafka_failed(error) from None
