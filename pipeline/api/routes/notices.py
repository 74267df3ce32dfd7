"""`/me/notices`: what an org is told of without asking, and where.

Owns: the answers, and showing an owner the secret that signs what is sent to the org's webhook.
Called by: `api/server/app.py`. Next: the account's owner decides, `accounts/notice_choices.py`.
"""

from __future__ import annotations

import secrets
from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Response
from msgspec import structs
from pydantic import BaseModel, ConfigDict, Field

from pipeline.accounts.commands import SetNotices, SetWebhook
from pipeline.accounts.notices import NoticeSwitch
from pipeline.accounts.results import NoticesSet
from pipeline.accounts.webhooks import URL_LENGTH_MAX
from pipeline.api.http.answers import Documented, failures, json_answer
from pipeline.api.http.bodies import ExactRoute
from pipeline.api.http.parameters import only
from pipeline.api.routes.billing import view_account
from pipeline.api.services.accounts import answered_in_time
from pipeline.api.services.dependencies import AccountsOf, ContextOf, OwnerSession, SignedIn
from pipeline.kafka.commands import new_command_id
from pipeline.webhook.signing import secret_of, secret_text

router = APIRouter(tags=["notices"], route_class=ExactRoute)


class NoticesAnswer(Documented):
    """What the org is told of; `webhook_host` is where notices are sent beside mails, null where nowhere."""

    mail: bool
    budget_reached: bool
    statement_ready: bool
    unusual_hour: bool
    webhook_host: str | None


class NoticesChange(BaseModel):
    """What to switch on or off; what is left out stays. `mail` is for all kinds of notices together."""

    model_config = ConfigDict(extra="forbid")

    mail: bool | None = None
    budget_reached: bool | None = None
    statement_ready: bool | None = None
    unusual_hour: bool | None = None


class WebhookBody(BaseModel):
    """An https URL of the public internet, or null for none. The same URL keeps its secret unless a new one is asked for."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(min_length=1, max_length=URL_LENGTH_MAX)] | None
    new_secret: bool = False


class WebhookAnswer(Documented):
    """The URL as it is now, and the secret that signs what is sent there (Standard Webhooks, `whsec_...`)."""

    url: str | None
    secret: str | None


@router.get("/me/notices", response_model=NoticesAnswer, responses=failures(401))
async def notices(
    session: SignedIn, accounts: AccountsOf, _checked: Annotated[None, Depends(only())]
) -> Response:
    """What the org is told of without asking. The low balance has its own setting, the threshold."""
    account = await view_account(accounts.client, session.org)
    return json_answer(_shown(account.notices))


@router.patch("/me/notices", response_model=NoticesAnswer, responses=failures(400, 401, 403))
async def change_notices(
    session: OwnerSession,
    accounts: AccountsOf,
    body: NoticesChange,
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """Switch kinds of notices on or off. What was reached meanwhile and holds still is told once it is switched on."""
    given = body.model_dump(exclude_none=True)
    switches = {name: given[name] for name in get_args(NoticeSwitch) if name in given}
    command = SetNotices(new_command_id(), session.org, switches)
    async with answered_in_time():
        return json_answer(_shown(await accounts.ask(command)))


@router.put("/me/notices/webhook", response_model=WebhookAnswer, responses=failures(400, 401, 403))
async def set_webhook(
    session: OwnerSession,
    accounts: AccountsOf,
    context: ContextOf,
    body: WebhookBody,
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """Set where notices are posted beside mails, and see the secret by which the receiver knows them."""
    command = SetWebhook(
        new_command_id(), session.org, body.url, secrets.token_hex(16), new_secret=body.new_secret
    )
    async with answered_in_time():
        result = await accounts.ask(command)
    if result.url is None:
        return json_answer({"url": None, "secret": None})
    secret = secret_text(secret_of(context.session_secret, session.org, result.nonce))
    return json_answer({"url": result.url, "secret": secret})


def _shown(chosen: NoticesSet) -> dict[str, object]:
    shown: dict[str, object] = structs.asdict(chosen)
    return shown
