"""The bytes of an event, as its gateway writes them.

Called by: `workload.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tests.simulation.truth import Sent

MINUTE_MS = 60_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bytes_of(sent: Sent, number: str, latency_ms: int) -> bytes:
    """Return the event as its gateway writes it; written by hand, as it is written a million times."""
    prompt, cached, completion, beside = sent.tokens
    # A provider that counts the reasoning beside the completion shows it in its total.
    reasoning = (
        f',"total_tokens":{prompt + completion + beside},'
        f'"completion_tokens_details":{{"reasoning_tokens":{beside}}}'
        if beside
        else ""
    )
    usage = (
        f'{{"prompt_tokens":{prompt},"completion_tokens":{completion},'
        f'"prompt_tokens_details":{{"cached_tokens":{cached}}}{reasoning}}}'
    )
    if sent.failed:
        served = '"status":429,"error_code":"upstream","provider":null,"usage":null'
    else:
        provider = '"provider"' if sent.valid else "null"
        served = f'"status":200,"provider":{provider},"usage":{usage}'
    sequence = f'"sequence":"{number}",' if number else ""
    return (
        f'{{"specversion":"1.0","type":"bharatrouter.request.completed.v1","source":"{sent.source}",'
        f'"id":"{sent.event_id}","subject":"{sent.org}","time":"{_time_text(sent.at_ms)}",{sequence}'
        f'"data":{{"key_id":"{sent.key}","tier":"{sent.tier}","byok":{"true" if sent.byok else "false"},'
        f'"model":"{sent.model}","latency_ms":{latency_ms},{served}}}}}'
    ).encode()


def _time_text(at_ms: int) -> str:
    minute, ms = divmod(at_ms, MINUTE_MS)
    return f"{_minute_text(minute)}{ms // 1000:02d}.{ms % 1000:03d}Z"


@lru_cache(maxsize=4096)
def _minute_text(minute: int) -> str:
    return f"{_EPOCH + timedelta(minutes=minute):%Y-%m-%dT%H:%M:}"
