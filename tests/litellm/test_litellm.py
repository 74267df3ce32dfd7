"""The LiteLLM proxy, metered, as OpenAI's own client sees it: real proxy, real broker, real worker, real server.

Not in `make test`: `make litellm` runs it, as LiteLLM is some hundred packages of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from pipeline.accounts.commands import ChangeKey, Credit
from pipeline.kafka.commands import new_command_id
from tests.support.gateway.platform import (
    COST_NANO,
    E2E_COST_NANO,
    SIGNUP_NANO,
    Platform,
    answered,
    ask,
    cost_nano,
    eventually,
    product_for_gateways,
)
from tests.support.litellm.proxy import Proxy, litellm_home, proxy_before


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """One product for all tests here; each test has its own org."""
    litellm_home()
    with product_for_gateways("metering-litellm-") as platform:
        yield platform


@pytest.fixture(scope="module", autouse=True)
def proxy(platform: Platform) -> Iterator[Proxy]:
    """One proxy before it."""
    with proxy_before(platform, workers=1) as proxy:
        yield proxy


def test_an_answer_and_a_stream_are_charged_the_same(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    assert ask(client).usage.completion_tokens == 10
    chunks = list(ask(client, stream=True))
    assert "word0 word1 word2 word3 word4 word5" in "".join(
        c.choices[0].delta.content or "" for c in chunks if c.choices
    )
    for event in platform.events(org, 2):
        assert (event["model"], event["provider"], event["status"]) == ("krutrim-2", "krutrim", 200)
        assert cost_nano(event) == COST_NANO


def test_a_stream_that_asks_for_its_usage_has_it(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [10]
    (event,) = platform.events(org, 1)
    assert cost_nano(event) == COST_NANO


def test_embeddings_are_charged_for_their_prompt(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    client.embeddings.create(model="krutrim-2", input="what does this cost", encoding_format="float")
    (event,) = platform.events(org, 1)
    assert (event["tokens"], cost_nano(event)) == (4, 4 * 12_500)


def test_text_completions_are_charged_whole_and_not_streamed(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    asked: dict[str, Any] = {"model": "krutrim-2", "prompt": "what does this cost", "max_tokens": 10}
    client.completions.create(**asked)
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**asked, stream=True)
    assert refused.value.code == "invalid_request"
    (event,) = platform.events(org, 1)
    assert cost_nano(event) == COST_NANO


def test_a_stream_that_breaks_off_costs_nothing(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    with pytest.raises(openai.APIError):
        list(ask(client, "breaks", stream=True))
    (event,) = platform.events(org, 1)
    assert (event["status"], event["cost_inr"]) == (502, 0)


def test_a_fallback_is_charged_as_what_served_and_a_failure_costs_nothing(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    ask(client, "falls")
    list(ask(client, "falls", stream=True))
    for more in ({}, {"stream": True}):
        with pytest.raises(openai.InternalServerError):
            ask(client, "sarvam-m", **more)
    *failed, stream, whole = platform.events(org, 4)
    for event in (stream, whole):
        assert (event["model"], event["provider"]) == ("krutrim-2", "e2e")
        assert cost_nano(event) == E2E_COST_NANO
    for event in failed:
        assert (event["model"], event["provider"], event["status"]) == ("sarvam-m", "sarvam", 500)
        assert event["cost_inr"] == 0


def test_who_leaves_a_stream_pays_for_what_was_sent(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    stream = ask(client, "slow", stream=True, max_tokens=8000)
    next(iter(stream))
    stream.close()
    (event,) = platform.events(org, 1)
    assert event["status"] == 200
    assert 4 < event["tokens"] < 100
    told = platform.answer(org, f"/me/activity/events/{event['id']}")
    assert told["error_code"] == "client_closed"


def test_refusals_have_this_products_envelope(platform: Platform) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        ask(platform.client("br-nobody"))
    assert (unknown.value.status_code, unknown.value.code) == (401, "invalid_api_key")
    assert unknown.value.type == "authentication_error"
    keyless = httpx2.post(f"{platform.url}/v1/chat/completions", json={"model": "krutrim-2"}, trust_env=False)
    assert (keyless.status_code, keyless.json()["error"]["code"]) == (401, "invalid_api_key")

    org = platform.org(balance_nano=COST_NANO * 4)
    client = platform.client(platform.key(org))
    with pytest.raises(openai.APIStatusError) as dear:
        ask(client, max_tokens=100_000)
    assert (dear.value.status_code, dear.value.code) == (402, "insufficient_credits")
    assert dear.value.response.headers["x-should-retry"] == "false"
    assert ask(client, max_tokens=10).usage.completion_tokens == 10

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
    assert int(spent.value.response.headers["retry-after"]) >= 1


def test_a_revoked_key_is_refused_and_a_top_up_lets_in_again(platform: Platform) -> None:
    org = platform.org(balance_nano=1)
    client = platform.client(platform.key(org))
    assert answered(client, model="krutrim-2", max_tokens=10) == 402
    platform.send(Credit(new_command_id(), org, SIGNUP_NANO, "a top-up"))
    eventually(lambda: answered(client, model="krutrim-2", max_tokens=10) == 200)
    platform.send(ChangeKey(id=new_command_id(), org=org, key_id=f"key_of_{org}", revoked=True))
    eventually(lambda: answered(client, model="krutrim-2") == 401)


def test_what_is_not_metered_is_not_served(platform: Platform) -> None:
    secret = platform.key(platform.org())
    for method, path in (
        ("POST", "/v1/images/generations"),
        ("POST", "/openai/v1/chat/completions"),
        ("GET", "/key/list"),
        ("POST", "/model/new"),
        ("GET", "/config/yaml"),
    ):
        answer = httpx2.request(
            method,
            f"{platform.url}{path}",
            headers={"Authorization": f"Bearer {secret}"},
            json={"model": "krutrim-2"},
            trust_env=False,
        )
        assert answer.status_code == 403, (path, answer.text)
        assert answer.json()["error"]["code"] == "forbidden"
    assert {model.id for model in platform.client(secret).models.list()} >= {"krutrim-2", "sarvam-m"}
