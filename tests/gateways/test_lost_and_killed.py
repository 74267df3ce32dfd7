"""The gateways of `examples/` while Kafka is away, their disk is full, or they are killed: nothing is lost, nothing charged twice.

Each request asks for a number of tokens of its own, so its event is found by them.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.gateway.examples import ExampleGateway, gateway_before
from tests.support.gateway.platform import PROMPT, SIGNUP_NANO, Platform, answered, eventually

REQUESTS = 400
CLIENTS = 8
KILLS = 3
PROMPT_TOKENS = 4
PRICES = {"krutrim": (12_500, 50_000), "e2e": (14_000, 56_000)}
KINDS = ("whole", "stream", "fallback", "failure")
WEIGHTS = (50, 30, 12, 8)
SEED = 20261127
DISK = "256k"


def ask(client: openai.OpenAI, number: int, kind: str = "whole") -> str:
    """Ask for `number` tokens, and return how it ended: `answered`, `failed`, `broken` or the status of a refusal."""
    model = {"failure": "sarvam-m", "fallback": "falls"}.get(kind, "krutrim-2")
    try:
        answer: Any = client.chat.completions.create(
            model=model, messages=PROMPT, max_tokens=number, stream=kind == "stream"
        )
        if kind == "stream":
            last = [chunk.choices[0].finish_reason for chunk in answer if chunk.choices]
            return "answered" if last and last[-1] == "stop" else "broken"
        assert answer.usage.completion_tokens == number
    except openai.APIStatusError as error:
        return "failed" if error.status_code == 500 else str(error.status_code)
    except openai.APIError:
        return "broken"
    return "answered"


def cost_nano(number: int, kind: str = "whole") -> int:
    """Return what a request that was served costs."""
    prompt_nano, completion_nano = PRICES["e2e" if kind == "fallback" else "krutrim"]
    return PROMPT_TOKENS * prompt_nano + number * completion_nano


def check(platform: Platform, org: str, asked: list[tuple[int, str, str]]) -> None:
    """Compare what clients saw with what was charged, to the nano-rupee: the balance too."""
    certain = [each for each in asked if each[2] in ("answered", "failed")]
    eventually(lambda: len(platform.all_events(org)) >= len(certain), 60)
    events = platform.all_events(org)
    charged = Counter(event["tokens"] for event in events if event["status"] == 200)
    owed_nano = 0
    for number, kind, ended in asked:
        times = charged[PROMPT_TOKENS + number]
        owed_nano += times * cost_nano(number, kind)
        if kind != "failure":
            at_least, at_most = {"answered": (1, 1), "broken": (0, 1)}.get(ended, (0, 0))
            assert at_least <= times <= at_most, (number, kind, ended, times)
    assert sum(charged.values()) == sum(charged[PROMPT_TOKENS + number] for number, _, _ in asked)
    balance_inr = platform.answer(org, "/me/billing")["balance_inr"]
    assert round(balance_inr * 1_000_000_000) == SIGNUP_NANO - owed_nano
    failed = sum(event["status"] == 500 for event in events)
    assert sum(each[2] == "failed" for each in asked) <= failed <= sum(k == "failure" for _, k, _ in asked)
    print(
        f"{len(asked)} requests, {Counter(each[2] for each in asked)}: {len(events)} events, {owed_nano} nano-rupees"
    )


def test_what_was_answered_is_charged_once_though_the_gateway_is_killed(
    platform: Platform, gateway: ExampleGateway
) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    kinds = random.Random(SEED).choices(KINDS, WEIGHTS, k=REQUESTS)
    asked: list[tuple[int, str, str]] = []
    is_up = threading.Event()
    is_up.set()

    def one(number: int) -> None:
        is_up.wait(60)
        asked.append((number, kinds[number - 1], ask(client, number, kinds[number - 1])))

    def kill() -> None:
        for nth in range(1, KILLS + 1):
            eventually(lambda nth=nth: len(asked) >= nth * REQUESTS // (KILLS + 1), 120)  # type: ignore[misc]
            is_up.clear()
            gateway.kill()
            gateway.start()
            gateway.until(ready=True)
            is_up.set()

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        killing = pool.submit(kill)
        for future in [pool.submit(one, number) for number in range(1, REQUESTS + 1)]:
            future.result()
        killing.result()
    assert sum(each[2] == "answered" for each in asked) > REQUESTS // 2
    check(platform, org, asked)


def test_kafka_is_away_the_gateway_dies_and_its_spool_is_sent_once(
    platform: Platform, gateway: ExampleGateway, command: list[str], upstream: str
) -> None:
    name = gateway.home.name
    with ExitStack() as stack:
        # One that refuses when its verdicts are stale, and one that may keep little, beside the one that goes on.
        closed = stack.enter_context(
            gateway_before(platform, command, upstream, f"closed-{name}", "--when-stale", "closed")
        )
        small = stack.enter_context(
            gateway_before(platform, command, upstream, f"small-{name}", "--spool-bytes-max", "4000")
        )
        asked: dict[str, list[tuple[int, str, str]]] = {}
        clients: dict[str, openai.OpenAI] = {}
        for each in (gateway, closed, small):
            each.until(ready=True)
            platform.url = each.url
            org = platform.org()
            clients[each.home.name], asked[org] = platform.client(platform.key(org)), []
        open_org, closed_org, small_org = asked
        broker = platform.product.broker
        platform.runner.run(broker.stop())

        client = clients[gateway.home.name]
        for number in range(1, 31):
            asked[open_org].append((number, "whole", ask(client, number)))
        assert {ended for _, _, ended in asked[open_org]} == {"answered"}
        health = gateway.health()
        assert health is not None
        assert health["waiting_bytes"] > 0
        ended = ""
        while ended != "503":
            number = len(asked[small_org]) + 1
            ended = ask(clients[small.home.name], number)
            asked[small_org].append((number, "whole", ended))
        assert {ended for _, _, ended in asked[small_org][:-1]} == {"answered"}

        def is_shut() -> bool:
            number = len(asked[closed_org]) + 1
            asked[closed_org].append((number, "whole", ask(clients[closed.home.name], number)))
            return asked[closed_org][-1][2] == "503"

        eventually(is_shut, 30)
        assert {ended for _, _, ended in asked[closed_org][:-1]} == {"answered"}

        gateway.kill()
        restored = gateway.home / "restored"
        shutil.copytree(gateway.spool, restored)
        gateway.start()
        assert (gateway.health() or {})["ready"] is False
        assert ask(client, 31) == "503", "before the first reading nobody is known"

        platform.runner.run(broker.start())
        platform.runner.run(platform.product.ready())
        for each in (gateway, closed, small):
            each.until(ready=True, stale=False, waiting_bytes=0)
        for org, requests in asked.items():
            check(platform, org, requests)

        # A spool that is restored from a backup is sent a second time, and charged once.
        gateway.kill()
        shutil.rmtree(gateway.spool)
        restored.rename(gateway.spool)
        gateway.start()
        gateway.until(ready=True, waiting_bytes=0)
        asked[open_org].append((31, "whole", ask(client, 31)))
        check(platform, open_org, asked[open_org])


@contextmanager
def small_disk(where: Path) -> Iterator[None]:
    """Mount a disk of some pages in a directory; skips the test where this machine cannot."""
    where.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(where)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"a full disk needs root and tmpfs: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_full_disk_refuses_and_loses_nothing(platform: Platform, command: list[str], upstream: str) -> None:
    home = platform.product.home / f"full-{Path(command[0]).name}"
    with small_disk(home / "spool"), gateway_before(platform, command, upstream, home.name) as gateway:
        gateway.until(ready=True)
        org = platform.org()
        client = platform.client(platform.key(org))
        filler = gateway.spool / "filler"
        with filler.open("wb") as file:
            # Some pages are left, then none.
            file.write(b"x" * 224 * 1024)
        asked = [(number, "whole", ask(client, number)) for number in range(1, 121)]
        ended = Counter(each[2] for each in asked)
        assert set(ended) == {"answered", "503"}, gateway.words()
        filler.unlink()
        eventually(lambda: answered(client, model="nobody-has-it") == 404)
        asked += [(number, "whole", ask(client, number)) for number in range(121, 131)]
        assert {each[2] for each in asked[120:]} == {"answered"}
        gateway.until(waiting_bytes=0)
        check(platform, org, asked)
