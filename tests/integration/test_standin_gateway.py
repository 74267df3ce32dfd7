"""The stand-in gateway as OpenAI's own client sees it: real broker, real worker, real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion

from pipeline.accounts.commands import Credit
from pipeline.kafka.commands import new_command_id
from tests.support import ports
from tests.support.builders import COMMAND_KEY
from tests.support.gateway.platform import (
    COST_NANO,
    PROMPT,
    SIGNUP_NANO,
    Platform,
    answered,
    eventually,
    is_healthy,
    product_for_gateways,
)


def ask(client: openai.OpenAI, **more: Any) -> ChatCompletion:
    """Ask for ten tokens."""
    asked = {"model": "krutrim-2", "messages": PROMPT, "max_completion_tokens": 10, **more}
    completion: ChatCompletion = client.chat.completions.create(**asked)
    return completion


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """One product and one gateway for all tests here; each test has its own org."""
    with product_for_gateways("metering-standin-") as platform:
        home, port = platform.product.home, ports.free()
        command = [
            sys.executable,
            "-m",
            "pipeline.standin.gateway",
            "--kafka-url",
            platform.product.broker.url,
        ]
        command += ["--port", str(port), "--node", "test", "--spool-dir", str(home / "spool")]
        with (home / "gateway.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        platform.url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: is_healthy(f"{platform.url}/healthz"))
            yield platform
        finally:
            process.terminate()
            assert process.wait(15) == 0, (home / "gateway.log").read_text()


def test_a_completion_is_answered_and_charged(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    completion = ask(client)
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (4, 10)
    content = completion.choices[0].message.content
    assert content is not None
    assert len(content.split()) == 10
    (event,) = platform.events(org, 1)
    assert (event["model"], event["provider"], event["status"]) == ("krutrim-2", "krutrim", 200)
    assert event["tokens"] == 14
    assert round(event["cost_inr"] * 1_000_000_000) == COST_NANO


def test_a_stream_ends_with_its_usage_and_is_charged_the_same(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    chunks = list(
        client.chat.completions.create(
            model="krutrim-2",
            messages=PROMPT,
            max_completion_tokens=10,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    words = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).split()
    assert len(words) == 10
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 10
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    (event,) = platform.events(org, 1)
    assert round(event["cost_inr"] * 1_000_000_000) == COST_NANO


def test_who_leaves_a_stream_pays_for_what_was_sent(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    stream = client.chat.completions.create(
        model="krutrim-2", messages=PROMPT, max_completion_tokens=8000, stream=True
    )
    next(iter(stream))
    stream.close()
    (event,) = platform.events(org, 1)
    assert event["status"] == 200
    assert 4 + 8 <= event["tokens"] < 4 + 8000


def test_fallbacks_and_failures_are_published_as_what_they_are(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org))
    ask(client, extra_headers={"x-standin-simulate": "fallback"})
    with pytest.raises(openai.InternalServerError) as failed:
        ask(client, extra_headers={"x-standin-simulate": "500"})
    assert failed.value.code == "provider_error"
    with pytest.raises(openai.RateLimitError):
        ask(client, extra_headers={"x-standin-simulate": "429"})
    limited, broken, fallen_back = platform.events(org, 3)
    assert (fallen_back["provider"], fallen_back["status"]) == ("e2e", 200)
    assert round(fallen_back["cost_inr"] * 1_000_000_000) == 4 * 14_000 + 10 * 56_000
    assert [(e["status"], e["tokens"], e["cost_inr"]) for e in (broken, limited)] == [
        (500, 0, 0),
        (429, 0, 0),
    ]


def test_an_unknown_key_is_401(platform: Platform) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(platform.client("br-nobody"))
    assert refused.value.code == "invalid_api_key"
    answer = httpx2.post(f"{platform.url}/v1/chat/completions", trust_env=False, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_bad_requests_name_what_is_wrong(platform: Platform) -> None:
    client = platform.client(platform.key(platform.org()))
    with pytest.raises(openai.BadRequestError) as empty:
        ask(client, messages=[])
    assert (empty.value.code, empty.value.param) == ("invalid_request", "messages")
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(client, model="nobody-has-it")
    assert (unknown.value.code, unknown.value.param) == ("not_found", "model")
    assert [model.id for model in client.models.list()] == ["krutrim-2", "sarvam-m"]


def test_a_balance_that_is_gone_is_402_until_it_is_topped_up(platform: Platform) -> None:
    org = platform.org(balance_nano=COST_NANO // 2)
    client = platform.client(platform.key(org))
    ask(client)
    refused_after_s = eventually(lambda: answered(client, model="krutrim-2") == 402)
    assert refused_after_s < 5
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client)
    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_credits")
    assert refused.value.response.headers["x-should-retry"] == "false"
    # The org's own provider key is not stopped by the balance.
    ask(client, extra_headers={"x-standin-byok": "1"})

    platform.send(Credit(new_command_id(), org, SIGNUP_NANO, "a top-up"))
    assert eventually(lambda: answered(client, model="krutrim-2") == 200) < 2


def test_a_spent_budget_is_429_until_it_is_raised(platform: Platform) -> None:
    org = platform.org()
    client = platform.client(platform.key(org, budget_nano=COST_NANO // 2))
    ask(client)
    eventually(lambda: answered(client, model="krutrim-2") == 429)
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    assert refused.value.code == "budget_exceeded"
    assert isinstance(refused.value.body, dict)
    assert {"limit_inr", "spent_inr", "resets_at"} <= refused.value.body.keys()
    headers = refused.value.response.headers
    assert int(headers["retry-after"]) >= 1
    assert headers["x-should-retry"] == "false"

    raised = subprocess.run(
        [
            *(sys.executable, "-m", "pipeline", "key", "set", f"key_of_{org}", "--org", org),
            *("--budget-inr", "50", "--data-dir", str(platform.product.home / "nobody")),
        ],
        env={
            **os.environ,
            "METERING_KAFKA_URL": platform.product.broker.url,
            "METERING_COMMAND_KEY": COMMAND_KEY,
        },
        capture_output=True,
        check=False,
    )
    assert raised.returncode == 0, raised.stderr
    assert eventually(lambda: answered(client, model="krutrim-2") == 200) < 2
