"""The gateways of `examples/`, as OpenAI's own client sees them, and what the product charges for what they served.

Not in `make test`: `make gateways` runs them, as they are compiled and fetched first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from pipeline.accounts.commands import ChangeKey
from pipeline.kafka.commands import new_command_id
from tests.support.gateway.examples import ExampleGateway
from tests.support.gateway.platform import (
    COST_NANO,
    E2E_COST_NANO,
    SIGNUP_NANO,
    Platform,
    answered,
    ask,
    cost_nano,
    eventually,
)

USAGE_CORPUS = Path(__file__).parents[2] / "schemas" / "usage-corpus.json"
pytestmark = pytest.mark.usefixtures("gateway")


def test_an_answer_and_a_stream_are_charged_the_same(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    assert ask(client).usage.completion_tokens == 10
    chunks = list(ask(client, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "".join(f"word{n} " for n in range(6))
    assert chunks[-1].choices[0].finish_reason == "stop"
    told = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage.completion_tokens for chunk in told if chunk.usage] == [10]
    for event in platform.events(org, 3):
        assert (event["model"], event["provider"], event["status"]) == ("krutrim-2", "krutrim", 200)
        assert cost_nano(event) == COST_NANO


def test_a_fallback_is_charged_as_what_served_and_a_failure_costs_nothing(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    ask(client, "falls")
    list(ask(client, "falls", stream=True))
    for more in ({}, {"stream": True}):
        with pytest.raises(openai.InternalServerError) as failed:
            ask(client, "sarvam-m", **more)
        assert failed.value.code == "provider_error"
    with pytest.raises(openai.APIError):
        list(ask(client, "breaks", stream=True))
    broken, *failed_ones, stream, whole = platform.events(org, 5)
    for event in (stream, whole):
        assert (event["model"], event["provider"], cost_nano(event)) == ("falls", "e2e", E2E_COST_NANO)
    assert [(e["provider"], e["status"], e["cost_inr"]) for e in failed_ones] == [("sarvam", 500, 0)] * 2
    assert (broken["status"], broken["cost_inr"]) == (502, 0)


def test_who_leaves_a_stream_pays_for_all_that_the_provider_charges(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    stream = ask(client, "slow", stream=True)
    next(iter(stream))
    stream.close()
    (event,) = platform.events(org, 1)
    assert (event["status"], cost_nano(event)) == (200, COST_NANO)
    told = platform.answer(org, f"/me/activity/events/{event['id']}")
    assert told["error_code"] == "client_closed"


def test_the_orgs_own_provider_key_costs_nothing(platform: Platform) -> None:
    org = platform.org(balance_nano=1)
    client = platform.client(platform.key(org))
    ask(client, extra_headers={"X-Provider-Key": "own"})
    (event,) = platform.events(org, 1)
    assert (event["status"], event["cost_inr"]) == (200, 0)


def test_a_key_that_is_unknown_or_missing_is_401(platform: Platform) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        ask(platform.client("br-nobody"))
    assert (unknown.value.code, unknown.value.type) == ("invalid_api_key", "authentication_error")
    keyless = httpx2.post(
        f"{platform.url}/v1/chat/completions", json={"model": "krutrim-2"}, trust_env=False, timeout=20
    )
    assert (keyless.status_code, keyless.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_balance_that_does_not_cover_a_request_is_402(platform: Platform) -> None:
    org = platform.org(balance_nano=20_000_000)
    client = platform.client(platform.key(org))
    with pytest.raises(openai.APIStatusError) as dear:
        ask(client, max_tokens=1000)
    assert (dear.value.status_code, dear.value.code) == (402, "insufficient_credits")
    assert dear.value.response.headers["x-should-retry"] == "false"
    # What is not counted yet stays reserved, so the balance is never taken below zero.
    spent = 0
    while (status := answered(client, model="krutrim-2", max_tokens=60)) == 200:
        spent += 1
    assert status == 402
    assert spent >= 2
    eventually(lambda: len(platform.all_events(org)) == spent)
    balance_inr = platform.answer(org, "/me/billing")["balance_inr"]
    assert round(balance_inr * 1_000_000_000) == 20_000_000 - spent * (4 * 12_500 + 60 * 50_000)
    assert balance_inr >= 0


def test_a_spent_budget_is_429_with_its_amounts(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org, budget_nano=COST_NANO // 2))
    ask(client)
    eventually(lambda: answered(client, model="krutrim-2") == 429)
    with pytest.raises(openai.RateLimitError) as spent:
        ask(client)
    assert spent.value.code == "budget_exceeded"
    assert isinstance(spent.value.body, dict)
    assert spent.value.body["limit_inr"] == 0.000275
    assert spent.value.body["spent_inr"] >= 0.00055
    assert spent.value.body["resets_at"].endswith("T00:00:00.000+05:30")
    assert int(spent.value.response.headers["retry-after"]) >= 1


def test_a_limit_a_minute_is_429_until_the_minute_is_over(platform: Platform) -> None:
    client = platform.client(platform.key(platform.org(), rpm_limit=3))
    assert [answered(client, model="krutrim-2") for _ in range(4)] == [200, 200, 200, 429]
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


def test_a_key_that_is_revoked_in_the_middle_of_a_stream_ends_with_it(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    stream = iter(ask(client, "slow", stream=True))
    next(stream)
    platform.send(ChangeKey(id=new_command_id(), org=org, key_id=f"key_of_{org}", revoked=True))
    eventually(lambda: answered(client, model="krutrim-2") == 401)
    assert [c.choices[0].finish_reason for c in stream][-1] == "stop"
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(client)
    assert refused.value.code == "invalid_api_key"
    events: list[dict[str, Any]] = []

    def is_charged() -> bool:
        events[:] = [event for event in platform.all_events(org) if event["model"] == "slow"]
        return bool(events)

    eventually(is_charged)
    assert [cost_nano(event) for event in events] == [COST_NANO]


BAD_BODIES: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"{", 400),
    (b"[]", 400),
    (b"null", 400),
    (b'{"messages": []}', 404),
    (b'{"model": "nobody-has-it"}', 404),
    (b'{"model": 5}', 400),
    (b'{"model": "' + b"m" * 300 + b'"}', 404),
    (b'{"model": "krutrim-2", "max_tokens": -1}', 400),
    (b'{"model": "krutrim-2", "max_tokens": 1e300}', 400),
    (b'{"model": "krutrim-2", "max_tokens": "10"}', 400),
    (b'{"model": "krutrim-2", "max_tokens": 100000000, "n": 100000000}', 400),
    (b'{"model": "krutrim-2", "n": 0}', 400),
    (b'{"model": "krutrim-2", "stream": "yes"}', 400),
    (b'{"model": "krutrim-2", "x": "' + b"x" * (8 << 20) + b'"}', 413),
    (b'{"model": "krutrim-2", "stream_options": 5}', 400),
]


def test_bad_bodies_are_refused_and_cost_nothing(platform: Platform, gateway: ExampleGateway) -> None:
    org = platform.org()
    secret = platform.key(org)
    for body, status in BAD_BODIES:
        answer = httpx2.post(
            f"{platform.url}/v1/chat/completions",
            content=body,
            headers={"Authorization": f"Bearer {secret}"},
            trust_env=False,
        )
        assert answer.status_code == status, (body[:80], answer.text)
        assert answer.json()["error"]["type"].endswith("_error")
    ask(platform.client(secret))
    assert [cost_nano(event) for event in platform.events(org, 1)] == [COST_NANO], gateway.words()


def _told(client: openai.OpenAI, model: str, usage: Any, *, stream: bool) -> None:
    answer = ask(client, model, messages=[{"role": "user", "content": json.dumps(usage)}], stream=stream)
    if stream:
        list(answer)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_each_providers_own_usage_is_charged_as_the_corpus_says(platform: Platform, stream: bool) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    owed_nano = 0
    examples = json.loads(USAGE_CORPUS.read_text())["examples"]
    for example in examples:
        _told(client, f"as-{example['dialect']}", example["raw"], stream=stream)
        expected = example["expected"]
        cached = expected["prompt_tokens_details"]["cached_tokens"]
        owed_nano += (expected["prompt_tokens"] - cached) * 12_500 + cached * 3_125
        owed_nano += expected["completion_tokens"] * 50_000
    events = platform.events(org, len(examples))
    assert sum(cost_nano(event) for event in events) == owed_nano
    balance_inr = platform.answer(org, "/me/billing")["balance_inr"]
    assert round(balance_inr * 1_000_000_000) == SIGNUP_NANO - owed_nano


def test_what_was_served_with_junk_for_usage_is_charged(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    junk: list[Any] = [
        None,
        [],
        "many",
        5,
        {"prompt_tokens": -1},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": "5"},
    ]
    junk += [{"prompt_tokens": 1e30}, {"prompt_tokens": 10**9}, {"completion_tokens": True}]
    for usage in junk:
        _told(client, "junk", usage, stream=len(str(usage)) % 2 == 0)
    for event in platform.events(org, len(junk)):
        assert event["status"] == 200
        assert 0 < cost_nano(event) < 100 * COST_NANO
