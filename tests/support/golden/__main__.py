"""Make the data directory of this release: `python -m tests.support.golden NAME` writes tests/golden/NAME.tar.xz.

Owns: what is in it: of every kind of stored record at least one, with amounts that are known beforehand.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import (
    AccountCommand,
    Capture,
    CommandRefusal,
    CreateKey,
    Credit,
    NoteStray,
    OpenOrder,
    PrepareOrder,
    R,
    SetAddress,
    SetThreshold,
    SignUp,
    TakeDispute,
    TakeRefund,
    View,
)
from pipeline.gateway import Gateway
from pipeline.kafka.commands import CommandClient
from pipeline.local import ports
from pipeline.local.deployment import Deployment
from pipeline.money import NANO_PER_RUPEE
from tests.support.builders import COST_NANO, DROP, event, time_text
from tests.support.golden.directory import GOLDEN, Expected, metering, pack, up

CATALOG = Path(__file__).parents[3] / "deploy" / "catalog.yaml"
PAISE = NANO_PER_RUPEE // 100
UNPRICED = {"data__model": "golden-1", "data__provider": "krutrim"}
LATER_RATE = """rates:
  - {model: golden-1, provider: krutrim, effective_from: "2026-01-01T00:00:00+05:30",
     input_inr_per_mtok: "12.5", cached_input_inr_per_mtok: "3.125", output_inr_per_mtok: "50"}
"""


def _finished(org: str, **changes: object) -> dict[str, object]:
    """Return an event of now, with no id and source of its own: the gateway gives them."""
    now = time_text(time.time_ns() // 1_000_000)
    return event("e", id=DROP, source=DROP, specversion=DROP, type=DROP, subject=org, time=now, **changes)


async def _send(client: CommandClient, command: AccountCommand[R]) -> R:
    """Return the result of a command, which must not be refused."""
    answer = await client.send(command)
    assert not isinstance(answer, CommandRefusal), answer
    return answer


async def _give_money(client: CommandClient) -> None:
    """Give org_1 and org_2 accounts with all that there is of money and keys."""
    await _send(client, SignUp("1", "org_1", "Asha", "asha@example.in"))
    await _send(client, SetAddress("2", "org_1", "Asha", "1 MG Road", "Bengaluru", "Karnataka", "560001"))
    await _send(
        client, CreateKey("3", "org_1", "key_1", "app", "br-a", "0a" * 32, budget_nano=NANO_PER_RUPEE)
    )
    await _send(client, CreateKey("4", "org_1", "key_2", "tools", "br-b", "0b" * 32, daily_limit=9))
    await _send(client, Credit("5", "org_1", 50 * NANO_PER_RUPEE, "a credit"))
    await _send(client, PrepareOrder("6", "org_1", 10_000, "golden", "n"))
    await _send(client, OpenOrder("7", "org_1", "order_1", 10_000, "GOLDEN", 5 * NANO_PER_RUPEE))
    await _send(
        client, Capture("8", "org_1", "pay_1", "order_1", 10_000, "INR", 1_780_000_000_000, order_paid=True)
    )
    await _send(client, TakeRefund("9", "org_1", "rfnd_1", "pay_1", 1_000, "INR"))
    await _send(client, TakeDispute("10", "org_1", "disp_1", "pay_1", "open", 500, 0, "INR"))
    await _send(client, OpenOrder("11", "org_1", "order_2", 20_000))
    await _send(client, SetThreshold("12", "org_1", 300 * NANO_PER_RUPEE))
    await _send(client, SignUp("13", "org_2", "Ravi", "ravi@example.in"))
    await _send(client, CreateKey("14", "org_2", "key_t", "trial", "br-t", "0c" * 32, tier="trial"))
    await _send(client, Credit("15", "org_2", NANO_PER_RUPEE, "a credit"))
    await client.note(NoteStray("16", "pay_9", "order_9", 100, "INR"))


EXPECTED_NANO = {
    # What a sign-up gives, a credit, a payment with its bonus, part of it refunded; then five events, and the one
    # that had no rate at first.
    "org_1": (100 + 50 + 100 + 5 - 10) * NANO_PER_RUPEE - 6 * COST_NANO,
    "org_2": (100 + 1) * NANO_PER_RUPEE - 3 * COST_NANO,
}


async def _fill(at: Deployment, data_dir: Path) -> None:
    """Put accounts, requests and a spool into a running deployment."""
    client = CommandClient(at.kafka, CommandKeys.parse(at.command_key))
    await client.start()

    try:
        await _give_money(client)
        async with Gateway(
            kafka_url=at.gateway_kafka_url, node="golden", spool_dir=data_dir / "spool"
        ) as gateway:
            for _ in range(5):
                await gateway.publish(_finished("org_1"))
            await gateway.publish(_finished("org_1", **UNPRICED))
            await gateway.publish(_finished("org_2", data__key_id="key_unknown"))
            await gateway.publish(_finished("org_2"))
            await gateway.publish(_finished("org_2"))
        until = time.monotonic() + 30
        while (await _send(client, View("v", "org_1"))).balance_nano != EXPECTED_NANO["org_1"] + COST_NANO:
            assert time.monotonic() < until, "the events are not charged"
        (data_dir / "later.yaml").write_text(LATER_RATE)
        for command in (("catalog", "apply", str(data_dir / "later.yaml")), ("redrive",)):
            await asyncio.to_thread(metering, data_dir, *command)
        found = {org: (await _send(client, View(f"v-{org}", org))).balance_nano for org in EXPECTED_NANO}
        assert found == EXPECTED_NANO, found
    finally:
        await client.stop()


async def _leave_waiting(data_dir: Path) -> list[str]:
    """Leave events in the spool that a broker which is not there cannot take; return their ids."""
    nowhere = f"kafka://127.0.0.1:{ports.free('127.0.0.1')}"
    spool = data_dir / "spool"
    async with Gateway(
        kafka_url=nowhere, node="golden", spool_dir=spool, ready_limit_s=0.1, drain_limit_s=0.1
    ) as gateway:
        return [await gateway.publish(_finished("org_3")) for _ in range(3)]


def main(name: str) -> int:
    """Make a directory, pack it, and say how large that is; the exit code."""
    archive = GOLDEN / f"{name}.tar.xz"
    if archive.exists():
        print(f"{archive} is there already, and stays as it was made", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="metering-golden-") as home:
        data_dir = Path(home) / "data"
        with up(data_dir) as at:
            metering(data_dir, "catalog", "apply", str(CATALOG))
            metering(data_dir, "promo", "create", "GOLDEN", "--bonus-inr", "5")
            asyncio.run(_fill(at, data_dir))
            assert metering(data_dir, "verify")["differences"] == []
            made_ms = time.time_ns() // 1_000_000
        waiting = asyncio.run(_leave_waiting(data_dir))
        (data_dir / "later.yaml").unlink()
        (data_dir / "expected.json").write_bytes(
            msgspec.json.encode(Expected(made_ms, EXPECTED_NANO, waiting))
        )
        pack(data_dir, archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.support.golden NAME")
    sys.exit(main(sys.argv[1]))
