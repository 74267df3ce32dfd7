"""The command that holds Razorpay, the ledger and the receipts against each other: reconcile.

Called by: `cli/main.py`. Next: `payments/reconcile.py`, by way of `cli/engine_work.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from pipeline.cli import engine_work
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, say


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("reconcile")
    def reconcile_command(
        full: Annotated[
            bool, typer.Option("--full", help="All payments ever made, whatever was compared before.")
        ] = False,
        data_dir: DataDir = DATA_DIR,
    ) -> None:
        """Compare Razorpay's payments, the ledger and the receipts; exit 1 where one does not match."""
        from pipeline.payments.reconcile import Reconciliation, reconcile
        from pipeline.razorpay.client import RazorpayRefusedError, RazorpayUnavailableError

        try:
            asked = {"full": "true"} if full else engine_work.NO_PARAMETERS
            report = engine_work.do(
                "reconcile", partial(reconcile, full=full), Reconciliation, data_dir, asked
            )
        except (RazorpayUnavailableError, RazorpayRefusedError) as error:
            raise CommandError(f"Razorpay: {error}") from None
        print_json(report)
        if report.since_ms:
            day = datetime.fromtimestamp(report.since_ms / 1000, UTC).date()
            say(f"Compared is what was made or has changed since {day}; --full compares all.")
        if report.open_disputes:
            say(f"{len(report.open_disputes)} disputes are not decided: no money has moved for them.")
        if report.mismatches:
            say(f"{len(report.mismatches)} payments do not match.")
            raise typer.Exit(1)
        say(
            f"All match: {report.razorpay_payments} payments at Razorpay, {report.ledger_payments} in the "
            f"ledger, {report.receipts} receipts."
        )
