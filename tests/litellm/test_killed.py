"""Workers of the LiteLLM proxy are killed under 1,000 mixed requests: what was answered is charged, once.

Each request asks for a number of tokens of its own, so its event is found by them. A request whose connection broke may
have been served or not: it has at most one event. Every other one has exactly the event that its client saw.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import pytest

from tests.support.gateway.platform import PROMPT, Platform, eventually, product_for_gateways
from tests.support.litellm.proxy import Proxy, litellm_home, proxy_before

REQUESTS = 1_000
CLIENTS = 12
AHEAD = 100
"""So many requests go on while a killed worker is replaced."""
WORKERS = 2
KILLS = 3
SEED = 20261127
KINDS = ("whole", "stream", "fallback", "fallback stream", "failure", "left")
WEIGHTS = (40, 30, 8, 7, 8, 7)
PRICES = {"krutrim": (12_500, 50_000), "e2e": (14_000, 56_000)}
PROMPT_TOKENS = 4
SETTLE_LIMIT_S = 60.0
KILL_LIMIT_S = 240.0


@dataclass(frozen=True)
class Asked:
    """A request and how it ended for its client: `answered`, `failed`, `left` or `broken`."""

    number: int
    kind: str
    ended: str
    took_s: float = 0.0

    @property
    def provider(self) -> str:
        """Who serves it."""
        return "e2e" if self.kind.startswith("fallback") else "krutrim"

    @property
    def tokens(self) -> int:
        """The tokens of its event."""
        return PROMPT_TOKENS + self.number


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A product of its own."""
    litellm_home()
    with product_for_gateways("metering-litellm-kill-") as platform:
        yield platform


@pytest.fixture(scope="module")
def proxy(platform: Platform) -> Iterator[Proxy]:
    """The proxy before it."""
    with proxy_before(platform, WORKERS) as proxy:
        yield proxy


def ask(client: openai.OpenAI, number: int, kind: str) -> str:
    """Make a request, and return how it ended."""
    model = {"failure": "sarvam-m", "left": "slow"}.get(
        kind, "falls" if kind.startswith("fallback") else "krutrim-2"
    )
    stream = kind in ("stream", "fallback stream", "left")
    try:
        answer: Any = client.chat.completions.create(
            model=model, messages=PROMPT, max_tokens=number, stream=stream
        )
        if kind == "left":
            next(iter(answer))
            answer.close()
            return "left"
        if stream:
            # A stream without its end was broken off, whatever its client makes of that.
            last = [chunk.choices[0].finish_reason for chunk in answer if chunk.choices]
            return "answered" if last and last[-1] == "stop" else "broken"
        assert answer.usage.completion_tokens == number
    except openai.APIStatusError as error:
        return "failed" if error.status_code == 500 else f"refused {error.status_code}"
    except (openai.APIError, httpx2.HTTPError):
        return "broken"
    return "answered"


