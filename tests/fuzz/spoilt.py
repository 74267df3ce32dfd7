"""Records as a broken or hostile producer writes them: valid ones, changed in every way that bytes can be.

Owns: the ways of spoiling. Everything follows from the random numbers it is given, so a seed names a run.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from pipeline.accounts.commands import encode
from tests.support.builders import event
from tests.support.commands import COMMANDS

ABSURD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 1e308),
    *(
        "",
        " ",
        "\0",
        "\x00progress",
        "٤٢",
        "9" * 20,
        "9" * 21,
        "\U0001f600" * 256,
        "a" * 300,
        "\u202e",
        "null",
    ),
    *([], {}, [[]], [None] * 50, {"prompt_tokens": 1}, {"": {}}),
    *(
        "2026-06-12T24:00:00Z",
        "2026-06-30T23:59:60Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ),
)
MAGIC = (
    b"\x1f\x8b\x08\0",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\x82SNAPPY\0",
    b"BZh9",
    b"\xef\xbb\xbf",
    b"\0\0\0\0\2",
)
TOKENS = (
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"\\",
    b",",
    b":",
    b"-",
    b"1e9999",
    b"NaN",
    b"\\ud800",
    b"\0",
    b"\xff",
    b"null",
)
COMMAND_VALUES = [encode(command) for command in COMMANDS]


def spoilt_events(rng: random.Random, number: int, time: str | None = None) -> bytes | None:
    """Return a record of `metering.requests`: one event in three stays whole, so that there are books to keep.

    `time` is the events' own, where it has to be another than the builders'.
    """
    what = rng.random()
    if what < 0.04:
        return None if what < 0.01 else rng.randbytes(rng.randrange(80))
    if what < 0.06:
        return rng.choice(MAGIC) + rng.randbytes(rng.randrange(60))
    if what < 0.0602:
        deep = rng.choice((50, 1_000, 20_000))
        return b"[" * deep if rng.random() < 0.5 else b'{"a":' * deep + b"1" + b"}" * deep
    made = [_event(rng, number, time) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
    whole = rng.random() < 0.35
    if not whole:
        for _ in range(rng.randint(1, 3)):
            _change(rng, rng.choice(made))
    value = json.dumps(made[0] if len(made) == 1 else made, ensure_ascii=rng.random() < 0.5)
    data = value.encode("utf-8", "surrogatepass")
    return data if whole or rng.random() < 0.5 else _cut(rng, data)


def spoilt_command(rng: random.Random) -> bytes | None:
    """Return a record of `metering.billing`, to be signed or not by the caller."""
    what = rng.random()
    if what < 0.03:
        return None if what < 0.01 else rng.randbytes(rng.randrange(80))
    value = rng.choice(COMMAND_VALUES)
    if what < 0.6:
        fields = json.loads(value)
        for name in rng.sample(sorted(fields), min(len(fields), rng.randint(1, 2))):
            fields[name] = rng.choice(ABSURD)
        value = json.dumps(fields).encode("utf-8", "surrogatepass")
    return value if what < 0.8 else _cut(rng, value)


def _event(rng: random.Random, number: int, time: str | None) -> dict[str, Any]:
    """Return an event, sometimes one that was sent before, with a number or without one."""
    earlier = number - rng.randrange(20) if rng.random() < 0.1 else number
    changes: dict[str, Any] = {"subject": f"org_{rng.randrange(30)}", "source": f"gateway/{rng.randrange(4)}"}
    if time is not None:
        changes["time"] = time
    if rng.random() < 0.5:
        changes["sequence"] = str(max(0, earlier))
    if rng.random() < 0.1:
        changes["data__tier"] = "trial"
    if rng.random() < 0.1:
        changes["data__model"] = "a model without a rate"
    changes["data__usage__prompt_tokens"] = rng.choice((0, 64, 200, 10**8))
    return event(f"e{earlier}", **changes)


def _change(rng: random.Random, at: dict[str, Any]) -> None:
    """Put something absurd in place of a field at any depth, or take the field away."""
    while True:
        name = rng.choice(sorted(at))
        inside = at[name]
        if not (isinstance(inside, dict) and inside and rng.random() < 0.7):
            break
        at = inside
    if rng.random() < 0.15:
        del at[name]
    else:
        at[name] = copy.deepcopy(rng.choice(ABSURD))
    if not at:
        at["left"] = None


def _cut(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with some of them lost, doubled or exchanged."""
    spoilt = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(spoilt) + 1)
        put = rng.choice(TOKENS) if rng.random() < 0.6 else rng.randbytes(rng.randrange(4))
        spoilt[at : at + rng.randrange(4)] = put
    if rng.random() < 0.1:
        del spoilt[rng.randrange(len(spoilt) + 1) :]
    return bytes(spoilt)
