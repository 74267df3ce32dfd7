"""After all of it the books agree: by the product's own commands, and by an account that shares nothing with it."""

from __future__ import annotations

from tests.support.product.world import World


def test_every_balance_is_what_was_done_to_it(world: World) -> None:
    assert len(world.balances) > 15
    world.agrees(*world.balances)


def test_verify_is_clean(world: World) -> None:
    report = world.metering("verify")
    assert report["differences"] == []
    assert report["requests"] == sum(world.requests.values()) > 0
    assert report["orgs"] == len(world.balances)


def test_reconcile_is_clean(world: World) -> None:
    report = world.metering("reconcile")
    assert report["mismatches"] == []
    assert report["razorpay_payments"] > report["ledger_payments"] > 5
