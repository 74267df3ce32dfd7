"""`metering demo`: the whole product in the foreground, with a small believable platform in it.

Owns: its options, and which processes the demo has beside the product's.
Called by: `cli/main.py`.  Next: `local/supervisor.py`, `standin/gateway.py`, `demo/main.py`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.context import DATA_DIR, DataDir, settings_from_environment, variable
from pipeline.cli.up import KAFKA_PORT, KafkaPort, Port
from pipeline.local import ports, supervisor
from pipeline.local.deployment import Deployment
from pipeline.local.supervisor import Child

SEED = 1
RATE = 5.0
RATE_MAX = 1000.0

_HOST = "127.0.0.1"

Seed = Annotated[int, typer.Option("--seed", help="Another seed, another history.", metavar="N")]
Rate = Annotated[
    float,
    typer.Option(
        "--rate",
        min=0.0,
        max=RATE_MAX,
        help="Live requests a second; 0 for none.",
        metavar="EVENTS_PER_SECOND",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        data_dir: DataDir = DATA_DIR,
        port: Port = None,
        kafka_port: KafkaPort = KAFKA_PORT,
        seed: Seed = SEED,
        rate: Rate = RATE,
    ) -> None:
        """Run the product with orgs, keys, 30 days of history and live traffic in it. Ctrl-C stops it."""
        # What a person watches is the demo's own words; the log speaks up when something is broken.
        os.environ.setdefault(variable("log_level"), "error")
        given = {} if port is None else {"port": port}
        settings = settings_from_environment(**given)

        def beside(at: Deployment) -> Sequence[Child]:
            return children(at, data_dir.absolute(), seed, rate)

        asyncio.run(supervisor.up(data_dir, settings, kafka_port=kafka_port, when_ready=beside))


def children(at: Deployment, data_dir: Path, seed: int, rate: float) -> list[Child]:
    """Return the demo's processes: the stand-in gateway, and the one that seeds and makes traffic."""
    gateway_port = ports.free(_HOST)
    gateway_url = f"http://{_HOST}:{gateway_port}"
    gateway = (
        *(sys.executable, "-m", "pipeline.standin.gateway", "--kafka-url", at.kafka_url),
        *("--port", str(gateway_port), "--node", "demo", "--spool-dir", str(data_dir / "demo-spool")),
    )
    traffic = (
        *(sys.executable, "-m", "pipeline.demo.main", "--data-dir", str(data_dir), "--url", at.http_url),
        *("--gateway-url", gateway_url, "--seed", str(seed), "--rate", str(rate)),
    )
    return [Child("gateway", gateway, f"{gateway_url}/healthz"), Child("demo", traffic)]
