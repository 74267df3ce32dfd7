"""What an org chooses to be told of, and where, and being told: `SetNotices`, `SetWebhook`, `TellStatements`, `TellUnusualHour`.

Owns: how the first two change the profile, and what the others come to.
Called by: `accounts/decide.py`. Next: `accounts/telling.py` heeds what was chosen.
"""

from __future__ import annotations

from typing import get_args

import msgspec
from msgspec import structs

from pipeline.accounts.commands import CommandRefusal, SetNotices, SetWebhook, TellUnusualHour
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import Account
from pipeline.accounts.notices import (
    NoticeSettings,
    NoticeSwitch,
    StatementReady,
    Told,
    UnusualHour,
    WebhookTarget,
)
from pipeline.accounts.results import NoticesSet, NoticeTold, WebhookSet
from pipeline.accounts.telling import due_statement, due_unusual_hour
from pipeline.accounts.webhooks import host_of, url_problem
from pipeline.outcomes import RefusalCode


def view_of_notices(notices: NoticeSettings) -> NoticesSet:
    """Return what an org chose, as its members may see it: of the webhook's URL, which may hold a secret, the host."""
    host = None if notices.webhook is None else host_of(notices.webhook.url)
    switches = {name: getattr(notices, name) for name in get_args(NoticeSwitch)}
    return NoticesSet(**switches, webhook_host=host)


def set_notices(account: Account, command: SetNotices) -> Posting[NoticesSet]:
    """Switch on or off what is given."""
    notices = structs.replace(account.profile.notices, **command.switches)
    return Posting(view_of_notices(notices), profile=structs.replace(account.profile, notices=notices))


def set_webhook(account: Account, command: SetWebhook) -> Posting[WebhookSet] | CommandRefusal:
    """Set where notices are sent, or with None nowhere any more.

    The same URL keeps the nonce that its secret is made of, unless a new secret is asked for.
    """
    notices, url = account.profile.notices, command.url
    if url is None:
        target = None
    else:
        problem = url_problem(url)
        if problem is not None:
            return CommandRefusal(RefusalCode.INVALID_REQUEST, problem, "url")
        is_kept = notices.webhook is not None and notices.webhook.url == url and not command.new_secret
        target = notices.webhook if is_kept else WebhookTarget(url, command.nonce)
    result = (
        WebhookSet(None, "") if target is None else msgspec.convert(target, WebhookSet, from_attributes=True)
    )
    profile = structs.replace(account.profile, notices=structs.replace(notices, webhook=target))
    return Posting(result, profile=profile)


def tell_statement(account: Account, month: int, at_ms: int, told: Told) -> Posting[NoticeTold]:
    """Tell an org that the statement of a month is ready, unless it was told or does not want to be."""
    due, after = due_statement(account, told, month, at_ms)
    return _posting(due, told, after)


def tell_unusual_hour(
    account: Account, command: TellUnusualHour, at_ms: int, told: Told
) -> Posting[NoticeTold]:
    """Tell an org of an unusual hour, unless it was told of one lately or does not want to be."""
    hour = UnusualHour(
        command.hour_ms, command.cost_nano, command.usual_nano, command.key_id, "", command.model
    )
    due, after = due_unusual_hour(account, told, hour, at_ms)
    return _posting(due, told, after)


def _posting(
    due: tuple[str, StatementReady | UnusualHour] | None, told: Told, after: Told
) -> Posting[NoticeTold]:
    return Posting(NoticeTold(due is not None), notice=due, told=after if after != told else None)
