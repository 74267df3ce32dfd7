"""One role alone (`worker`, `server`, `sink`, `notary`), and what prepares for them (`migrate`, `topics`).

Owns: nothing but the way there: each role is imported only when it runs.
Called by: `cli/main.py`.  Next: `worker/app.py`, `api/server/main.py`, `sink/main.py`, `notary/main.py`, `clickhouse/migrate.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli.context import (
    DATA_DIR,
    CommandError,
    DataDir,
    print_json,
    role_settings_for,
    say,
    settings_for,
)
from pipeline.kafka.acls import acls, shown
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.granting import check_grants, grant
from pipeline.settings import CommonSettings, NotarySettings, SinkSettings, WorkerSettings


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def worker(data_dir: DataDir = DATA_DIR) -> None:
        """Run the Faust worker: it debits and bills."""
        from pipeline.worker.app import main

        raise typer.Exit(main(role_settings_for(WorkerSettings, data_dir)))

    @app.command()
    def server(data_dir: DataDir = DATA_DIR) -> None:
        """Run the HTTP server, with the ClickHouse sink beside it, and the notary where it has the key."""
        from pipeline.api.server.main import main

        raise typer.Exit(main(settings_for(data_dir)))

    @app.command()
    def sink(data_dir: DataDir = DATA_DIR) -> None:
        """Run the ClickHouse sink apart from the server."""
        from pipeline.sink.main import main

        raise typer.Exit(main(role_settings_for(SinkSettings, data_dir)))

    @app.command()
    def notary(data_dir: DataDir = DATA_DIR) -> None:
        """Run the notary apart from the server: it signs a checkpoint of each closed day."""
        raise typer.Exit(_notary(role_settings_for(NotarySettings, data_dir)))

    @app.command()
    def migrate(data_dir: DataDir = DATA_DIR) -> None:
        """Create the ClickHouse schema or bring it up to date. Safe to repeat."""
        say(_migrate(role_settings_for(SinkSettings, data_dir)))

    @app.command()
    def topics(
        show_acls: Annotated[
            bool, typer.Option("--acls", help="Print what each role may do in Kafka, and make no topics.")
        ] = False,
        grants: Annotated[
            list[str] | None,
            typer.Option(
                "--grant", metavar="ROLE=User:NAME", help="With --acls: give that user the role's rights."
            ),
        ] = None,
        data_dir: DataDir = DATA_DIR,
    ) -> None:
        """Create the Kafka topics or bring them up to date, or print or set who may use them. Safe to repeat."""
        if grants and not show_acls:
            raise typer.BadParameter("--grant goes with --acls")
        settings = role_settings_for(CommonSettings, data_dir)
        if grants:
            wanted = check_grants(grants, settings.deployment)
            print_json({"granted": asyncio.run(grant(settings.kafka, settings.deployment, wanted))})
        elif show_acls:
            print_json(
                {role: [shown(each) for each in given] for role, given in acls(settings.deployment).items()}
            )
        else:
            print_json(asdict(asyncio.run(ensure_topics(settings.kafka, settings))))


def _migrate(settings: SinkSettings) -> str:
    """Migrate the schema; what was done. Raises CommandError with what is in the way."""
    from pipeline.clickhouse.migrate import MigrationError, main

    try:
        return main(settings)
    except MigrationError as error:
        raise CommandError(f"migrate: {error}") from None


def _notary(settings: NotarySettings) -> int:
    """Run the notary; the exit code. Raises CommandError with what keeps it from signing."""
    from pipeline.notary.checkpoint import NotaryKeyError
    from pipeline.notary.day import NotaryError
    from pipeline.notary.main import main

    try:
        return main(settings)
    except (NotaryError, NotaryKeyError) as error:
        raise CommandError(f"nothing more is signed: {error}") from None
