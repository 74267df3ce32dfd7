"""Only what becomes an event is served."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.gateway.proxying.requests import is_listing, is_metered, problem_of


@pytest.mark.parametrize(
    "route",
    [
        "/chat/completions",
        "/v1/chat/completions",
        "/v1/completions",
        "/embeddings",
        "/engines/m/chat/completions",
        "/openai/deployments/m/embeddings",
    ],
)
def test_metered_routes(route: str) -> None:
    assert is_metered(route)
    assert not is_listing(route)


@pytest.mark.parametrize(
    "route",
    [
        "/",
        "/v1/images/generations",
        "/v1/chat/completions/chatcmpl-1",
        "/openai/v1/chat/completions",
        "/key/generate",
        "/v1/chat/completions\n/x",
        "/engines/a/b/chat/completions",
    ],
)
def test_other_routes(route: str) -> None:
    assert not is_metered(route)
    assert not is_listing(route)


def test_listings() -> None:
    assert all(map(is_listing, ("/models", "/v1/models", "/v1/models/krutrim-2", "/v1/models/a/b")))
    assert not is_listing("/v1/models-and-more")


@pytest.mark.parametrize("model", [None, "", 7, ["a", "b"], "a,b", "x" * 257])
def test_a_request_names_one_model(model: Any) -> None:
    assert problem_of({"model": model}) is not None
    assert problem_of({}) is not None


def test_a_request_of_one_model_is_no_problem() -> None:
    assert problem_of({"model": "krutrim-2"}) is None


def test_a_text_completion_is_not_streamed() -> None:
    assert problem_of({"model": "m", "prompt": "x", "stream": True}) is not None
    assert problem_of({"model": "m", "prompt": "x", "stream": False}) is None
    assert problem_of({"model": "m", "messages": [], "stream": True}) is None
