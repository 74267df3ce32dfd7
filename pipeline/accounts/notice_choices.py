"""What an org chooses to be told of, and where: the commands `SetNotices` and `SetWebhook`.

Owns: how each changes the profile.
Called by: `accounts/decide.py`. Next: `accounts/telling.py` heeds what was chosen.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, structs

from pipeline.accounts.commands import CommandRefusal, SetNotices, SetWebhook
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import Account
from pipeline.accounts.notices import NoticeSettings, WebhookTarget
from pipeline.accounts.results import NoticesSet, WebhookSet
from pipeline.accounts.webhooks import host_of, url_problem
from pipeline.outcomes import RefusalCode


def view_of_notices(notices: NoticeSettings) -> NoticesSet:
    """Return what an org chose, as its members may see it: of the webhook's URL, which may hold a secret, the host."""
    host = None if notices.webhook is None else host_of(notices.webhook.url)
    return NoticesSet(mail=notices.mail, budget_reached=notices.budget_reached, webhook_host=host)


def set_notices(account: Account, command: SetNotices) -> Posting[NoticesSet]:
    """Switch on or off what is given."""
    given = {
        name: value for name in ("mail", "budget_reached") if (value := getattr(command, name)) is not UNSET
    }
    notices = structs.replace(account.profile.notices, **given)
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
