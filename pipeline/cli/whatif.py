"""The command that prices the past anew: whatif.

Called by: `cli/main.py`. Next: `pipeline/whatif.py`; the sums come from the engine by way of `cli/engine_work.py`.
"""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pipeline import ist
from pipeline.catalog.rates import RateTable
from pipeline.cli import engine_work
from pipeline.cli.catalog import rates_of_file
from pipeline.cli.context import DATA_DIR, DAYS, DataDir, print_json, say
from pipeline.settings import Settings
from pipeline.whatif import PriceGroup, WhatIf, parameters_of_days, pieces, repriced

if TYPE_CHECKING:
    from pipeline.operations.verify import Ask

DAYS_DEFAULT = 30

_decode_group = msgspec.json.Decoder(PriceGroup, strict=False).decode


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("whatif")
    def whatif_command(
        catalog: Annotated[Path, typer.Option("--catalog", help="YAML or JSON: see deploy/catalog.yaml.")],
        first: Annotated[
            datetime | None,
            typer.Option("--from", formats=DAYS, help="The first IST day; 30 days in all where absent."),
        ] = None,
        last: Annotated[
            datetime | None, typer.Option("--to", formats=DAYS, help="The last IST day; today where absent.")
        ] = None,
        org: Annotated[str, typer.Option("--org", help="Only this org.")] = "",
        data_dir: DataDir = DATA_DIR,
    ) -> None:
        """Tell what the requests of a range would have cost by another catalog. It moves no money."""
        from pipeline.api.http.parameters import Range
        from pipeline.api.routes.whatif import answer

        rates = _rates(catalog)
        from_day, to_day = _range(first, last)

        async def work(_settings: Settings, ask: Ask) -> WhatIf:
            return repriced(await groups_of(ask, rates, from_day, to_day, org), rates, {})

        found = engine_work.with_queries(work, data_dir)
        left_out = {f"{each.model} at {each.provider}": each.requests for each in found.left_out}
        print_json({**answer(found, Range(from_day, to_day)), "left_out": left_out})
        if found.left_out:
            say(
                f"{sum(left_out.values())} requests are left out of both sums: {catalog} has no rate of their routes."
            )


async def groups_of(ask: Ask, rates: RateTable, first: date, last: date, org: str) -> list[PriceGroup]:
    """Return the charged requests of some days, of one org or of all where it is empty, as any of the rates prices them."""
    groups: list[PriceGroup] = []
    for from_day, to_day in pieces(first, last):
        parameters = {"one_org": org, **parameters_of_days(rates, from_day, to_day)}
        lines = await ask("whatif_platform", parameters)
        groups.extend(map(_decode_group, lines.splitlines()))
    return groups


def _rates(file: Path) -> RateTable:
    rates = RateTable()
    for rate in rates_of_file(file):
        rates.add(rate)
    return rates


def _range(first: datetime | None, last: datetime | None) -> tuple[date, date]:
    """Return the first and the last day that are asked about. Raises typer.BadParameter where they are the wrong way round."""
    end = last.date() if last else ist.date_of(ist.day_of(time.time_ns() // 1_000_000))
    start = first.date() if first else end - timedelta(days=DAYS_DEFAULT - 1)
    if start > end:
        raise typer.BadParameter(f"--from {start} lies after --to {end}")
    return start, end
