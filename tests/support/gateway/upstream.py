"""A provider of chat completions for gateways to ask, as `python -m tests.support.gateway.upstream PORT`.

The answer's usage is what the request says: as many prompt tokens as words, and `max_tokens` of completion. Under
`/broken` every request fails; under `/slow` a stream waits between its parts, and under `/breaks` it breaks off.
Under `/told` the usage is what the first message says, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

PARTS = 6
SLOW_S = 0.1
BREAKS_AT = 2

app = FastAPI()


def _usage(body: dict[str, Any], manner: str = "good") -> Any:
    if manner == "told":
        return json.loads(body["messages"][0]["content"])
    texts = [str(message["content"]) for message in body.get("messages", ())] or [str(body["prompt"])]
    prompt = sum(len(text.split()) for text in texts)
    completion = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


@app.post("/{manner}/v1/chat/completions")
async def chat(manner: str, request: Request) -> Response:
    """Answer a chat completion in the manner of the path."""
    body = await request.json()
    if manner == "broken":
        return JSONResponse({"error": {"message": "out of order", "type": "server_error", "code": None}}, 500)
    if body.get("stream"):
        return StreamingResponse(_stream(body, manner), media_type="text/event-stream")
    message = {"role": "assistant", "content": "six words of an answer here"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse(
        {**_head(body, "chat.completion"), "choices": [choice], "usage": _usage(body, manner)}
    )


@app.post("/{manner}/v1/completions")
async def complete(manner: str, request: Request) -> Response:  # noqa: ARG001 - part of the path
    """Answer a text completion."""
    body = await request.json()
    choice = {"index": 0, "text": "six words of an answer here", "logprobs": None, "finish_reason": "stop"}
    return JSONResponse({**_head(body, "text_completion"), "choices": [choice], "usage": _usage(body)})


async def _stream(body: dict[str, Any], manner: str) -> AsyncIterator[bytes]:
    for part in range(PARTS):
        if manner == "breaks" and part == BREAKS_AT:
            raise ConnectionAbortedError
        delta = {"role": "assistant", "content": f"word{part} "}
        yield _chunk(body, choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        await asyncio.sleep(SLOW_S if manner == "slow" else 0)
    yield _chunk(body, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _chunk(body, choices=[], usage=_usage(body, manner))
    yield b"data: [DONE]\n\n"


@app.post("/{manner}/v1/embeddings")
async def embeddings(manner: str, request: Request) -> Response:  # noqa: ARG001 - part of the path
    """Answer one vector; the prompt has as many tokens as words."""
    body = await request.json()
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    prompt = sum(len(str(text).split()) for text in given)
    vectors = [{"object": "embedding", "index": at, "embedding": [0.5, 0.25]} for at in range(len(given))]
    usage = {"prompt_tokens": prompt, "total_tokens": prompt}
    return JSONResponse({"object": "list", "model": body["model"], "data": vectors, "usage": usage})


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": body["model"]}


def _chunk(body: dict[str, Any], **more: Any) -> bytes:
    return b"data: " + json.dumps({**_head(body, "chat.completion.chunk"), **more}).encode() + b"\n\n"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
