"""The command that charges dead letters: redrive.

Called by: `cli/main.py`. Next: `operations/redrive.py`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from pipeline.cli.context import DATA_DIR, CommandError, DataDir, kafka_failed, print_json, settings_for
from pipeline.kafka.extent import InputShortenedError
from pipeline.kafka.partitions import PartitionsError
from pipeline.operations.redrive import NotYetChargedError, redrive


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("redrive")
    def redrive_command(
        too_late: Annotated[
            bool,
            typer.Option("--too-late", help="Those over 35 days old too: nobody knows if they were charged."),
        ] = False,
        leaps: Annotated[
            bool,
            typer.Option(
                "--leaps", help="Those with a number far above their source's too: see docs/runbooks.md."
            ),
        ] = False,
        unsigned: Annotated[
            bool,
            typer.Option("--unsigned", help="Those that their gateway did not sign too: see docs/deploy.md."),
        ] = False,
        data_dir: DataDir = DATA_DIR,
    ) -> None:
        """Charge the dead letters that can be charged now, each once."""
        settings = settings_for(data_dir)
        try:
            report = asyncio.run(redrive(settings, too_late=too_late, leaps=leaps, unsigned=unsigned))
        except (NotYetChargedError, InputShortenedError, PartitionsError) as error:
            raise CommandError(str(error)) from None
        except (KafkaError, TimeoutError) as error:
            raise kafka_failed(error) from None
        print_json(report)
