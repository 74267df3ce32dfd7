"""The commands on sessions: session, session revoke.

Called by: `cli/main.py`. Next: `api/http/sessions.py` signs tokens, `kafka/sessions.py` and `kafka/tokens.py` tell the servers.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from pipeline import ist
from pipeline.cli.context import DATA_DIR, CommandError, DataDir, print_json, settings_for
from pipeline.kafka.attempts import described
from pipeline.kafka.commands import UnavailableError
from pipeline.kafka.follow import SilentTopicError
from pipeline.kafka.sessions import write_session
from pipeline.kafka.tokens import revoke_tokens
from pipeline.session_book import ended_org

session_app = typer.Typer(help="Print a signed session token for the HTTP API; or end sessions.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(session_app, name="session")


@session_app.callback(invoke_without_command=True)
def session(
    context: typer.Context,
    org: Annotated[str | None, typer.Option(help="The org the session is for.")] = None,
    role: Annotated[str, typer.Option(help="owner, admin or member.")] = "owner",
    email: Annotated[str, typer.Option(help="The member's email.")] = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Print a signed session token for the HTTP API.

    It is good for 12 hours as `Authorization: Bearer TOKEN`. In a link, /login?token=TOKEN, it signs a browser in
    within a minute of its issue, once; from then on it is over.
    """
    from pipeline.api.http.sessions import DEFAULT_TTL_S, ROLES, issue

    if context.invoked_subcommand is not None:
        return
    if org is None:
        raise typer.BadParameter("say which org the session is for", param_hint="--org")
    if role not in ROLES:
        raise typer.BadParameter(f"one of {', '.join(ROLES)}", param_hint="--role")
    settings = settings_for(data_dir)
    if settings.session_secret is None:
        raise CommandError("METERING_SESSION_SECRET is not set")
    secret = settings.session_secret.get_secret_value()
    print_json({"token": issue(secret, org, role, email, now_ms=_now_ms(), ttl_s=DEFAULT_TTL_S)})


@session_app.command("revoke")
def revoke(
    org: Annotated[str, typer.Option(help="The org whose members are signed out.")],
    data_dir: DataDir = DATA_DIR,
) -> None:
    """End all sessions of an org that were issued before now, at every server, and revoke its access tokens.

    Its members sign in again. A token that a session makes in the moment before every server knows is not revoked:
    look at the page /keys, or run it again.
    """
    settings, now_ms = settings_for(data_dir), _now_ms()
    if settings.session_secret is None:
        raise CommandError("METERING_SESSION_SECRET is not set: access tokens cannot be revoked without it")
    secret = settings.session_secret.get_secret_value()

    async def end() -> int:
        await write_session(settings.kafka, ended_org(org, now_ms))
        return await revoke_tokens(settings.kafka, secret, org, _now_ms)

    try:
        revoked = asyncio.run(end())
    except (KafkaError, OSError, UnavailableError, SilentTopicError) as error:
        raise CommandError(
            f"Kafka cannot be written: {described(error)}; nobody knows whether sessions ended and tokens were revoked"
        ) from None
    print_json({"org": org, "issued_before": ist.isoformat(now_ms), "tokens_revoked": revoked})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