@dataclass
class Killing:
    """Kills a worker each time that a part of the requests is over, and lets few more begin until it is replaced."""

    proxy: Proxy
    asked: list[Asked]
    killed_at: list[int] = field(default_factory=list)
    replaced_s: list[float] = field(default_factory=list)
    """How long it took until there was a worker in the place of each."""

    def run(self) -> None:
        """Kill KILLS workers, one after the other."""
        for nth in range(1, KILLS + 1):
            self._until(lambda nth=nth: len(self.asked) >= nth * REQUESTS // (KILLS + 1))  # type: ignore[misc]
            self.proxy.kill_worker()
            self.killed_at.append(len(self.asked))
            self.replaced_s.append(self._until(lambda: len(self.proxy.workers()) == WORKERS))

    def wait_for_turn(self, number: int) -> None:
        """Return when a request may begin."""
        self._until(lambda: number <= (len(self.killed_at) + 1) * REQUESTS // (KILLS + 1) + AHEAD)

    @staticmethod
    def _until(holds: Callable[[], bool]) -> float:
        return eventually(holds, KILL_LIMIT_S)


def test_what_was_answered_is_charged_once(platform: Platform, proxy: Proxy) -> None:
    org, org_of_left = platform.org(), platform.org()
    clients = {kind: platform.client(platform.key(org)) for kind in ("any",)}
    clients["left"] = platform.client(platform.key(org_of_left))
    before = len(proxy.workers())
    kinds = random.Random(SEED).choices(KINDS, WEIGHTS, k=REQUESTS)
    asked: list[Asked] = []
    killing = Killing(proxy, asked)
    started_s = time.monotonic()

    def one(number: int) -> None:
        killing.wait_for_turn(number)
        kind, began_s = kinds[number - 1], time.monotonic()
        ended = ask(clients["left" if kind == "left" else "any"], number, kind)
        asked.append(Asked(number, kind, ended, time.monotonic() - began_s))

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        kills = pool.submit(killing.run)
        for future in [pool.submit(one, number) for number in range(1, REQUESTS + 1)]:
            future.result()
        kills.result()
    took_s = time.monotonic() - started_s
    # Nothing is waited for but the events: what a killed worker left in its spool is sent by the one in its place.
    eventually(lambda: len(proxy.workers()) == before, 120)

    ended = Counter((each.kind, each.ended) for each in asked)
    print(
        f"{REQUESTS} requests in {took_s:.0f} s, workers killed at {killing.killed_at} and replaced after "
        f"{[round(each) for each in killing.replaced_s]} s: {dict(sorted(ended.items()))}"
    )
    for kind in KINDS:
        print(f"{kind}: median {statistics.median(each.took_s for each in asked if each.kind == kind):.2f} s")
    assert {each.ended for each in asked} <= {"answered", "failed", "left", "broken", "refused 503"}
    certain = [each for each in asked if each.kind != "left" and each.ended in ("answered", "failed")]
    eventually(lambda: len(platform.all_events(org)) >= len(certain), SETTLE_LIMIT_S)
    events = platform.all_events(org)
    check(asked, events)

    told = [each for each in asked if each.ended == "left"]
    # The worker that serves a client which leaves may be killed before it has seen that: then nothing is stored.
    sure = len(told) - KILLS * CLIENTS
    eventually(lambda: len(platform.all_events(org_of_left)) >= sure, SETTLE_LIMIT_S)
    left = platform.all_events(org_of_left)
    print(f"{len(events)} events; {len(told)} streams left, {len(left)} events of them")
    assert len(left) <= sum(each.kind == "left" for each in asked)
    assert all(each["status"] == 200 and each["tokens"] >= PROMPT_TOKENS for each in left)


def check(asked: list[Asked], events: list[dict[str, Any]]) -> None:
    """Compare what clients saw with what was charged."""
    charged = Counter(event["tokens"] for event in events if event["status"] == 200)
    by_tokens = {event["tokens"]: event for event in events if event["status"] == 200}
    failed = sum(event["status"] == 500 for event in events)
    assert failed + sum(charged.values()) == len(events)
    sure = sum(each.ended == "failed" for each in asked)
    assert sure <= failed <= sum(each.kind == "failure" or each.ended == "failed" for each in asked)
    for each in asked:
        if each.kind in ("left", "failure"):
            continue
        at_least, at_most = {"answered": (1, 1), "broken": (0, 1)}.get(each.ended, (0, 0))
        assert at_least <= charged[each.tokens] <= at_most, each
        if charged[each.tokens]:
            event = by_tokens[each.tokens]
            prompt_nano, completion_nano = PRICES[each.provider]
            assert event["provider"] == each.provider
            cost_nano = PROMPT_TOKENS * prompt_nano + each.number * completion_nano
            assert round(event["cost_inr"] * 1_000_000_000) == cost_nano
    broken = {each.tokens for each in asked if each.ended == "broken"}
    print(
        f"{sum(charged.values())} charged, {failed} failed; of {len(broken)} broken connections "
        f"{sum(1 for tokens in broken if charged[tokens])} had been served and are charged"
    )


def test_what_a_killed_proxy_left_in_its_spool_is_sent_by_the_next_one(
    platform: Platform, proxy: Proxy
) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    broker = platform.product.broker.process.pid
    # With the broker frozen nothing is acknowledged: all that is served waits in the spools when the proxy is killed.
    os.kill(broker, signal.SIGSTOP)
    try:
        answered = sum(ask(client, number, "whole") == "answered" for number in range(1, 11))
        proxy.kill()
    finally:
        os.kill(broker, signal.SIGCONT)
    assert answered == 10
    proxy.start(workers=1)
    eventually(lambda: len(platform.all_events(org)) == answered, SETTLE_LIMIT_S)
