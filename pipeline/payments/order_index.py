"""Which org an order is of, and which orders are still unpaid: in memory, from `metering.orders`.

Owns: the index of orders, and when each open one is to be asked about.
Called by: the server feeds it and hands it to `payments/intake.py` and `payments/order_poller.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.accounts.orders import MINUTE_MS, POLLED_FOR_MS, next_poll_ms
from pipeline.accounts.payments import decode_order_notice
from pipeline.topics import ORDERS_KEPT_MS


@dataclass(slots=True)
class UnpaidOrder:
    """An unpaid order: when it was made, and when to ask about it next."""

    org: str
    created_ms: int
    ask_ms: int


class OrderIndex:
    """The org of each order of the last weeks, paying payments' orders, and the open orders.

    What is older than ORDERS_KEPT_MS goes here as it goes from the topic, so neither a server's memory nor its start
    depends on all orders ever. Who asks about an older one is told None, and asks Razorpay.
    """

    def __init__(self, every_ms: int = MINUTE_MS) -> None:
        """Start empty. `every_ms` is the shortest pause between two questions about an order."""
        self._every_ms = every_ms
        self._orgs: dict[str, str] = {}
        self._order_of: dict[str, str] = {}
        self._payment_of: dict[str, str] = {}
        self._amounts: dict[str, int] = {}
        self._open: dict[str, UnpaidOrder] = {}
        self._created: dict[str, int] = {}
        """When each order was made, oldest first but for those of several partitions read at once."""

    def put(self, _key: bytes, value: bytes) -> None:
        """Take in a record of `metering.orders`.

        Raises NewerFormatError where a newer release wrote it, msgspec.MsgspecError for what is no order.
        """
        notice = decode_order_notice(value)
        # The same text for all orders of an org: there are many orders and few orgs.
        self._orgs[notice.order_id] = self._orgs.get(notice.order_id, notice.org)
        self._created.setdefault(notice.order_id, notice.created_ms)
        if notice.amount_paise:
            self._amounts[notice.order_id] = notice.amount_paise
        if notice.paid_by is not None:
            self._order_of[notice.paid_by] = notice.order_id
            self._payment_of[notice.order_id] = notice.paid_by
            self._open.pop(notice.order_id, None)
        elif notice.order_id not in self._open:
            first_ms = next_poll_ms(notice.created_ms, notice.created_ms, self._every_ms)
            assert first_ms is not None
            self._open[notice.order_id] = UnpaidOrder(notice.org, notice.created_ms, first_ms)

    def delete(self, key: bytes) -> None:
        """Forget an order whose record was deleted, and the payment that paid it."""
        order_id = key.decode()
        self._orgs.pop(order_id, None)
        self._amounts.pop(order_id, None)
        self._open.pop(order_id, None)
        self._created.pop(order_id, None)
        payment_id = self._payment_of.pop(order_id, None)
        if payment_id is not None:
            self._order_of.pop(payment_id, None)

    def org_of(self, order_id: str) -> str | None:
        """Return an order's org, None where the order is not known here."""
        return self._orgs.get(order_id)

    def amount_of(self, order_id: str) -> int | None:
        """Return an order's amount in paise, None where it is not known here."""
        return self._amounts.get(order_id)

    def order_of(self, payment_id: str) -> str | None:
        """Return the order that a payment paid."""
        return self._order_of.get(payment_id)

    def open_orders(self, now_ms: int) -> int:
        """Return how many orders are open and not given up, and let go of those that are, and of all old ones."""
        self._let_go(now_ms - ORDERS_KEPT_MS)
        for order_id in [o for o, order in self._open.items() if now_ms - order.created_ms > POLLED_FOR_MS]:
            del self._open[order_id]
        return len(self._open)

    def _let_go(self, before_ms: int) -> None:
        """Forget the orders at the front that were made before an instant."""
        while self._created:
            order_id, created_ms = next(iter(self._created.items()))
            if created_ms >= before_ms:
                return
            self.delete(order_id.encode())

    def due(self, now_ms: int) -> list[str]:
        """Return the open orders to ask about now, longest due first, and plan when to ask again."""
        due = sorted((order.ask_ms, o) for o, order in self._open.items() if order.ask_ms <= now_ms)
        for _, order_id in due:
            order = self._open[order_id]
            next_ms = next_poll_ms(order.created_ms, now_ms, self._every_ms)
            if next_ms is None:
                del self._open[order_id]
            else:
                order.ask_ms = next_ms
        return [order_id for _, order_id in due]
