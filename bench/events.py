"""Make request events as a gateway sends them: CloudEvents, numbered by source, in records of a given size.

Owns: how broad the load is: orgs, five keys each, ten models, three providers, and their rates.
Called by: the benchmarks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache

from pipeline.catalog.rates import Rate
from pipeline.partitioning import partition_of

MODELS = tuple(f"model-{n}" for n in range(10))
PROVIDERS = ("krutrim", "aws", "sarvam")
KEYS_AN_ORG = 5


def rates() -> list[Rate]:
    """Return the rates of all routes, in force since the epoch."""
    return [Rate(model, provider, 0, 12_500, 3_125, 50_000) for model in MODELS for provider in PROVIDERS]


@cache
def orgs_of(orgs: int, partitions: int, partition: int) -> tuple[str, ...]:
    """Return the orgs, of `orgs` in total, that belong to a partition."""
    named = (f"org_{n:07d}" for n in range(orgs))
    return tuple(org for org in named if partition_of(org, partitions) == partition)


def event(number: int, org: str, source: str, at_ms: int) -> str:
    """Return the JSON of one event: the `number`-th of its source."""
    seconds, ms = divmod(at_ms, 1000)
    return (
        f'{{"specversion":"1.0","type":"bharatrouter.request.completed.v1","source":"{source}",'
        f'"id":"0197d3c4-6a1e-7c3b-9a55-{number.to_bytes(6).hex()}","subject":"{org}","time":"{_second(seconds)}.{ms:03d}Z",'
        f'"sequence":"{str(number).zfill(20)}","data":{{"key_id":"{org}_key_{number % KEYS_AN_ORG}",'
        f"{_USED[number % len(_USED)]}}}}}"
    )


def _used(number: int) -> str:
    """Return what a request used, as the rest of an event's data."""
    prompt, completion = 200 + number % 1800, 20 + number % 700
    return (
        f'"tier":"standard","byok":false,"model":"{MODELS[number % 10]}","provider":"{PROVIDERS[number % 3]}",'
        f'"status":200,"error_code":null,"latency_ms":{300 + number % 4000},"ttft_ms":{90 + number % 300},'
        f'"stream":true,"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},'
        f'"total_tokens":{prompt + completion},"prompt_tokens_details":{{"cached_tokens":{prompt // 4}}},'
        f'"completion_tokens_details":{{"reasoning_tokens":0}}}}'
    )


_USED = tuple(_used(number) for number in range(18_000))
"""Made once, as the generator shares the machine with what is measured."""


@cache
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def record_values(
    *, events: int, batch: int, orgs: tuple[str, ...], source: str, now_ms: int, first: int = 1
) -> Iterator[bytes]:
    """Return record values that hold `events` events, `batch` in each: an array, or one event alone.

    The events' times rise to `now_ms` over the last ten minutes; orgs take turns, an unequal number each.
    """
    step_ms = 600_000 / events
    for start in range(0, events, batch):
        made = [
            event(
                first + n,
                orgs[(n * 7919 + n // len(orgs)) % len(orgs)],
                source,
                now_ms - 600_000 + int(n * step_ms),
            )
            for n in range(start, min(start + batch, events))
        ]
        yield (made[0] if batch == 1 else f"[{','.join(made)}]").encode()
