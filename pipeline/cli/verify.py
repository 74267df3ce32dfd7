"""The command that proves the books: verify.

Called by: `cli/main.py`. Next: `operations/verify.py`, by way of `cli/engine_work.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from pipeline.cli import engine_work
from pipeline.cli.context import DATA_DIR, DataDir, print_json, say


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("verify")
    def verify_command(
        full: Annotated[
            bool,
            typer.Option("--full", help="From the journal's beginning, whatever was verified before."),
        ] = False,
        data_dir: DataDir = DATA_DIR,
    ) -> None:
        """Recompute balances, budgets and roll-ups from the journal and compare; exit 1 on a difference.

        Goes on from where the last run that found no difference ended.
        """
        from pipeline.operations.verify import verify

        report = engine_work.with_queries(partial(verify, full=full), data_dir)
        print_json(report)
        for note in report.notes:
            say(note)
        differences = len(report.differences) + report.more_differences
        if differences:
            say(f"{differences} differences: the books do not agree.")
            raise typer.Exit(1)
        say(
            f"The books agree: {report.orgs} orgs, {report.requests} requests, "
            f"{report.ledger_entries} ledger entries; {report.rows_read} rows were read, the others by earlier runs."
        )
