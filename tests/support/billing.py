"""An org that is ready to be topped up, in a unit of work, and the messages about its payments."""

from __future__ import annotations

import json
from typing import Any

from pipeline.accounts.commands import (
    Capture,
    Fail,
    OpenOrder,
    SetAddress,
    SignUp,
    TakeDispute,
    TakeRefund,
)
from pipeline.accounts.promos import Promo
from pipeline.journal import LedgerRow, decode_rows
from pipeline.posting.unit import UnitOutput
from tests.support.builders import NOW_MS, Books

ORG, ORDER, PAYMENT = "org_1", "order_1", "pay_1"
RUPEE = 10**9


class Shop(Books):
    """Books with promo codes; every command sent is one unit."""

    def __init__(self) -> None:
        """Start with an org that is signed up and has an address."""
        super().__init__()
        self.ledger: list[tuple[str, int, str]] = []
        self.do(SignUp("signup", ORG, "Asha", "asha@example.in"))
        self.do(SetAddress("address", ORG, "Asha Stores", "12 MG Road", "Bengaluru", "Karnataka", "560001"))

    def promo(self, code: str = "NAMASTE", rupees: int = 50, expires_ms: int | None = None) -> None:
        """Publish a promo code."""
        self.promos.add(Promo(code, rupees * RUPEE, NOW_MS, expires_ms))

    def order(self, order_id: str = ORDER, rupees: int = 500, **more: Any) -> None:
        """Record an order."""
        assert "refusal" not in self.do(
            OpenOrder(f"open {order_id}", more.pop("org", ORG), order_id, rupees * 100, **more)
        )

    def do(self, command: Any, at_ms: int = NOW_MS) -> Any:
        """Carry a command out in a unit of its own, the state restored afterwards; its reply."""
        outcome = self.send(command, at_ms=at_ms)
        self.state = self.restore()
        [reply] = outcome.replies
        return json.loads(reply)

    def entries(self) -> list[tuple[str, int]]:
        """Return the kind and rupees of all ledger entries so far."""
        return [(kind, nano // RUPEE) for kind, nano, _ in self.ledger]

    def post(self, records: Any) -> UnitOutput:
        """Post records in one unit, and keep its ledger."""
        outcome = super().post(records)
        for record in outcome.journal:
            for row in decode_rows(record):
                assert isinstance(row, LedgerRow)
                self.ledger.append((row.kind, row.amount_nano, row.note))
        return outcome


def capture(command_id: str = "c", **changes: Any) -> Capture:
    """Return a capture of 500 rupees."""
    fields: dict[str, Any] = {
        "org": ORG,
        "payment_id": PAYMENT,
        "order_id": ORDER,
        "amount_paise": 50_000,
        "currency": "INR",
        "paid_ms": NOW_MS,
        "method": "upi",
    }
    return Capture(command_id, **{**fields, **changes})


def fail(command_id: str = "f", **changes: Any) -> Fail:
    """Return the same payment's failure."""
    fields: dict[str, Any] = {
        "org": ORG,
        "payment_id": PAYMENT,
        "order_id": ORDER,
        "amount_paise": 50_000,
        "currency": "INR",
        "paid_ms": NOW_MS,
    }
    return Fail(command_id, **{**fields, **changes})


def refund(command_id: str = "r", **changes: Any) -> TakeRefund:
    """Return a refund of 200 rupees of it."""
    fields: dict[str, Any] = {
        "org": ORG,
        "refund_id": "rfnd_1",
        "payment_id": PAYMENT,
        "amount_paise": 20_000,
        "currency": "INR",
    }
    return TakeRefund(command_id, **{**fields, **changes})


def dispute(command_id: str = "d", **changes: Any) -> TakeDispute:
    """Return a lost dispute of all of it."""
    fields: dict[str, Any] = {
        "org": ORG,
        "dispute_id": "disp_1",
        "payment_id": PAYMENT,
        "status": "lost",
        "amount_paise": 50_000,
        "deducted_paise": 50_000,
        "currency": "INR",
    }
    return TakeDispute(command_id, **{**fields, **changes})
