"""What the routes that ask or change an account have in common.

Owns: `AccountServices`; asking an account's owner within the time an answer may take; the limit on guesses of
promo codes.
Called by: the routes that ask or change an account, such as `api/routes/addresses.py`.
Next: `kafka/commands.py` takes a command to the account's owner, `payments/intake.py` a payment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline.accounts.commands import AccountCommand, CheckPromo, PrepareOrder
from pipeline.api.http.errors import ApiError, invalid, not_found, unavailable
from pipeline.api.http.limiter import Attempts
from pipeline.api.services.key_directory import KeyDirectory
from pipeline.kafka.commands import CommandClient, InvalidCommandError, UnavailableError
from pipeline.payments.intake import PaymentIntake
from pipeline.payments.order_index import OrderIndex
from pipeline.razorpay.client import RazorpayClient, RazorpayRefusedError, RazorpayUnavailableError
from pipeline.settings import Settings

log = logging.getLogger(__name__)

ANSWER_LIMIT_S = 9.0
"""A part that is down is answered within 10 s."""
GUESSES, GUESSES_WINDOW_MS = 20, 600_000

_STATUS = {"not_found": 404, "forbidden": 403, "unavailable": 503}


@dataclass
class AccountServices:
    """Without a Razorpay key there is no `razorpay`, and orders answer 503."""

    client: CommandClient
    razorpay: RazorpayClient | None
    webhook_secrets: tuple[str, ...] = field(repr=False)
    orders: OrderIndex
    key_directory: KeyDirectory
    guesses: Attempts = field(default_factory=lambda: Attempts(GUESSES, GUESSES_WINDOW_MS))
    _locks: dict[str, _SharedLock] = field(default_factory=dict)

    @property
    def intake(self) -> PaymentIntake:
        """What brings Razorpay's news to the accounts."""
        return PaymentIntake(self.client, self.razorpay, self.orders)

    async def close(self) -> None:
        """Let Razorpay go."""
        if self.razorpay is not None:
            await self.razorpay.close()

    async def ask(self, command: AccountCommand) -> Any:
        """Return an owner's answer. Raises ApiError with its refusal."""
        reply = await self.client.send(command)
        if reply.refusal is not None:
            refusal = reply.refusal
            status = _STATUS.get(refusal.code, 400)
            raise ApiError(status, refusal.code, refusal.message, param=refusal.param)
        return msgspec.json.decode(reply.result)

    async def ask_promo(self, command: CheckPromo | PrepareOrder, now_ms: int) -> Any:
        """Ask what names a promo code, counting wrong ones. Raises ApiError 429 after too many of an org."""
        wait_ms = self.guesses.wait_ms(command.org, now_ms)
        if wait_ms:
            message = "too many promo codes that are not valid; try again later"
            headers = {"Retry-After": str(-(-wait_ms // 1000))}
            raise ApiError(429, "rate_limit_exceeded", message, headers=headers)
        # Counted before the answer is known, so that many at once are counted too.
        self.guesses.add(command.org, now_ms)
        try:
            answer = await self.ask(command)
        except ApiError as error:
            if error.code != "promo_invalid":
                self.guesses.take_back(command.org)
            if isinstance(command, CheckPromo):
                error.param = "code"
            raise
        self.guesses.take_back(command.org)
        return answer

    @asynccontextmanager
    async def one_at_a_time(self, name: str) -> AsyncIterator[None]:
        """Let one of those that give the same name in at a time; the others wait."""
        shared = self._locks.setdefault(name, _SharedLock())
        shared.wanted_by += 1
        try:
            async with shared.lock:
                yield
        finally:
            shared.wanted_by -= 1
            if not shared.wanted_by:
                del self._locks[name]


@dataclass
class _SharedLock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted_by: int = 0


def account_services(
    settings: Settings, client: CommandClient, orders: OrderIndex, key_directory: KeyDirectory
) -> AccountServices:
    """Return the services that the settings ask for. Close them at the end."""
    razorpay = None
    if settings.razorpay_key_id and settings.razorpay_key_secret:
        secret = settings.razorpay_key_secret.get_secret_value()
        razorpay = RazorpayClient(settings.razorpay_url, settings.razorpay_key_id, secret)
    webhook = settings.razorpay_webhook_secret.get_secret_value() if settings.razorpay_webhook_secret else ""
    secrets = tuple(part.strip() for part in webhook.split(",") if part.strip())
    return AccountServices(client, razorpay, secrets, orders, key_directory)


@asynccontextmanager
async def answered_in_time(limit_s: float = ANSWER_LIMIT_S) -> AsyncIterator[None]:
    """Turn whatever is down or too slow inside into a 503 within the time an answer may take."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except (UnavailableError, RazorpayUnavailableError, TimeoutError) as error:
        log.warning("a part is not available: %s", error)
        raise unavailable() from None
    except RazorpayRefusedError as error:
        log.error("Razorpay refused a call: %s", error)  # noqa: TRY400 - the reason is all there is to say
        raise unavailable() from None
    except InvalidCommandError as error:
        if str(error).startswith("not_found"):
            raise not_found() from None
        raise invalid("body", "a field is too long or out of range") from None
