"""`metering demo`: the whole product in the foreground, with a small believable platform in it.

Owns: its options, and which processes the demo has beside the product's.
Called by: `cli/main.py`.  Next: `local/supervisor.py`, `standin/gateway.py`, `demo/sign_in.py`, `demo/main.py`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.context import DATA_DIR, DataDir, say, settings_from_environment
from pipeline.cli.up import KAFKA_PORT, KafkaPort, Port
from pipeline.local import ports, supervisor
from pipeline.local.deployment import Deployment
from pipeline.local.supervisor import Child
from pipeline.settings import Settings, variable

SEED = 1
RATE = 5.0
RATE_MAX = 1000.0

_HOST = "127.0.0.1"
_RAZORPAY_KEY_ID = "rzp_test_standin"

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
        from pipeline.demo.platform import STARTUP
        from pipeline.demo.sign_in import link_of, sign_in_address

        # What a person watches is the demo's own words; the log speaks up when something is broken.
        os.environ.setdefault(variable("log_level"), "error")
        outside = Outside()
        outside.set_environment()
        given = {} if port is None else {"port": port}
        settings = settings_from_environment(Settings, weak_secrets=True, **given)

        ready: list[Deployment] = []

        def beside(at: Deployment) -> Sequence[Child]:
            ready.append(at)
            return children(at, outside, data_dir.absolute(), seed, rate)

        def link() -> str | None:
            return link_of(STARTUP, ready[0].http_url, ready[0].session_secret) if ready else None

        with sign_in_address(link) as address:
            # The first line that anybody reads, before there is anything to see: the address waits by itself.
            say(f"The overview, signed in: {address}")
            asyncio.run(
                supervisor.up(data_dir, settings, kafka_port=kafka_port, when_ready=beside, is_guarded=False)
            )


class Outside:
    """Stand-ins: for a gateway, and for Razorpay and the mail server where the environment names no real ones."""

    def __init__(self) -> None:
        """Choose ports, and secrets that live as long as this run."""
        self.razorpay_port, self.smtp_port, self.inbox_port = (ports.free(_HOST) for _ in range(3))
        self.gateway_port = ports.free(_HOST)
        self.gateway_url = f"http://{_HOST}:{self.gateway_port}"
        self.key_secret, self.webhook_secret = secrets.token_hex(16), secrets.token_hex(16)
        self.own_razorpay = variable("razorpay_key_id") in os.environ
        self.own_smtp = variable("smtp_url") in os.environ

    def set_environment(self) -> None:
        """Point the product's processes at the stand-ins."""
        os.environ[variable("gateway_url")] = self.gateway_url
        if not self.own_razorpay:
            url = f"http://{_HOST}:{self.razorpay_port}/v1"
            os.environ[variable("razorpay_url")] = url
            os.environ[variable("checkout_url")] = f"{url}/checkout.js"
            os.environ[variable("razorpay_key_id")] = _RAZORPAY_KEY_ID
            os.environ[variable("razorpay_key_secret")] = self.key_secret
            os.environ[variable("razorpay_webhook_secret")] = self.webhook_secret
        if not self.own_smtp:
            os.environ[variable("smtp_url")] = f"smtp://{_HOST}:{self.smtp_port}"

    def children(self, at: Deployment, data_dir: Path) -> list[Child]:
        """Return the stand-ins' processes."""
        razorpay = (
            *(sys.executable, "-m", "pipeline.standin.razorpay", "--port", str(self.razorpay_port)),
            *("--key-id", _RAZORPAY_KEY_ID, "--key-secret", self.key_secret),
            *("--webhook-url", f"{at.http_url}/webhooks/razorpay", "--webhook-secret", self.webhook_secret),
            *("--keep", str(data_dir / "demo-razorpay.json")),
        )
        inbox = (
            *(sys.executable, "-m", "pipeline.standin.inbox", "--port", str(self.smtp_port)),
            *("--http-port", str(self.inbox_port), "--dir", str(data_dir / "demo-mails")),
        )
        return [
            *([] if self.own_razorpay else [Child("razorpay", razorpay)]),
            *([] if self.own_smtp else [Child("inbox", inbox)]),
        ]


def children(at: Deployment, outside: Outside, data_dir: Path, seed: int, rate: float) -> list[Child]:
    """Return the demo's processes: the stand-ins, and the one that seeds and makes traffic."""
    gateway = (
        *(sys.executable, "-m", "pipeline.standin.gateway"),
        *("--kafka-url", at.gateway_kafka_url or at.kafka_url),
        *("--port", str(outside.gateway_port), "--node", "demo", "--spool-dir", str(data_dir / "demo-spool")),
    )
    traffic = (
        *(sys.executable, "-m", "pipeline.demo.main", "--data-dir", str(data_dir), "--url", at.http_url),
        *("--gateway-url", outside.gateway_url, "--seed", str(seed), "--rate", str(rate)),
        *([] if outside.own_smtp else ["--inbox-url", f"http://{_HOST}:{outside.inbox_port}"]),
    )
    return [
        *outside.children(at, data_dir),
        Child("gateway", gateway, f"{outside.gateway_url}/healthz"),
        Child("demo", traffic, role=Settings),
    ]
