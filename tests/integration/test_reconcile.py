"""`metering reconcile` reads on from where it left off: broker, engine and the stand-in for Razorpay."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable

import httpx2
import msgspec
import pytest
import pytest_asyncio

from pipeline import topics
from pipeline.accounts.payments import Payment
from pipeline.clickhouse.client import Engine
from pipeline.connection import KafkaConnection
from pipeline.journal import LEDGER, LedgerRow, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import FencedLog
from pipeline.local.broker import Broker
from pipeline.payments import reconcile as reconciling
from pipeline.payments import reconciled
from pipeline.payments.matching import Mismatch
from pipeline.payments.reconcile import Reconciliation, look_until_it_matches
from pipeline.payments.reconciled import LOOK_BACK_S, Reconciled
from pipeline.posting.state import PartitionState
from pipeline.razorpay.client import RazorpayClient
from pipeline.settings import Settings
from pipeline.standin.razorpay import RazorpayStandIn, create_app
from pipeline.steps import Output, TopicPlace

KEY = ("rzp_test", "secret")
DAY_S = 86_400
NANO_A_PAISA = 10_000_000
ORG = "org_paying"


class Books:
    """The same payments at Razorpay, in the ledger and among the receipts, until a test makes them differ."""

    def __init__(self, kafka: KafkaConnection, engine: Engine) -> None:
        """Begin with no payment."""
        self._kafka, self._engine = kafka, engine
        self.stand_in = RazorpayStandIn(*KEY)
        transport = httpx2.ASGITransport(create_app(self.stand_in))
        self.razorpay = RazorpayClient("http://razorpay/v1", *KEY, transport=transport)
        self._state = PartitionState(0, 1)
        self._entries = 0

    async def pay(self, at_s: int, paise: int = 10_000) -> str:
        """Have a payment be made, credited and receipted, and return its id."""
        entity = self.stand_in.book.pay(None, {"outcome": "captured", "amount": paise}, at_s)
        payment_id: str = entity["id"]
        self.enter(payment_id, "topup", paise, at_s)
        await self.receipt(payment_id, paise, at_s)
        return payment_id

    async def receipt(self, payment_id: str, paise: int, at_s: int, refunded: int = 0) -> None:
        """Have the partition's state say what it knows of a payment."""
        payment = Payment(
            *(payment_id, "order", ORG, "captured", paise, "INR", "upi", "", "", at_s * 1000),
            refunded_paise=refunded,
        )
        records = [self._state.save_money(payment), self._state.save_meta()]
        log = FencedLog(self._kafka, "metering-0", role="worker")
        await log.start()
        await log.commit({TopicPlace(topics.STATE, 0): [Output(*record) for record in records]})
        await log.close()

    def enter(self, payment_id: str, kind: str, paise: int, at_s: int) -> None:
        """Put an entry into the ledger."""
        self._entries += 1
        row = LedgerRow(
            *(public_id(0, self._entries), ORG, at_s * 1000, kind, paise * NANO_A_PAISA, 0),
            *(payment_id, "order", "", ""),
        )
        [block] = encode_rows(LEDGER, [row])
        self._engine.insert_blocks("ledger", block.value, 1, f"entry-{self._entries}")

    async def look(self, last: Reconciled | None) -> tuple[Reconciliation, Reconciled]:
        """Compare, and return the report and what is kept of it."""
        began_s = int(time.time())
        report = await look_until_it_matches(self._kafka, self._engine, self.razorpay, last)
        done = reconciled.reconciled(began_s, report.mismatches)
        assert done is not None
        await reconciled.keep(self._kafka, done)
        kept = await reconciled.read(self._kafka)
        assert kept == done
        return report, kept


@pytest_asyncio.fixture
async def books(
    fresh_broker: Broker, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Books]:
    """Books over a broker and an engine, and a client of the stand-in that has the payments."""
    monkeypatch.setattr(reconciling, "LOOK_AGAIN_S", 0.0)
    await ensure_topics(fresh_broker.connection, Settings(kafka_url=fresh_broker.url, partitions=1))
    books = Books(fresh_broker.connection, engine)
    yield books
    await books.razorpay.close()


def _named(report: Reconciliation) -> list[tuple[str, str]]:
    return [(each.payment_id, each.problem) for each in report.mismatches]


async def test_what_matched_long_ago_is_not_read_again_until_something_happens_to_it(books: Books) -> None:
    now_s = int(time.time())
    old = [await books.pay(now_s - (100 + n) * DAY_S) for n in range(3)]
    await books.pay(now_s - DAY_S)
    report, kept = await books.look(None)
    assert (report.since_ms, report.razorpay_payments, report.ledger_payments, report.receipts) == (
        0,
        4,
        4,
        4,
    )
    assert _named(report) == []

    report, kept = await books.look(kept)
    assert (now_s - LOOK_BACK_S) * 1000 <= report.since_ms <= (kept.through_s - LOOK_BACK_S) * 1000
    assert (report.razorpay_payments, report.ledger_payments, report.receipts) == (1, 1, 1)

    # A refund of which nobody here knows, of a payment that is not among those that are read.
    books.stand_in.book.refund(old[0], 4_000, now_s)
    report, kept = await books.look(kept)
    assert _named(report) == [(old[0], "refund")]
    assert (report.razorpay_payments, report.ledger_payments, report.receipts) == (2, 2, 2)
    # It is named until it matches, however long that takes.
    later = msgspec.structs.replace(kept, through_s=now_s + 100 * DAY_S)
    report, _ = await books.look(later)
    assert (report.razorpay_payments, _named(report)) == (1, [(old[0], "refund")])
    await books.receipt(old[0], 10_000, now_s - 100 * DAY_S, refunded=4_000)
    books.enter(old[0], "refund", -4_000, now_s)
    report, kept = await books.look(later)
    assert (_named(report), kept.named) == ([], ())

    # What nothing tells of is found where all is read.
    books.enter(old[1], "topup", 10_000, now_s - 50 * DAY_S)
    assert _named((await books.look(kept))[0]) == []
    assert {problem for _, problem in _named((await books.look(None))[0])} == {"credited_twice", "receipt"}


def test_where_much_does_not_match_all_is_read_again() -> None:
    def mismatches(count: int) -> Iterable[Mismatch]:
        return (Mismatch(f"pay_{n}", "refund", ORG, "") for n in range(count))

    done = reconciled.reconciled(7, mismatches(reconciled.NAMED_MAX))
    assert done is not None and len(done.named) == reconciled.NAMED_MAX
    assert reconciled.reconciled(7, mismatches(reconciled.NAMED_MAX + 1)) is None
    assert reconciled.decode(reconciled.encode(done)) == done
    assert reconciled.decode(b'{"format":99,"through_s":1,"named":[]}') is None
    assert reconciled.decode(b"no record") is None
