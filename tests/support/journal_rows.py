"""Journal rows for tests: seeded random requests, inserted as the sink does, and sums done the slow way.

Times favour the edges of IST days, and everything that can be equal sometimes is.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import structs

from pipeline import ist
from pipeline.clickhouse.client import Engine
from pipeline.events import FAILED_FROM
from pipeline.journal import (
    JSON_ARRAYS,
    JSON_COLUMNS,
    LEDGER,
    REQUESTS,
    JournalRecord,
    LedgerRow,
    RequestRow,
    Row,
    decode_rows,
    encode_rows,
    public_id,
)
from pipeline.usage import CACHE_BESIDE, CONTRADICTORY, REASONING_BESIDE, REGULAR
from tests.support.builders import NOW_MS

ORGS = ("org_a", "org_b")
MODELS = ("krutrim-2", "sarvam-m", 'odd "model"\\\n{, é', "byok-only")
PROVIDERS = ("krutrim", "sarvam", "e2e")


class Request(RequestRow, array_like=True, gc=False):
    """A row of the journal that knows what the answers show of it."""

    @property
    def day(self) -> str:
        """The IST day as an answer shows it."""
        return ist.date_of(ist.day_of(self.at_ms)).isoformat()

    @property
    def failed(self) -> bool:
        """Whether it counts as an error."""
        return self.status >= FAILED_FROM


_REQUEST: dict[str, Any] = {
    "posted_ms": NOW_MS,
    "source": "gateway/mum-1",
    "event_id": "e1",
    "key_id": "key_1",
    "tier": "standard",
    "byok": False,
    "model": "krutrim-2",
    "provider": "krutrim",
    "status": 200,
    "error_code": "",
    "latency_ms": 740,
    "ttft_ms": 120,
    "stream": True,
    "prompt_tokens": 200,
    "cached_tokens": 64,
    "completion_tokens": 112,
    "reasoning_tokens": 0,
    "cost_nano": 6_100_000,
    "rate_from_ms": 0,
}


def request(id: int, org: str, at_ms: int, **changes: Any) -> Request:  # noqa: A002 - the column's name
    """Return a served request; a test names only what it is about."""
    return Request(id=id, org=org, at_ms=at_ms, **{**_REQUEST, **changes})


def random_requests(
    seed: int, count: int, orgs: Sequence[str] = ORGS, now_ms: int = NOW_MS, days: int = 45
) -> list[Request]:
    """Return requests with rising ids, each org on a partition of its own."""
    rng = random.Random(seed)
    today = ist.day_of(now_ms)
    made = []
    for position in range(count):
        org = rng.choice(orgs)
        free = rng.random() < 0.2
        failed = rng.random() < 0.15
        prompt = rng.randrange(2_000)
        at_ms = ist.day_start_ms(today - rng.randrange(days)) + rng.choice(
            (0, 1, -1, ist.DAY_MS - 1, rng.randrange(ist.DAY_MS))
        )
        made.append(
            request(
                id=public_id(orgs.index(org), position),
                org=org,
                at_ms=min(at_ms, now_ms),
                posted_ms=now_ms,
                event_id=f"e{position}",
                key_id=f"{org}_key_{rng.randrange(13)}",
                tier=rng.choice(("standard", "trial")),
                byok=free and rng.random() < 0.5,
                model=rng.choice(MODELS),
                provider="" if failed and rng.random() < 0.5 else rng.choice(PROVIDERS),
                status=rng.choice((400, 429, 500)) if failed else 200,
                error_code="upstream" if failed else "",
                latency_ms=rng.randrange(5_000),
                ttft_ms=None if failed else rng.randrange(500),
                stream=rng.random() < 0.5,
                prompt_tokens=prompt,
                cached_tokens=rng.randrange(prompt + 1),
                completion_tokens=rng.randrange(1_000),
                cache_write_tokens=rng.choice((0, 0, rng.randrange(500))),
                audio_input_tokens=rng.choice((0, 0, rng.randrange(500))),
                audio_output_tokens=rng.choice((0, 0, rng.randrange(500))),
                reasoning_tokens=rng.choice((0, rng.randrange(500))),
                irregular=rng.choice((REGULAR, REGULAR, CONTRADICTORY, REASONING_BESIDE, CACHE_BESIDE)),
                cost_nano=0 if free or failed else rng.choice((1, 6_100_000, rng.randrange(10**10))),
            )
        )
    return made


def payload(requests: Iterable[Request]) -> bytes:
    """Return the rows as the journal's records hold them, one after the other."""
    return b"".join(record.value for record in encode_rows(REQUESTS, list(requests)))


def json_arrays(rows: Sequence[Row]) -> bytes:
    """Return rows as release 0.1.0 wrote them: a JSON array a line, of the columns that there were."""
    kind = REQUESTS if isinstance(rows[0], RequestRow) else LEDGER
    columns = len(JSON_COLUMNS[kind])
    return msgspec.json.Encoder().encode_lines([structs.astuple(row)[:columns] for row in rows])


def of_release_0_1_0(row: Request) -> Request:
    """Return a row as it is when it has nothing in the columns that came later."""
    return Request(*structs.astuple(row)[: len(JSON_COLUMNS[REQUESTS])])


def in_format(written_as: int, record: JournalRecord) -> JournalRecord:
    """Return a record as it would be in a format of the journal."""
    if written_as == record.format:
        return record
    assert written_as == JSON_ARRAYS
    return structs.replace(record, value=json_arrays(decode_rows(record)), format=JSON_ARRAYS)


def insert(engine: Engine, requests: Sequence[Request], token: str | None = None) -> None:
    """Insert rows as the sink does, each org's by itself, as an org has one partition."""
    for org in sorted({request.org for request in requests}):
        of_org = [request for request in requests if request.org == org]
        name = token or f"{org}-{of_org[0].id}-{of_org[-1].id}"
        engine.insert_blocks("events", payload(of_org), len(of_org), f"{name}-{org}")


def ledger_row(row_id: int, org: str, amount_nano: int, balance_after_nano: int) -> LedgerRow:
    """Return a row of the ledger."""
    return LedgerRow(
        row_id, org, NOW_MS, "topup", amount_nano, balance_after_nano, "pay_1", "order_1", "", ""
    )


def inr(cost_nano: int) -> Decimal:
    """Return nano-rupees in rupees."""
    return Decimal(cost_nano).scaleb(-9)
