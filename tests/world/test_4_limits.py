"""What a refused client and a member who runs out of money are told."""

from __future__ import annotations

from decimal import Decimal
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from pipeline.gateway import Gateway, Refusal
from tests.support.product.world import World, cost_inr

HALF_INR = {"prompt_tokens": 0, "completion_tokens": 10_000}


def test_a_refusal_quotes_the_limit_that_is_in_force(world: World, tmp_path: Path) -> None:
    org = world.org("org_budget")
    made = world.metering("key", "create", "--org", org, "--name", "k", "--budget-inr", "0.3")
    key_id = made["key_id"]
    world.publish(world.event(org, data__key_id=key_id, data__usage=HALF_INR))
    world.owes(org, cost_inr(output=10_000))
    world.agrees(org)

    def told(number: int) -> Refusal:
        async def ask() -> Refusal | None:
            spool = tmp_path / str(number)
            async with Gateway(
                kafka_url=world.product.broker.url, node=f"limits-{number}", spool_dir=spool
            ) as gateway:
                return gateway.admit(org, key_id)

        refusal = world.run(ask)
        assert refusal is not None
        return refusal

    for number, budget in enumerate(("0.3", "0.5", "0")):
        world.metering("key", "set", key_id, "--org", org, "--budget-inr", budget)
        refusal = told(number)
        assert (refusal.code, refusal.http_status) == ("budget_exceeded", 429)
        assert (refusal.limit_inr, refusal.spent_inr) == (Decimal(budget), Decimal("0.5"))
        assert refusal.resets_at is not None


def _mails(world: World, org: str) -> list[EmailMessage]:
    found = [
        message_from_bytes(file.read_bytes(), policy=policy.default)
        for file in sorted(world.mail_dir.glob("*.eml"))
    ]
    return [mail for mail in found if mail["To"] == f"owner@{org}.example"]


def test_who_runs_out_is_told_at_the_threshold_and_at_zero(world: World) -> None:
    org = world.org("org_low")
    world.shop.put("/me/billing/threshold", org, {"threshold_inr": 50})
    for inr, subject in (("-60", "Low balance"), ("-40", "Balance used up, requests are refused")):
        before = len(_mails(world, org))
        world.metering("credit", org, "--inr", inr, "--reason", "spent")
        world.balances[org] += Decimal(inr)
        world.shop.until(lambda before=before: len(_mails(world, org)) > before, "a mail comes")  # type: ignore[misc]
        newest = _mails(world, org)[-1]
        assert newest["Subject"].startswith(subject)
        text = newest.get_body(("plain",))
        assert text is not None and org in text.get_content() and "op up" in text.get_content()
    assert len(_mails(world, org)) == 2
    world.agrees(org)
