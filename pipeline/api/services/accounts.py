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

from pipeline.accounts.commands import AccountCommand, CheckPromo, CommandRefusal, R
from pipeline.api.http.errors import ApiError, invalid, refused, unavailable
from pipeline.api.http.limiter import Attempts
from pipeline.api.services.key_directory import KeyDirectory
from pipeline.kafka.commands import CommandClient, CommandRefusedError, InvalidCommandError, UnavailableError
from pipeline.outcomes import RefusalCode
from pipeline.payments.intake import PaymentIntake
from pipeline.payments.order_index import OrderIndex
from pipeline.razorpay.client import RazorpayClient, RazorpayRefusedError, RazorpayUnavailableError
from pipeline.settings import Settings

log = logging.getLogger(__name__)

ANSWER_LIMIT_S = 9.0
"""A part that is down is answered within 10 s."""
GUESSES, GUESSES_WINDOW_MS = 20, 600_000


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
        """What brings Razorpay's messages to the accounts."""
        return PaymentIntake(self.client, self.razorpay, self.orders)

    async def close(self) -> None:
        """Let Razorpay go."""
        if self.razorpay is not None:
            await self.razorpay.close()

    async def ask(self, command: AccountCommand[R]) -> R:
        """Return a command's result. Raises ApiError where its account's owner refuses it."""
        answer = await self.client.send(command)
        if isinstance(answer, CommandRefusal):
            raise refused(answer)
        return answer

    async def ask_promo(self, command: AccountCommand[R], now_ms: int) -> R:
        """Ask what names a promo code, counting wrong ones. Raises ApiError 429 after too many of an org."""
        wait_ms = self.guesses.wait_ms(command.org, now_ms)
        if wait_ms:
            message = "too many promo codes that are not valid; try again later"
            headers = {"Retry-After": str(-(-wait_ms // 1000))}
            raise ApiError(RefusalCode.RATE_LIMIT_EXCEEDED, message, headers=headers)
        # Counted before the answer is known, so that many at once are counted too.
        self.guesses.add(command.org, now_ms)
        try:
            answer = await self.ask(command)
        except ApiError as error:
            if error.code is not RefusalCode.PROMO_INVALID:
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
    except CommandRefusedError as error:
        raise refused(error.refusal) from None
    except InvalidCommandError:
        raise invalid("body", "a field is too long or out of range") from None
