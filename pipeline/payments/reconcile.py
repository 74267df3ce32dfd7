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

from pipeline import topics
from pipeline.accounts.payments import Payment, Stray
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import query
from pipeline.connection import KafkaConnection
from pipeline.kafka.fenced import read_compacted
from pipeline.kafka.partitions import partition_count
from pipeline.payments.matching import Credited, Mismatch, match
from pipeline.posting.state import PartitionState
from pipeline.razorpay.client import RazorpayClient
from pipeline.settings import MissingSettingError, Settings

LOOKS = 3
LOOK_AGAIN_S = 2.0
SCAN = {"max_execution_time": 600}


@dataclass
class Reconciliation:
    """How many payments were compared in each place, and what does not match."""

    razorpay_payments: int = 0
    ledger_payments: int = 0
    receipts: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)


async def reconcile(settings: Settings, engine: Engine) -> Reconciliation:
    """Compare everything. Raises MissingSettingError without a Razorpay key, and what the parts raise."""
    if not settings.razorpay_key_id or settings.razorpay_key_secret is None:
        raise MissingSettingError("METERING_RAZORPAY_KEY_ID and METERING_RAZORPAY_KEY_SECRET are not set")
    secret = settings.razorpay_key_secret.get_secret_value()
    razorpay = RazorpayClient(settings.razorpay_url, settings.razorpay_key_id, secret)
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
    receipts, strays = await _receipts_and_strays(settings.kafka)
    bound = query("reconcile_ledger").of_platform()
    rows = await asyncio.to_thread(engine.query, bound.sql, bound.parameters, row=Credited, settings=SCAN)
    return Reconciliation(
        razorpay_payments=len(at_razorpay),
        ledger_payments=len(rows),
        receipts=sum(payment.status == "captured" for payment in receipts.values()),
        mismatches=match(at_razorpay, rows, receipts, strays),
    )


async def _receipts_and_strays(kafka: KafkaConnection) -> tuple[dict[str, Payment], dict[str, Stray]]:
    """Return the payments and strays of every partition's state."""
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
        strays.update({stray.payment_id: stray for stray in state.strays()})
    return receipts, strays
