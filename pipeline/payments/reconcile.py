"""Compare Razorpay's payments, the ledger and the receipts: `metering reconcile`.

Owns: reading the three while money goes on moving.
Called by: the operator's endpoint of the server, and `cli/reconcile.py`. Next: `payments/matching.py`.

A payment on its way is in one place before another, so a mismatch counts when it is still there after a
second look. What matched before is not read again (`payments/reconciled.py`), so the cost does not grow with all
payments ever made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from msgspec import Struct

from pipeline import topics
from pipeline.accounts.payments import Dispute, Payment, Stray
from pipeline.clickhouse.queries import query
from pipeline.clickhouse.shards import Database
from pipeline.connection import KafkaConnection
from pipeline.kafka.fenced import read_compacted
from pipeline.kafka.partitions import partition_count
from pipeline.payments import reconciled
from pipeline.payments.matching import Credited, Mismatch, match
from pipeline.payments.reconciled import Reconciled
from pipeline.payments.settling import razorpay_of
from pipeline.posting.state import PartitionState
from pipeline.razorpay.client import RazorpayClient, RazorpayRefusedError
from pipeline.razorpay.entities import PaymentEntity
from pipeline.settings import Settings

LOOKS = 3
LOOK_AGAIN_S = 2.0
SCAN = {"max_execution_time": 600}
IDS_A_QUERY = 200
NEVER_MS = 1 << 62


class OpenDispute(Struct, frozen=True):
    """A dispute that is not decided: the payer's bank may take the amount back."""

    dispute_id: str
    payment_id: str
    org: str
    amount_paise: int


@dataclass
class Reconciliation:
    """How many payments were compared in each place, what does not match, and which disputes are not decided.

    `since_ms` is from when on payments were read, 0 where all were. An open dispute is no mismatch: no money has moved
    for it.
    """

    razorpay_payments: int = 0
    ledger_payments: int = 0
    receipts: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    open_disputes: list[OpenDispute] = field(default_factory=list)
    since_ms: int = 0


async def reconcile(settings: Settings, database: Database, *, full: bool = False) -> Reconciliation:
    """Compare what may have changed since the last comparison; with `full`, everything.

    Raises MissingSettingError without a Razorpay key, and what the parts raise.
    """
    razorpay = razorpay_of(settings)
    try:
        began_s = int(time.time())
        last = None if full else await reconciled.read(settings.kafka)
        report = await look_until_it_matches(settings.kafka, database, razorpay, last)
        done = reconciled.reconciled(began_s, report.mismatches)
        if done is not None:
            await reconciled.keep(settings.kafka, done)
        return report
    finally:
        await razorpay.close()


async def look_until_it_matches(
    kafka: KafkaConnection, database: Database, razorpay: RazorpayClient, last: Reconciled | None
) -> Reconciliation:
    """Compare what may have changed since the `last` comparison; what does not match is looked at again."""
    report = await _look(kafka, database, razorpay, last)
    for _ in range(LOOKS - 1):
        if not report.mismatches:
            break
        await asyncio.sleep(LOOK_AGAIN_S)
        before, report = report, await _look(kafka, database, razorpay, last)
        report.mismatches = sorted(set(before.mismatches) & set(report.mismatches))
    return report


async def _look(
    kafka: KafkaConnection, database: Database, razorpay: RazorpayClient, last: Reconciled | None
) -> Reconciliation:
    since_s = 0 if last is None else last.since_s
    at_razorpay = {payment.id: payment async for payment in razorpay.payments(since_s or None)}
    rows = await _credited(database, since_ms=since_s * 1000)
    receipts, strays, disputes = await _kept(kafka)
    if last is not None:
        # Beside those made since: payments that something happened to since, and those that did not match.
        touched = await _touched(razorpay, since_s) | set(last.named)
        rows += await _credited(database, ids=sorted(touched - {row.payment_id for row in rows}))
        touched |= {row.payment_id for row in rows}
        touched |= {each.payment_id for each in receipts.values() if each.paid_ms >= since_s * 1000}
        at_razorpay |= await _one_by_one(razorpay, touched - at_razorpay.keys())
        compared = touched | at_razorpay.keys()
        receipts = {each: receipt for each, receipt in receipts.items() if each in compared}
        strays = {each: stray for each, stray in strays.items() if each in compared}
    return Reconciliation(
        razorpay_payments=len(at_razorpay),
        ledger_payments=len(rows),
        receipts=sum(payment.status == "captured" for payment in receipts.values()),
        mismatches=match(at_razorpay, rows, receipts, strays, disputes),
        open_disputes=[
            OpenDispute(d.dispute_id, d.payment_id, d.org, d.amount_paise)
            for d in disputes
            if d.status == "open"
        ],
        since_ms=since_s * 1000,
    )


async def _credited(
    database: Database, *, since_ms: int = NEVER_MS, ids: Sequence[str] = ()
) -> list[Credited]:
    """Return what the ledger holds for the payments that had an entry since an instant, or are named."""
    found: list[Credited] = []
    starts = range(0, len(ids), IDS_A_QUERY) if since_ms == NEVER_MS else (0,)
    for start in starts:
        some = list(ids[start : start + IDS_A_QUERY])
        bound = query("reconcile_ledger").of_platform(since_ms=since_ms, ids=some)
        for engine in database.shards:
            found += await asyncio.to_thread(
                engine.query, bound.sql, bound.parameters, row=Credited, settings=SCAN
            )
    return found


async def _touched(razorpay: RazorpayClient, since_s: int) -> set[str]:
    """Return the payments of which a refund or a dispute was made since an instant, by their ids."""
    touched = {refund.payment_id async for refund in razorpay.refunds(since_s)}
    try:
        return touched | {dispute.payment_id async for dispute in razorpay.disputes(since_s)}
    except RazorpayRefusedError:
        # Not every account may list them: then their webhooks, and so the ledger, tell of them.
        return touched


async def _one_by_one(razorpay: RazorpayClient, ids: Iterable[str]) -> dict[str, PaymentEntity]:
    """Return those of these payments that Razorpay knows."""
    found = [await razorpay.payment(payment_id) for payment_id in sorted(ids)]
    return {payment.id: payment for payment in found if payment is not None}


async def _kept(kafka: KafkaConnection) -> tuple[dict[str, Payment], dict[str, Stray], list[Dispute]]:
    """Return the payments, strays and disputes of every partition's state."""
    disputes: list[Dispute] = []
    receipts: dict[str, Payment] = {}
    strays: dict[str, Stray] = {}
    partitions = await partition_count(kafka)
    for partition in range(partitions):
        records = await read_compacted(kafka, TopicPartition(topics.STATE, partition))
        state = PartitionState.restored(partition, partitions, records)
        for payment in state.payments():
            # One that was reported to a wrong org as well must not hide the right one's receipt.
            if payment.payment_id not in receipts or payment.status == "captured":
                receipts[payment.payment_id] = payment
        disputes += state.disputes()
        strays.update({stray.payment_id: stray for stray in state.strays()})
    return receipts, strays, disputes
