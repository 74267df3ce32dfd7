"""The command that holds Razorpay, the ledger and the receipts against each other: reconcile.

Called by: `cli/main.py`. Next: `payments/reconcile.py`, by way of `cli/engine_work.py`.
"""

from __future__ import annotations

import typer

from pipeline.cli import engine_work
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, say


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("reconcile")
    def reconcile_command(data_dir: DataDir = DATA_DIR) -> None:
        """Compare Razorpay's payments, the ledger and the receipts; exit 1 where one does not match."""
        from pipeline.payments.reconcile import Reconciliation, reconcile
        from pipeline.razorpay.client import RazorpayRefusedError, RazorpayUnavailableError

        try:
            report = engine_work.do("reconcile", reconcile, Reconciliation, data_dir)
        except (RazorpayUnavailableError, RazorpayRefusedError) as error:
            raise CommandError(f"Razorpay: {error}") from None
        print_json(report)
        if report.open_disputes:
            say(f"{len(report.open_disputes)} disputes are not decided: no money has moved for them.")
        if report.mismatches:
            say(f"{len(report.mismatches)} payments do not match.")
            raise typer.Exit(1)
        say(
            f"All match: {report.razorpay_payments} payments at Razorpay, {report.ledger_payments} in the "
            f"ledger, {report.receipts} receipts."
        )
