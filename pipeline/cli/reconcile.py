"""The command that holds Razorpay, the ledger and the receipts against each other: reconcile.

Called by: `cli/main.py`. Next: `operations/reconcile.py`, here or in the server that owns the engine.
"""

from __future__ import annotations

import asyncio

import httpx2
import msgspec
import typer
from aiokafka.errors import KafkaError

from pipeline.api.operator import TOKEN_HEADER
from pipeline.cli.context import (
    DATA_DIR,
    CommandError,
    DataDir,
    print_json,
    running_on,
    say,
    settings_for,
)
from pipeline.clickhouse.client import EngineError, EngineUnavailable, open_engine
from pipeline.local.deployment import Deployment
from pipeline.operations.reconcile import Reconciliation, reconcile
from pipeline.razorpay.client import RazorpayRefusedError, RazorpayUnavailableError
from pipeline.settings import Settings

LIMIT_S = 1800.0


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("reconcile")
    def reconcile_command(data_dir: DataDir = DATA_DIR) -> None:
        """Compare Razorpay's payments, the ledger and the receipts; exit 1 where one does not match."""
        running = running_on(data_dir)
        report = _in_server(running) if running else _here(settings_for(data_dir))
        print_json(report)
        if report.mismatches:
            say(f"{len(report.mismatches)} payments do not match.")
            raise typer.Exit(1)
        say(
            f"All match: {report.razorpay_payments} payments at Razorpay, {report.ledger_payments} in the "
            f"ledger, {report.receipts} receipts."
        )


def _in_server(at: Deployment) -> Reconciliation:
    """Have the server of a running `up` do it: its process owns the embedded engine."""
    try:
        answer = httpx2.post(
            f"{at.http_url}/operator/reconcile",
            headers={TOKEN_HEADER: at.operator_token},
            timeout=LIMIT_S,
            trust_env=False,
        )
    except httpx2.HTTPError as error:
        raise CommandError(f"the server at {at.http_url} cannot be reached: {error!r}") from None
    if answer.status_code != httpx2.codes.OK:
        raise CommandError(f"the server could not reconcile: {answer.status_code} {answer.text[:500]}")
    return msgspec.json.decode(answer.content, type=Reconciliation)


def _here(settings: Settings) -> Reconciliation:
    if settings.clickhouse_url is None:
        raise CommandError("METERING_CLICKHOUSE_URL is not set, and no `up` runs on the data directory")
    try:
        engine = open_engine(settings.clickhouse_url)
        try:
            return asyncio.run(reconcile(settings, engine))
        finally:
            engine.close()
    except (EngineError, EngineUnavailable) as error:
        raise CommandError(f"ClickHouse: {error}") from None
    except (RazorpayUnavailableError, RazorpayRefusedError) as error:
        raise CommandError(f"Razorpay: {error}") from None
    except (KafkaError, TimeoutError) as error:
        raise CommandError(f"Kafka at {settings.kafka_servers} cannot be reached: {error!r}") from None
