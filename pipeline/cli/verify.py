"""The command that proves the books: verify.

Called by: `cli/main.py`. Next: `operations/verify.py`, by way of `cli/engine_work.py`.
"""

from __future__ import annotations

import typer

from pipeline.cli import engine_work
from pipeline.cli.context import DATA_DIR, DataDir, print_json, say


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("verify")
    def verify_command(data_dir: DataDir = DATA_DIR) -> None:
        """Recompute balances, budgets and roll-ups from the journal and compare; exit 1 on a difference."""
        from pipeline.operations.verify import Report, verify

        report = engine_work.do("verify", verify, Report, data_dir)
        print_json(report)
        if report.differences:
            say(f"{len(report.differences)} differences: the books do not agree.")
            raise typer.Exit(1)
        say(
            f"The books agree: {report.orgs} orgs, {report.requests} requests, "
            f"{report.ledger_entries} ledger entries."
        )
