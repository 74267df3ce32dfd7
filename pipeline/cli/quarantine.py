"""The command that sets a record aside which ends its worker: quarantine.

Called by: `cli/main.py`. Next: `operations/quarantine.py`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from pipeline.cli.context import DATA_DIR, CommandError, DataDir, kafka_failed, print_json, say, settings_for
from pipeline.kafka.partitions import PartitionsError
from pipeline.operations.quarantine import NotSetAsideError, quarantine


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quarantine")(quarantine_command)


def quarantine_command(
    topic: str,
    partition: int,
    offset: int,
    reason: Annotated[str, typer.Option(help="Why: it becomes the dead letter's detail.")],
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Set a record aside that ends its worker: the next owner of the partition makes a dead letter of it, unread.

    Needs no worker that lives. Nothing of the record is charged or carried out.
    """
    settings = settings_for(data_dir)
    try:
        set_aside = asyncio.run(quarantine(settings.kafka, TopicPartition(topic, partition), offset, reason))
    except (NotSetAsideError, PartitionsError) as error:
        raise CommandError(str(error)) from None
    except (KafkaError, TimeoutError) as error:
        raise kafka_failed(error) from None
    say("set aside: the next worker that takes the partition over makes a dead letter of it")
    print_json(set_aside)
