"""Ask Razorpay about open orders, so that neither a lost redirect nor a lost webhook loses a payment.

Owns: the loop. How often an order is asked about is `accounts/orders.py`'s to say.
Called by: the server, beside the API. Next: `payments/intake.py`.

Several servers may do this at once: settling is idempotent, so that is only waste.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

from pipeline import telemetry
from pipeline.kafka.commands import CommandRefusedError, InvalidCommandError, UnavailableError
from pipeline.payments.intake import OrderOutcome, PaymentIntake
from pipeline.payments.order_index import OrderIndex
from pipeline.razorpay.client import RazorpayRefusedError, RazorpayUnavailableError

log = logging.getLogger(__name__)

AT_ONCE = 4
TICK_S = 0.5

_TO_BE_ASKED_AGAIN = (
    RazorpayUnavailableError,
    RazorpayRefusedError,
    UnavailableError,
    InvalidCommandError,
    CommandRefusedError,
)


async def reconcile_open_orders(intake: PaymentIntake, orders: OrderIndex, now_ms: Callable[[], int]) -> None:
    """Ask about every open order when it is due, for ever. What fails is asked again when next due."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(order_id: str) -> None:
        async with gate:
            telemetry.RECONCILED.labels(await ask_once(intake, order_id)).inc()

    while True:
        telemetry.ORDERS_OPEN.set(orders.open_orders(now_ms()))
        await asyncio.gather(*(ask(order_id) for order_id in orders.due(now_ms())))
        await asyncio.sleep(TICK_S)


async def ask_once(intake: PaymentIntake, order_id: str) -> OrderOutcome | Literal["failed"]:
    """Ask about one order; returns what became of it, `failed` where that cannot be known now."""
    try:
        return await intake.ask(order_id)
    except _TO_BE_ASKED_AGAIN as error:
        log.warning("order %s could not be asked about: %s", order_id, error)
        return "failed"
