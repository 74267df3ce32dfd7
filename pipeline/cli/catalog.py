"""The command that publishes rates: catalog apply.

Called by: `cli/main.py`. Next: `catalog/apply.py` decides, `kafka/catalog.py` publishes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.catalog.apply import CatalogError, parse_file, plan
from pipeline.cli.asking import with_client
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, settings_for
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient

catalog_app = typer.Typer(help="The model catalog.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(catalog_app, name="catalog")


@catalog_app.callback()
def _group() -> None:
    """Keep `apply` a subcommand even while it is the only one."""


@catalog_app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="YAML or JSON: see deploy/catalog.yaml.")],
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Publish effective-dated rates. Returns when every worker knows them."""
    settings = settings_for(data_dir)
    try:
        wanted = parse_file(file.read_text(encoding="utf-8"), file.name)
    except (OSError, UnicodeDecodeError, CatalogError) as error:
        raise CommandError(f"{file}: {error}") from None

    async def work(client: CommandClient) -> int:
        now_ms = int(time.time() * 1000)
        published, end = await publish_rates(
            settings.kafka, settings.deployment, lambda known: plan(known, wanted, now_ms)
        )
        await client.barrier(end)
        return len(published)

    try:
        published = with_client(settings, work)
    except CatalogError as error:
        raise CommandError(f"{file}: {error}") from None
    print_json({"rates": len(wanted), "published": published})
