"""The commands on accounts: org create, key create, key set, credit.

Called by: `cli/main.py`. Next: `kafka/commands.py` takes them to the worker.
"""

from __future__ import annotations

import secrets
from typing import Annotated

import typer
from msgspec import UNSET, UnsetType

from pipeline.accounts.commands import ChangeKey, CreateKey, Credit, SignUp
from pipeline.accounts.keys import PREFIX_CHARS, hash_key
from pipeline.cli.asking import UnansweredError, ask
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, say, settings_for
from pipeline.kafka.commands import new_command_id
from pipeline.money import AmountError, parse_inr

CREDIT = "metering credit"
"""What an idempotency key is for, beside its org: the same key at the HTTP API is another one."""
Org = Annotated[str, typer.Option(help="The org the key belongs to.")]

org_app = typer.Typer(help="Orgs.", no_args_is_help=True)
key_app = typer.Typer(help="API keys.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(org_app, name="org")
    app.add_typer(key_app, name="key")
    app.command("credit")(credit)


def _amount(text: str, option: str) -> int:
    try:
        return parse_inr(text)
    except AmountError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@org_app.command("create")
def org_create(
    org: str,
    name: Annotated[str, typer.Option(help="The org's name.")],
    email: Annotated[str, typer.Option(help="Where its mail goes.")],
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Sign an org up. Safe to repeat: there is one signup credit."""
    result = ask(settings_for(data_dir), SignUp(new_command_id(), org, name, email))
    print_json(result)


@key_app.command("create")
def key_create(
    org: Org,
    name: Annotated[str, typer.Option(help="A name, unique among the org's active keys.")],
    tier: Annotated[str, typer.Option(help="standard or trial.")] = "standard",
    budget_inr: Annotated[str | None, typer.Option(help="Monthly budget in rupees.")] = None,
    daily_limit: Annotated[int | None, typer.Option(help="Requests an IST day.")] = None,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Create a key and print it: it is shown this once."""
    from pipeline.api.routes.keys import random_key

    api_key = random_key(tier)
    command = CreateKey(
        id=new_command_id(),
        org=org,
        key_id=f"key_{secrets.token_hex(8)}",
        name=name,
        prefix=api_key[:PREFIX_CHARS],
        hash=hash_key(api_key),
        tier=tier,
        budget_nano=None if budget_inr is None else _amount(budget_inr, "--budget-inr"),
        daily_limit=daily_limit,
    )
    result = ask(settings_for(data_dir), command)
    print_json({"key": api_key, "key_id": result.key_id})


@key_app.command("set")
def key_set(
    key_id: str,
    org: Org,
    name: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    budget_inr: Annotated[str | None, typer.Option(help="Monthly budget in rupees, or none.")] = None,
    daily_limit: Annotated[str | None, typer.Option(help="Requests an IST day, or none.")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Revoke it, for good.")] = False,
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Change a key's name or limits, or revoke it."""
    budget_nano: int | UnsetType | None = UNSET
    if budget_inr is not None:
        budget_nano = None if budget_inr == "none" else _amount(budget_inr, "--budget-inr")
    limit: int | UnsetType | None = UNSET
    if daily_limit is not None:
        if daily_limit != "none" and not daily_limit.isdecimal():
            raise typer.BadParameter("a number or none", param_hint="--daily-limit")
        limit = None if daily_limit == "none" else int(daily_limit)
    command = ChangeKey(
        id=new_command_id(),
        org=org,
        key_id=key_id,
        name=UNSET if name is None else name,
        budget_nano=budget_nano,
        daily_limit=limit,
        revoked=revoke,
    )
    print_json(ask(settings_for(data_dir), command))


def credit(
    org: str,
    inr: Annotated[str, typer.Option(help="Rupees; with a minus, a correction downwards.")],
    reason: Annotated[str, typer.Option(help="Why: it stands in the ledger.")],
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="The same key again has no second effect. Made up, and shown, where absent."),
    ] = None,
    refund: Annotated[
        str, typer.Option("--for", help="The refund that a correction stands for: it is not debited again.")
    ] = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Credit an org, or correct its balance, with a reason. Safe to repeat with the same --idempotency-key."""
    from pipeline.api.http.errors import ApiError
    from pipeline.api.http.idempotency import command_id, fingerprint

    key = idempotency_key
    if key is None:
        key = secrets.token_hex(8)
        say(f"--idempotency-key {key}")
    amount_nano = _amount(inr, "--inr")
    try:
        command = Credit(
            id=command_id(org, CREDIT, key),
            org=org,
            amount_nano=amount_nano,
            reason=reason,
            fingerprint=fingerprint(amount_nano, reason, refund),
            refund_id=refund,
        )
    except ApiError as error:
        raise typer.BadParameter(str(error), param_hint="--idempotency-key") from None
    try:
        print_json(ask(settings_for(data_dir), command))
    except UnansweredError as error:
        raise CommandError(f"{error} Repeat it with --idempotency-key {key}: it counts once.") from None
