"""Money through crashes: the worker ends at each step of a unit that credits, debits or orders a mail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline import ist, topics
from pipeline.accounts.commands import AnyCommand, Barrier, SetWebhook, SignUp, TellUnusualHour, encode
from pipeline.accounts.results import NoticeTold, StatementsTold
from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.clients import producer, started_admin
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.partitioning import partition_of
from pipeline.settings import Settings
from pipeline.telling.unusual_hours import SETTLE_MS
from pipeline.unusual import HOUR_MS, last_hour_ms
from tests.support.builders import COMMAND_KEYS, event, time_text
from tests.support.product.processes import Product
from tests.support.product.razorpay import PARTITIONS, Shop, shop

ROOT = Path(__file__).parents[2]
CREATE_TIME = 0
"""What Kafka calls time stamps of the sender's."""
OLD_ORG = "org_old"
POINTS = ("worker.decided", "worker.sent", "worker.committed")


@pytest.fixture(scope="module")
def running() -> Iterator[Shop]:
    """The product; webhooks alone tell it of payments."""
    with shop(Product, _signed_up_long_ago, METERING_RECONCILE_EVERY_S="3600") as opened:
        assert opened.metering("catalog", "apply", str(ROOT / "deploy" / "catalog.yaml")).returncode == 0
        yield opened


async def _signed_up_long_ago(kafka: KafkaConnection) -> None:
    """Sign an org up 40 days ago, so that a month of it is over.

    The broker's clock cannot be set here: with the sender's time stamps the topic looks the same.
    """
    now_ms = time.time_ns() // 1_000_000
    partition = partition_of(OLD_ORG, PARTITIONS)
    config = {"message.timestamp.type": "CreateTime"}
    async with started_admin(kafka) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.BILLING, config)])
    async with producer(kafka) as sender:

        async def send(command: AnyCommand, to: int, at_ms: int) -> int:
            value = encode(command)
            headers = COMMAND_KEYS.headers(value, to, at_ms)
            sent = await sender.send_and_wait(
                topics.BILLING, value, partition=to, timestamp_ms=at_ms, headers=headers
            )
            return int(sent.timestamp_type)

        # The broker takes the setting over a moment after it has acknowledged it.
        while await send(Barrier("probe"), (partition + 1) % PARTITIONS, now_ms) != CREATE_TIME:
            await asyncio.sleep(0.05)
        at_ms = now_ms - 40 * ist.DAY_MS
        hook = SetWebhook("2", OLD_ORG, "https://hooks.acme.example/old", "nonce")
        for command in (SignUp("1", OLD_ORG, "Old", "owner@old.example"), hook):
            assert await send(command, partition, at_ms) == CREATE_TIME
    await ensure_topics(kafka, Settings(kafka_url=f"kafka://{kafka.servers}", partitions=PARTITIONS))


def _crash(running: Shop, point: str) -> None:
    """Have the worker end itself at the next unit's step."""
    [worker] = running.product.workers
    worker.kill()
    worker.start(crash_at=point)


def _again(running: Shop) -> None:
    """Wait for the worker's end and start another one."""
    [worker] = running.product.workers
    running.until(lambda: not worker.running, "the worker ends at its crash point", 60)
    worker.deaths += 1
    worker.start()


@pytest.mark.timeout(600)
async def test_payment_bonus_refund_and_mail_happen_once_whenever_the_worker_dies(running: Shop) -> None:
    for number, point in enumerate(POINTS):
        org = running.signed_up(f"org_{number}")
        code = f"CODE-{number}"
        assert running.metering("promo", "create", code, "--bonus-inr", "50").returncode == 0
        running.put("/me/billing/threshold", org, {"threshold_inr": 200})
        running.hooks(copies=2)
        order_id = running.ordered(org, 100, promo_code=code)

        _crash(running, point)
        payment_id = running.pay(order_id)["payment"]["id"]
        _again(running)
        running.until(lambda org=org: _balance(running, org) == 250, f"{point}: credited", 90)  # type: ignore[misc]

        _crash(running, point)
        running.at_razorpay(f"/v1/payments/{payment_id}/refund")
        _again(running)
        running.until(lambda org=org: _balance(running, org) == 150, f"{point}: debited", 90)  # type: ignore[misc]

        entries = [(entry["kind"], entry["amount_inr"]) for entry in running.entries(org)]
        assert entries == [("refund", -100), ("promo", 50), ("topup", 100), ("promo", 100)]
    report = await running.product.verify()
    assert report.differences == []
    assert sum(worker.deaths for worker in running.product.workers) == 4 * len(POINTS)


def test_the_mails_of_it_were_ordered_once_each(running: Shop) -> None:
    for number in range(len(POINTS)):
        # The first for a threshold above the signup credit; the fall after the refund is within 24 hours.
        assert len(running.mails(f"org_{number}")) == 1


@pytest.mark.timeout(300)
def test_a_budget_is_told_of_once_although_the_worker_dies(running: Shop) -> None:
    """By mail and by webhook: both are ordered in the transaction that charges, with what the org was told."""
    org, point = running.signed_up("org_told"), "worker.committed"
    hook = running.put("/me/notices/webhook", org, {"url": "https://hooks.acme.example/x"})
    assert hook["secret"].startswith("whsec_")
    key_id = running.post("/me/keys", org, {"name": "ci", "budget_inr": 0.075})["key_id"]

    _crash(running, point)
    running.request(org, key_id, *(f"told-{n}" for n in range(8)))
    _again(running)
    running.until(lambda: _spent(running, org) == Decimal("0.06"), "charged", 90)
    running.request(org, key_id, "told-8")
    running.request(org, key_id, "told-9")
    running.until(lambda: _spent(running, org) == Decimal("0.075"), "spent", 90)

    told = [(mail["about"]["kind"], mail["about"]["percent"]) for mail in running.mails(org)]
    assert told == [("budget_reached", 80), ("budget_reached", 100)]
    ids = [mail["id"] for mail in running.mails(org)]
    assert ids == [webhook["id"] for webhook in running.org_webhooks(org)]
    assert len(set(ids)) == 2


