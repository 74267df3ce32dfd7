"""The rows of the book of record: their columns by name, type and order, and their public ids.

Owns: what a charged request and a money event are kept as. The order of the fields is the order of the columns in
the journal's records; each names its type in ClickHouse, whose tables `sql/migrations/` makes of them.
Called by: `posting/` makes rows, `journal/records.py` writes and reads them, `sink/` and `clickhouse/` name columns.

A new column goes to the end, with the default of its type: what was written before it then still reads as a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_type_hints

from msgspec import Meta, Struct

from pipeline.usage import NO_OTHERS, OTHER_CLASSES, REASONING_BESIDE, Counts

PARTITIONS_MAX = 1024
POSITION_MAX = 2**43 - 1

REQUESTS = "requests"
LEDGER = "ledger"


def _column(kind: str) -> Meta:
    """Return what a field says of its column: the type that ClickHouse keeps it as."""
    return Meta(extra={"clickhouse": kind})


Text = Annotated[str, _column("String")]
Word = Annotated[str, _column("LowCardinality(String)")]
"""A text of few values."""
Flag = Annotated[bool, _column("Bool")]
Id = Annotated[int, _column("UInt64")]
Instant = Annotated[int, _column("Int64")]
"""Milliseconds since 1970, UTC."""
Nano = Annotated[int, _column("Int64")]
"""Nano-rupees."""
Count = Annotated[int, _column("UInt32")]
"""Tokens, or milliseconds that something took."""


TOKEN_COLUMNS = ("prompt_tokens", "completion_tokens", "beside_tokens")
"""The columns whose sum is what answers call «tokens»: the others count parts of these."""


class RequestRow(Struct, array_like=True, gc=False):
    """A charged request.

    `status` is the HTTP status, 400 and above for one that failed. The counts of tokens are those of `usage.Counts`, a
    column for each class beside the first; `irregular` is its mark: what was counted beside, or 0. `rate_from_ms` names
    the route's rate by its start; 0 where the request was free. Absent texts are empty.
    """

    id: Id
    org: Text
    at_ms: Instant
    posted_ms: Instant
    source: Text
    event_id: Text
    key_id: Text
    tier: Word
    byok: Flag
    model: Word
    provider: Word
    status: Annotated[int, _column("UInt16")]
    error_code: Word
    latency_ms: Count
    ttft_ms: Annotated[int | None, _column("Nullable(UInt32)")]
    stream: Flag
    prompt_tokens: Count
    cached_tokens: Count
    completion_tokens: Count
    reasoning_tokens: Count
    cost_nano: Nano
    rate_from_ms: Instant
    cache_write_tokens: Count = 0
    audio_input_tokens: Count = 0
    audio_output_tokens: Count = 0
    irregular: Annotated[int, _column("UInt8")] = 0

    @property
    def counts(self) -> Counts:
        """What was charged: with the rate, all that the cost depends on."""
        others = tuple(getattr(self, each.column) for each in OTHER_CLASSES)
        return (
            self.prompt_tokens,
            self.cached_tokens,
            self.completion_tokens,
            self.reasoning_tokens,
            others if any(others) else NO_OTHERS,
            self.irregular,
        )

    @property
    def beside_tokens(self) -> int:
        """The reasoning that was counted beside the completion; a column that ClickHouse makes of two others."""
        return self.reasoning_tokens if self.irregular == REASONING_BESIDE else 0

    @property
    def tokens(self) -> int:
        """What answers call the request's tokens."""
        return sum(getattr(self, column) for column in TOKEN_COLUMNS)


class LedgerRow(Struct, array_like=True, gc=False):
    """A money event of an org: by how much its balance changed, and the balance after it. Absent texts are empty."""

    id: Id
    org: Text
    posted_ms: Instant
    kind: Word
    amount_nano: Nano
    balance_after_nano: Nano
    payment_id: Text
    order_id: Text
    promo_code: Text
    note: Text


Row = RequestRow | LedgerRow
ROW_TYPES: Mapping[str, type[Row]] = {REQUESTS: RequestRow, LEDGER: LedgerRow}


def _columns_of(row: type[Row]) -> dict[str, str]:
    hints = get_type_hints(row, include_extras=True)
    return {name: hints[name].__metadata__[0].extra["clickhouse"] for name in row.__struct_fields__}


COLUMNS: Mapping[str, Mapping[str, str]] = {kind: _columns_of(row) for kind, row in ROW_TYPES.items()}
"""By kind of row: the columns in order, each with its type in ClickHouse."""
REQUEST_COLUMNS = tuple(COLUMNS[REQUESTS])
LEDGER_COLUMNS = tuple(COLUMNS[LEDGER])


def public_id(partition: int, position: int) -> int:
    """Return the id that the outside sees of a row: 53 bits, rising with the position."""
    return position * PARTITIONS_MAX + partition


def position_of(row_id: int) -> tuple[int, int]:
    """Return the (partition, position) of a public id."""
    return row_id % PARTITIONS_MAX, row_id // PARTITIONS_MAX
