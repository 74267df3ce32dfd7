"""What providers count, and what gateways do with it: each served request is charged, by one rule."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2

from pipeline.gateway import Gateway, openai_usage
from pipeline.telemetry import SINK, shown_by
from tests.support.builders import DROP
from tests.support.deploy import shown_otherwise
from tests.support.product.world import World, cost_inr

CORPUS = Path(__file__).parents[2] / "schemas" / "usage-corpus.json"
XAI = {
    "prompt_tokens": 279,
    "completion_tokens": 6,
    "total_tokens": 374,
    "prompt_tokens_details": {"cached_tokens": 149},
    "completion_tokens_details": {"reasoning_tokens": 89},
}
CASES: list[tuple[dict[str, Any], Decimal]] = [
    (XAI, cost_inr(130, 149, 95)),
    ({"prompt_tokens": 8, "total_tokens": 8}, cost_inr(8)),
    (
        {
            "prompt_tokens": 200,
            "completion_tokens": 112,
            "prompt_tokens_details": [],
            "completion_tokens_details": None,
        },
        cost_inr(200, 0, 112),
    ),
    (
        {
            "prompt_tokens": 200,
            "completion_tokens": 112,
            "total_tokens": None,
            "prompt_tokens_details": {"cached_tokens": None, "audio_tokens": None},
        },
        cost_inr(200, 0, 112),
    ),
    # Anthropic's way: the cache is beside the prompt, and the total says whether it is.
    (
        {
            "prompt_tokens": 1,
            "completion_tokens": 84,
            "prompt_tokens_details": {"cached_tokens": 965_602},
        },
        cost_inr(0, 1, 84),
    ),
    (
        {
            "prompt_tokens": 1,
            "completion_tokens": 84,
            "total_tokens": 965_687,
            "prompt_tokens_details": {"cached_tokens": 965_602},
        },
        cost_inr(1, 965_602, 84),
    ),
    ({"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 632}, cost_inr(12, 0, 20)),
]
IRREGULAR = 4


def test_what_was_served_is_charged_however_it_was_counted(world: World) -> None:
    org = world.org("org_usage")
    for usage, inr in CASES:
        world.publish(world.event(org, data__usage=usage, data__latency_ms=740.4, data__ttft_ms=119.6))
        world.owes(org, inr)
    world.agrees(org)
    world.shop.until(
        lambda: world.counted("metering_requests_irregular_total") == IRREGULAR,
        f"{IRREGULAR} of them are irregular",
    )
    newest, *_ = world.shop.get("/me/activity/events", org)["events"]
    assert newest["latency_ms"] == 740


def test_a_failed_request_counts_whatever_its_usage_is(world: World) -> None:
    org = world.org("org_failed")
    imperfect: list[object] = [{"prompt_tokens": "many"}, None, [], {"prompt_tokens": -1}]
    for usage in imperfect:
        world.publish(world.event(org, data__status=502, data__usage=usage))
        world.owes(org, Decimal(0))
    world.shop.until(lambda: world.requests_of(org) == (4, 4), "all four are there")
    world.agrees(org)


def test_each_providers_own_object_is_charged_as_the_corpus_says(world: World) -> None:
    org = world.org("org_dialects")
    for example in json.loads(CORPUS.read_text())["examples"]:
        expected = example["expected"]
        cached = expected.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        usage = openai_usage(example["raw"], example["dialect"])
        world.publish(world.event(org, data__usage=usage))
        prompt, completion = expected["prompt_tokens"], expected["completion_tokens"]
        world.owes(org, cost_inr(prompt - cached, cached, completion))
    world.agrees(org)


def test_what_costs_nothing_is_served_at_a_balance_of_0_and_a_half_read_stream_is_charged(
    world: World, tmp_path: Path
) -> None:
    org, reader = world.org("org_empty"), world.org("org_streams")
    world.metering("credit", org, "--inr", "-100", "--reason", "all of it")
    world.balances[org] -= 100

    async def serve() -> None:
        async with Gateway(kafka_url=world.product.broker.url, node="world-1", spool_dir=tmp_path) as gateway:
            assert gateway.admit(org, "k", max_cost_inr="0") is None
            refusal = gateway.admit(org, "k")
            assert refusal is not None and (refusal.code, refusal.http_status) == (
                "insufficient_credits",
                402,
            )
            plain = {"id": DROP, "source": DROP}
            gift = world.event(org, **plain, data__model="gift-1")
            # As far as it was read, once where the provider goes on and once where it could be stopped.
            partly = {"prompt_tokens": 200, "completion_tokens": 30}
            left = world.event(reader, **plain, data__error_code="client_closed", data__usage=partly)
            stopped = world.event(reader, **plain, data__status=499, data__usage=DROP)
            for made in (gift, left, stopped):
                await gateway.publish(made)

    world.run(serve)
    world.owes(org, Decimal(0))
    world.owes(reader, cost_inr(200, 0, 30), requests=2)
    world.shop.until(lambda: world.requests_of(org) == (1, 0), "the gift is there")
    world.shop.until(lambda: world.requests_of(reader) == (2, 1), "both streams are there")
    world.agrees(org, reader)


def test_a_role_of_its_own_shows_the_metrics_of_what_it_does(world: World) -> None:
    for role in world.product.roles():
        text = httpx2.get(f"{role.status_url}/metrics", trust_env=False, verify=False, timeout=20).text
        groups = [group for group in shown_by(role.command) if role.command != "server" or group is not SINK]
        assert shown_otherwise(text, groups) == [], role.name
