"""The examples of docs/gateway-protocol.md are what the product's own code says."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from pipeline import contract
from pipeline.accounts.keys import decode_key, hash_key
from pipeline.accounts.verdicts import PROGRESS_KEY, Verdict, VerdictProgress, decode_record
from pipeline.events import decode_record as events_of
from pipeline.events import problem_of
from pipeline.gateway.admission.admission import Admission
from pipeline.gateway_book import GatewayKey
from pipeline.partitioning import murmur2, partition_of

TEXT = (contract.SCHEMAS.parent / "docs" / "gateway-protocol.md").read_text(encoding="utf-8")
NOW_MS = 1_781_289_000_000 - 1
"""Just before the key of the page expires."""


def example(name: str) -> bytes:
    """Return the JSON block of a name."""
    (found,) = re.findall(rf"```json {name}\n(.*?)```", TEXT, re.DOTALL)
    return str(found).encode()


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table whose heading begins so."""
    table = TEXT.partition(f"\n| {title} |")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def admission() -> Admission:
    """A gateway that has read the page's records."""
    made = Admission(lambda: NOW_MS, when_stale="closed", stale_after_ms=10_000, reservation_limit_ms=60_000)
    made.take_key(decode_key(example("key")))
    told = decode_record(b"org_1", example("verdict"))
    assert isinstance(told, Verdict)
    made.take_verdict(told)
    made.caught_up(NOW_MS)
    return made


def test_partitions() -> None:
    table = rows("org | murmur2")
    assert len(table) == 4
    for org, hashed, of_4, of_16 in table:
        assert [murmur2(org.encode()), partition_of(org, 4), partition_of(org, 16)] == [
            int(hashed),
            int(of_4),
            int(of_16),
        ]


def test_the_batch_is_valid_and_of_one_partition() -> None:
    events = events_of(example("batch"))
    assert events is not None
    assert [problem_of(event) for event in events] == [None, None]
    assert len({partition_of(event.subject, 16) for event in events}) == 2
    assert len({partition_of(event.subject, 4) for event in events}) == 1


def test_the_key_is_that_of_its_secret() -> None:
    key = decode_key(example("key"))
    (secret,) = re.findall(r"bearer token, here `(.+?)`", TEXT)
    assert key.hash == hash_key(secret)
    assert secret.startswith(key.prefix)
    found = admission().key_of_hash(hash_key(secret))
    assert found == key


def test_progress() -> None:
    assert decode_record(PROGRESS_KEY, example("progress")) == VerdictProgress(0, 42)


def test_answers() -> None:
    table = rows("org | key | tier")
    assert len(table) == 5
    for org, key_id, tier, byok, answer in table:
        refusal = admission().admit(org, key_id, tier, byok == "yes")
        assert (refusal.code if refusal else "admitted") == answer


def test_the_refusal_is_word_for_word() -> None:
    refusal = admission().admit("org_1", "key_1")
    assert refusal is not None
    told: dict[str, Any] = json.loads(example("refusal"))
    assert msgspec.json.decode(refusal.body()) == told
    assert refusal.retry_after is not None


def test_signed_records() -> None:
    table = rows("key | partition | value | mac")
    assert len(table) == 2
    for text, partition, value, mac in table:
        headers = GatewayKey.parse(text, "mum-1").headers(value.encode(), int(partition))
        assert headers == [("mac", mac.encode())]
