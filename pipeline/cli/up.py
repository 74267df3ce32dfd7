"""`metering up`: the whole product in the foreground.

Owns: its options.
Called by: `cli/main.py`.  Next: `local/supervisor.py`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pipeline.cli.context import DATA_DIR, DataDir, settings_from_environment
from pipeline.local import supervisor
from pipeline.settings import Settings

KAFKA_PORT = 9092

Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="HTTP; 0 takes a free one. [default: 8000]", metavar="N"),
]
KafkaPort = Annotated[
    int, typer.Option("--kafka-port", min=0, max=65535, help="Kafka; 0 takes a free one.", metavar="N")
]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def up(data_dir: DataDir = DATA_DIR, port: Port = None, kafka_port: KafkaPort = KAFKA_PORT) -> None:
        """Run the whole product: broker, engine, worker, server. Ctrl-C stops it."""
        given = {} if port is None else {"port": port}
        settings = settings_from_environment(Settings, weak_secrets=True, **given)
        asyncio.run(supervisor.up(data_dir, settings, kafka_port=kafka_port))
