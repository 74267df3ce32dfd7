"""Ask Razorpay about refunds and disputes, so that a lost webhook of one loses nothing.

Owns: how often which of them are looked at, and which are new here.
Called by: the server, beside the API. Next: `payments/intake.py`.

Razorpay lists both by when they were made. Young ones are looked at each time; once an hour also those of half a
year, as a refund may fail and a dispute be decided long after it was made. Several servers may do this at once:
what is taken in twice has one effect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from pipeline.ist import DAY_MS
from pipeline.kafka.commands import CommandRefusedError, InvalidCommandError, UnavailableError
from pipeline.payments.intake import PaymentIntake
from pipeline.razorpay.client import RazorpayClient, RazorpayRefusedError, RazorpayUnavailableError
from pipeline.razorpay.entities import DisputeEntity, RefundEntity

log = logging.getLogger(__name__)

E = TypeVar("E", RefundEntity, DisputeEntity)

HOUR_MS = 3_600_000
YOUNG_MS, OLD_MS = HOUR_MS, 180 * DAY_MS
"""How far back is looked each time, and once an hour."""


class ReturnsPoller:
    """Finds refunds and disputes that nobody told of. It remembers in which state each was taken in."""

    def __init__(self, intake: PaymentIntake, razorpay: RazorpayClient) -> None:
        """Look at `razorpay`, and hand what is new to `intake`."""
        self._intake = intake
        self._razorpay = razorpay
        self._taken: dict[str, str] = {}
        self._looked_back_ms: int | None = None

    async def run(self, now_ms: Callable[[], int], every_s: float) -> None:
        """Look again and again, for ever. What fails is looked at again next time."""
        while True:
            await self.look(now_ms())
            await asyncio.sleep(every_s)

    async def look(self, now_ms: int) -> None:
        """Take in every refund and dispute that is new, or in a new state, here."""
        back = self._looked_back_ms is None or now_ms - self._looked_back_ms >= HOUR_MS
        since_s = max(0, now_ms - (OLD_MS if back else YOUNG_MS)) // 1000
        # Both are looked at, whatever fails.
        looked = [
            await self._take_all(self._razorpay.refunds(since_s), self._refund),
            await self._take_all(self._razorpay.disputes(since_s), self._dispute),
        ]
        if back and all(looked):
            self._looked_back_ms = now_ms

    async def _take_all(self, listed: AsyncIterator[E], take: Callable[[E], Awaitable[object]]) -> bool:
        """Take in what is new of a list; whether the list could be read to its end."""
        try:
            async for entity in listed:
                if self._taken.get(entity.id) != entity.status:
                    await self._take_one(entity, take)
        except (RazorpayUnavailableError, RazorpayRefusedError) as error:
            log.warning("Razorpay could not be asked about refunds and disputes: %s", error)
            return False
        return True

    async def _take_one(self, entity: E, take: Callable[[E], Awaitable[object]]) -> None:
        try:
            outcome = await take(entity)
        except (UnavailableError, RazorpayUnavailableError) as error:
            log.warning("%s could not be taken in: %s", entity.id, error)
            return
        except (RazorpayRefusedError, InvalidCommandError, CommandRefusedError) as error:
            # To be asked again would change nothing; `metering reconcile` tells of it.
            log.warning("%s cannot be taken in: %s", entity.id, error)
            outcome = "refused"
        self._taken[entity.id] = entity.status
        log.info("%s of payment %s: %s", entity.id, entity.payment_id, outcome)

    async def _refund(self, refund: RefundEntity) -> object:
        return await self._intake.refund(refund, await self._razorpay.payment(refund.payment_id))

    async def _dispute(self, dispute: DisputeEntity) -> object:
        return await self._intake.dispute(dispute, None)
