"""The command that proves the books: verify.

Called by: `cli/main.py`. Next: `operations/verify.py`, here or in the server that owns the engine.
"""

from __future__ import annotations

import asyncio

import httpx2
import msgspec
import typer

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
from pipeline.operations.verify import Report, verify
from pipeline.settings import Settings

LIMIT_S = 1800.0


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("verify")
    def verify_command(data_dir: DataDir = DATA_DIR) -> None:
        """Recompute balances, budgets and roll-ups from the journal and compare; exit 1 on a difference."""
        running = running_on(data_dir)
        report = _in_server(running) if running else _here(settings_for(data_dir))
        print_json(report)
        if report.differences:
            say(f"{len(report.differences)} differences: the books do not agree.")
            raise typer.Exit(1)
        say(
            f"The books agree: {report.orgs} orgs, {report.requests} requests, "
            f"{report.ledger_entries} ledger entries."
        )


def _in_server(at: Deployment) -> Report:
    """Have the server of a running `up` do it: its process owns the embedded engine."""
    try:
        answer = httpx2.post(
            f"{at.http_url}/operator/verify",
            headers={TOKEN_HEADER: at.operator_token},
            timeout=LIMIT_S,
            trust_env=False,
        )
    except httpx2.HTTPError as error:
        raise CommandError(f"the server at {at.http_url} cannot be reached: {error!r}") from None
    if answer.status_code != httpx2.codes.OK:
        raise CommandError(f"the server could not verify: {answer.status_code} {answer.text[:500]}")
    return msgspec.json.decode(answer.content, type=Report)


def _here(settings: Settings) -> Report:
    if settings.clickhouse_url is None:
        raise CommandError("METERING_CLICKHOUSE_URL is not set, and no `up` runs on the data directory")
    try:
        engine = open_engine(settings.clickhouse_url)
        try:
            return asyncio.run(verify(settings, engine))
        finally:
            engine.close()
    except (EngineError, EngineUnavailable) as error:
        raise CommandError(f"ClickHouse: {error}") from None
