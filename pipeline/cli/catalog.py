"""The commands that change the catalog: catalog apply, catalog withdraw.

Called by: `cli/main.py`, and `cli/whatif.py` to read a file. Next: `catalog/apply.py` decides, `kafka/catalog.py` publishes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline import ist
from pipeline.catalog import apply as catalog_apply
from pipeline.catalog.apply import CatalogError, parse_file, parse_start, plan
from pipeline.catalog.rates import Rate
from pipeline.cli.asking import with_client
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, settings_for
from pipeline.kafka.catalog import publish_rates, withdraw_rate
from pipeline.kafka.commands import CommandClient

catalog_app = typer.Typer(help="The model catalog.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(catalog_app, name="catalog")


@catalog_app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="YAML or JSON: see deploy/catalog.yaml.")],
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Publish effective-dated rates. Returns when every worker knows them."""
    settings, wanted = settings_for(data_dir), rates_of_file(file)

    async def work(client: CommandClient) -> int:
        published, end = await publish_rates(
            settings.kafka, settings.deployment, lambda known, now_ms: plan(known, wanted, now_ms)
        )
        await client.barrier(end)
        return len(published)

    try:
        published = with_client(settings, work)
    except CatalogError as error:
        raise CommandError(f"{file}: {error}") from None
    print_json({"rates": len(wanted), "published": published})


def rates_of_file(file: Path) -> list[Rate]:
    """Return the rates of a catalog file. Raises CommandError where it cannot be read, or is none."""
    try:
        return parse_file(file.read_text(encoding="utf-8"), file.name)
    except (OSError, UnicodeDecodeError, CatalogError) as error:
        raise CommandError(f"{file}: {error}") from None


@catalog_app.command("withdraw")
def withdraw(
    model: Annotated[str, typer.Argument(help="The route's model.")],
    provider: Annotated[str, typer.Argument(help="The route's provider.")],
    start: Annotated[
        str, typer.Argument(metavar="FROM", help="The rate's effective_from: 2026-12-01T00:00:00+05:30.")
    ],
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Withdraw an announced rate: one that is not in force yet, nor about to be. Returns when every worker knows."""
    settings = settings_for(data_dir)

    async def work(client: CommandClient, from_ms: int) -> None:
        _, end = await withdraw_rate(
            settings.kafka,
            settings.deployment,
            lambda known, now_ms: catalog_apply.withdraw(known, (model, provider), from_ms, now_ms),
        )
        await client.barrier(end)

    try:
        from_ms = parse_start(start)
        with_client(settings, lambda client: work(client, from_ms))
    except CatalogError as error:
        raise CommandError(str(error)) from None
    print_json({"model": model, "provider": provider, "withdrawn_from": ist.isoformat(from_ms)})
