"""Compare Razorpay's payments, the ledger and the receipts: `metering reconcile`.

Owns: reading the three while money goes on moving.
Called by: the operator's endpoint of the server, and `cli/reconcile.py`. Next: `payments/matching.py`.

A payment on its way is in one place before another, so a mismatch counts when it is still there after a
second look.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from msgspec import Struct

from pipeline import topics
from pipeline.accounts.payments import Dispute, Payment, Stray
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import query
from pipeline.connection import KafkaConnection
from pipeline.kafka.fenced import read_compacted
from pipeline.kafka.partitions import partition_count
from pipeline.payments.matching import Credited, Mismatch, match
from pipeline.payments.settling import razorpay_of
from pipeline.posting.state import PartitionState
from pipeline.razorpay.client import RazorpayClient
from pipeline.settings import Settings

LOOKS = 3
LOOK_AGAIN_S = 2.0
SCAN = {"max_execution_time": 600}


class OpenDispute(Struct, frozen=True):
    """A dispute that is not decided: the payer's bank may take the amount back."""

    dispute_id: str
    payment_id: str
    org: str
    amount_paise: int


@dataclass
class Reconciliation:
    """How many payments were compared in each place, what does not match, and which disputes are not decided.

    An open dispute is no mismatch: no money has moved for it.
    """

    razorpay_payments: int = 0
    ledger_payments: int = 0
    receipts: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    open_disputes: list[OpenDispute] = field(default_factory=list)


async def reconcile(settings: Settings, engine: Engine) -> Reconciliation:
    """Compare everything. Raises MissingSettingError without a Razorpay key, and what the parts raise."""
    razorpay = razorpay_of(settings)
    try:
        report = await _look(settings, engine, razorpay)
        for _ in range(LOOKS - 1):
            if not report.mismatches:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
            before, report = report, await _look(settings, engine, razorpay)
            report.mismatches = sorted(set(before.mismatches) & set(report.mismatches))
        return report
    finally:
        await razorpay.close()


async def _look(settings: Settings, engine: Engine, razorpay: RazorpayClient) -> Reconciliation:
    at_razorpay = {payment.id: payment async for payment in razorpay.payments()}
    receipts, strays, disputes = await _kept(settings.kafka)
    bound = query("reconcile_ledger").of_platform()
    rows = await asyncio.to_thread(engine.query, bound.sql, bound.parameters, row=Credited, settings=SCAN)
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
    )


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
