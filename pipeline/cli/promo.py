"""The commands for promo codes: promo create, promo delete.

Called by: `cli/main.py`. Next: `kafka/promos.py` publishes, the accounts' owners redeem.
"""

from __future__ import annotations

import re
import time
from datetime import date, datetime
from typing import Annotated

import msgspec
import typer

from pipeline import ist
from pipeline.accounts.promos import Promo, PromoError, check_promo, key_of
from pipeline.cli.asking import with_client
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, settings_for
from pipeline.kafka.commands import CommandClient
from pipeline.kafka.promos import delete_promo, publish_promo
from pipeline.money import AmountError, format_inr, parse_inr

promo_app = typer.Typer(help="Promo codes.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(promo_app, name="promo")


@promo_app.command("create")
def create(
    code: Annotated[str, typer.Argument(help="What people type, in any case.")],
    bonus_inr: Annotated[str, typer.Option(help="The bonus in rupees that it adds to a top-up.")],
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 2026-12-31T18:00:00+05:30, or a day, IST, included.")
    ] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Create a promo code, or replace it. Returns when every worker knows it."""
    settings = settings_for(data_dir)
    now_ms = int(time.time() * 1000)
    try:
        bonus_nano = parse_inr(bonus_inr, decimals=2)
        promo = check_promo(Promo(code.strip(), bonus_nano, now_ms, _instant_ms(expires)))
    except AmountError as error:
        raise typer.BadParameter(str(error), param_hint="--bonus-inr") from None
    except PromoError as error:
        raise CommandError(str(error)) from None

    async def work(client: CommandClient) -> None:
        end = await publish_promo(settings.kafka, settings.deployment, promo)
        await client.barrier(promos_offset=end)

    with_client(settings, work)
    print_json(
        {
            "code": promo.code,
            "bonus_inr": msgspec.Raw(format_inr(promo.bonus_nano).encode()),
            "expires_at": ist.isoformat(promo.expires_ms) if promo.expires_ms is not None else None,
        }
    )


@promo_app.command("delete")
def delete(
    code: Annotated[str, typer.Argument(help="The code, in any case.")], data_dir: DataDir = DATA_DIR
) -> None:
    """Delete a promo code: from then on it is not valid. Returns when every worker knows."""
    settings = settings_for(data_dir)

    async def work(client: CommandClient) -> None:
        end = await delete_promo(settings.kafka, settings.deployment, code)
        await client.barrier(promos_offset=end)

    try:
        with_client(settings, work)
    except PromoError as error:
        raise CommandError(f"{code}: {error}") from None
    print_json({"code": key_of(code), "deleted": True})


def _instant_ms(text: str | None) -> int | None:
    """Return the instant of a time, IST where it has no offset, or of a day's end."""
    if text is None:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return ist.day_end_ms(ist.day_of_date(date.fromisoformat(text)))
        at = datetime.fromisoformat(text)
        return ist.ms_of(at if at.tzinfo is not None else at.replace(tzinfo=ist.IST))
    except (ValueError, OverflowError):
        message = "a time such as 2026-12-31T18:00:00+05:30, or a day"
        raise typer.BadParameter(message, param_hint="--expires") from None