@pytest.mark.timeout(300)
def test_a_statement_and_an_unusual_hour_are_told_once_although_server_and_worker_die(running: Shop) -> None:
    """The server tells of both when it starts. Whoever asks again, the owner knows by its state."""
    server = running.product.server
    assert server is not None
    hour_ms = last_hour_ms(time.time_ns() // 1_000_000, SETTLE_MS)
    # Two hours, as another may be over before the server looks.
    running.publish(
        OLD_ORG,
        *(
            event(
                f"dear-{hour}",
                subject=OLD_ORG,
                time=time_text(hour_ms + hour * HOUR_MS + 60_000),
                data__usage__completion_tokens=4_000_000,
            )
            for hour in range(2)
        ),
    )
    running.until(lambda: _spent_in_rows(running, OLD_ORG) > 2 * 200, "the rows are there", 90)

    _crash(running, "worker.committed")
    server.kill()
    server.start()
    _again(running)
    asyncio.run(running.product.ready())
    running.until(lambda: len(_told_kinds(running)) == 2, "told of both", 90)
    # What a server asks that starts once more.
    assert asyncio.run(_ask_again(running, hour_ms)) == (
        StatementsTold(0, has_more=False),
        NoticeTold(told=False),
    )
    assert _told_kinds(running) == ["statement_ready", "unusual_hour"]
    [statement, hour] = running.mails(OLD_ORG)
    assert hour["about"]["model"] == "krutrim-2"
    assert statement["id"] == f"statement_ready:{OLD_ORG}:{_last_month()}"
    assert [mail["id"] for mail in (statement, hour)] == [w["id"] for w in running.org_webhooks(OLD_ORG)]


def test_an_owner_chooses_what_is_told_and_nobody_else(running: Shop) -> None:
    org = running.signed_up("org_choosing")
    assert running.get("/me/notices", org) == {
        **dict.fromkeys(("mail", "budget_reached", "statement_ready", "unusual_hour"), True),
        "webhook_host": None,
    }
    for role in ("admin", "member"):
        assert running.refused("PATCH", "/me/notices", org, {"mail": False}, role) == "403 forbidden"
        url = {"url": "https://hooks.acme.example/x"}
        assert running.refused("PUT", "/me/notices/webhook", org, url, role) == "403 forbidden"
    for wrong in ("http://hooks.acme.example/", "https://169.254.169.254/", "https://localhost/"):
        found = running.refused("PUT", "/me/notices/webhook", org, {"url": wrong})
        assert found == "400 invalid_request url"
    first = running.put("/me/notices/webhook", org, {"url": "https://hooks.acme.example/x?token=t"})
    again = running.put("/me/notices/webhook", org, {"url": "https://hooks.acme.example/x?token=t"})
    other = {"url": "https://hooks.acme.example/x?token=t", "new_secret": True}
    assert first == again != running.put("/me/notices/webhook", org, other)
    status, off = running.call("PATCH", "/me/notices", org, {"budget_reached": False})
    assert (status, off["webhook_host"]) == (200, "hooks.acme.example")
    key_id = running.post("/me/keys", org, {"name": "ci", "budget_inr": 0.0075})["key_id"]
    running.request(org, key_id, "choosing-1")
    running.until(lambda: _spent(running, org) == Decimal("0.0075"), "charged")
    assert running.org_webhooks(org) == running.mails(org) == []
    # What holds is told once it is wanted again.
    assert running.call("PATCH", "/me/notices", org, {"budget_reached": True, "mail": False})[0] == 200
    assert [webhook["about"]["percent"] for webhook in running.org_webhooks(org)] == [100]
    assert running.mails(org) == []


def _spent(running: Shop, org: str) -> Decimal | None:
    """Return what an org's only key has spent this month, None while nobody can tell."""
    status, answer = running.call("GET", "/me/keys", org)
    return Decimal(answer["keys"][0]["spent_this_month_inr"]) if status == 200 else None


def _spent_in_rows(running: Shop, org: str) -> Decimal:
    """Return what an org's requests of the last 30 days cost by the rows in ClickHouse, in rupees."""
    status, answer = running.call("GET", "/me/activity/totals", org)
    return Decimal(answer["totals"]["cost_inr"]) if status == 200 else Decimal(0)


def _told_kinds(running: Shop) -> list[str]:
    return [mail["about"]["kind"] for mail in running.mails(OLD_ORG)]


def _last_month() -> int:
    return ist.month_of(ist.month_start_ms(ist.month_of(time.time_ns() // 1_000_000)) - 1)


async def _ask_again(running: Shop, hour_ms: int) -> tuple[object, object]:
    """Return what the owner of the old org answers to a server that asks about the month and the hour."""
    client = CommandClient(running.product.connection, COMMAND_KEYS)
    await client.start()
    try:
        month = await client.tell_statements(partition_of(OLD_ORG, PARTITIONS), _last_month(), 30)
        hour = TellUnusualHour(new_command_id(), OLD_ORG, hour_ms, 200 * 10**9, 0, "key_1", "krutrim-2")
        return month, await client.send(hour, 30)
    finally:
        await client.stop()


def _balance(running: Shop, org: str) -> Decimal | None:
    """Return an org's balance, None while nobody can tell."""
    status, answer = running.call("GET", "/me/billing", org)
    return Decimal(answer["balance_inr"]) if status == 200 else None
