"""Books of several days for tests of the notary: rows, their days folded and signed, and proofs of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from pipeline import ist
from pipeline.catalog.rates import Rate, Tier
from pipeline.catalog.rating import cost_nano, is_free
from pipeline.journal import (
    LEDGER,
    REQUESTS,
    JournalRecord,
    LedgerRow,
    RequestRow,
    Row,
    encode_rows,
    public_id,
)
from pipeline.notary.chain import NOTHING, OrgState, RateKey, hash_of_rates, rate_key, rate_line
from pipeline.notary.checkpoint import NotaryKey, NotaryKeys, SignedCheckpoint
from pipeline.notary.day import OpenDay, PostedUpTo, ReadUpTo
from pipeline.notary.kept import DayChunk, DayTree, KeptCheckpoint, closed_day, path_in
from pipeline.notary.proof import FORMAT, MonthProof, ProofHead, SignedDay
from pipeline.statements import month_of
from tests.support.builders import NOTARY_KEY, rate
from tests.support.journal_rows import request

DEPLOYMENT = "metering/00000000000000000000000000000001"
OLD_SECRET = "notary-key-before-it-0123456789-01"
KEYS = NotaryKeys.parse(NOTARY_KEY)
ORG = "org_a"
RATES = (
    rate(
        from_ms=10**12,
        request_nano=50_000_000,
        tiers=(Tier(900, 9, 8, 7), Tier(500, 30_000, 5, 60_000, (1, 2, 3))),
    ),
    rate(from_ms=10**12, model='odd "model"\\\n{, é', input_nano=7, cached_nano=2, output_nano=9),
)
LINES: dict[RateKey, bytes] = {(each.model, each.provider, each.from_ms): rate_line(each) for each in RATES}


@dataclass
class Books:
    """A partition's rows, and what the notary made of their days."""

    rows: Sequence[Row]
    days: list[int]
    keys: NotaryKeys = KEYS
    rates: Mapping[RateKey, bytes] = field(default_factory=lambda: LINES)
    kept: dict[int, KeptCheckpoint] = field(default_factory=dict)
    trees: dict[int, DayTree] = field(default_factory=dict)

    def sign(self, keys: Mapping[int, NotaryKeys] | None = None) -> Books:
        """Close all days, each signed by its keys."""
        open_day = OpenDay(self.days[0], {0: ReadUpTo()})
        last: SignedCheckpoint | None = None
        records = list(records_of(self.rows))
        end = PostedUpTo(len(self.rows) + 1, ist.day_end_ms(self.days[-1]))
        for day in self.days:
            for offset, record in enumerate(records):
                if offset >= open_day.read[0].offset and not open_day.take(
                    0, record, offset, hash_of_rates(dict(self.rates))
                ):
                    break
            assert open_day.is_closed({0: end})
            kept, tree = closed_day((keys or {}).get(day, self.keys), DEPLOYMENT, open_day, None, last)
            self.kept[day], self.trees[day], last = kept, tree, kept.checkpoint
            open_day = open_day.next()
        return self

    def state(self, org: str, day: int) -> OrgState:
        """Return what is known of an org at the end of a day."""
        for chunk in self.trees[day].chunks if day in self.trees else ():
            for each in chunk:
                if each.org == org:
                    return each.state
        return NOTHING

    def signed_day(self, org: str, day: int) -> SignedDay:
        """Return a day as a proof of an org has it."""
        tree, kept = self.trees[day], self.kept[day]
        for chunk in tree.chunks:
            for each in chunk:
                if each.org == org:
                    index = tree.index([0] * len(tree.chunks), {})
                    path = path_in(kept.secret, each, DayChunk(chunk), index)
                    return SignedDay(kept.checkpoint, (each.state, path))
        return SignedDay(kept.checkpoint, None)

    def proof(self, org: str, month: str) -> bytes:
        """Return the proof of an org's month."""
        number = month_of(month)
        assert number is not None
        first, below = ist.day_of(ist.month_start_ms(number)), ist.day_of(ist.month_end_ms(number))
        rows = [row for row in self.rows if row.org == org and first <= ist.day_of(row.posted_ms) < below]
        handovers = tuple(
            kept.checkpoint.handover for kept in self.kept.values() if kept.checkpoint.handover is not None
        )
        opening = self.state(org, first - 1)
        newest = self.kept[max(self.kept)].checkpoint.key if self.kept else None
        head = ProofHead(
            *(FORMAT, DEPLOYMENT, org, month, newest, handovers),
            *(opening.rows, opening.balance_nano, opening.hash.hex()),
        )
        paid = {rate_key(row) for row in rows if isinstance(row, RequestRow) and not is_free(row)}
        proof = MonthProof(head, {key: self.rates[key] for key in paid})
        days = [self.signed_day(org, day) for day in sorted(self.kept) if first - 1 <= day < below]
        return proof.begin() + proof.rows(rows) + proof.finish(days)


def records_of(rows: Sequence[Row]) -> Iterator[JournalRecord]:
    """Yield the journal's records of rows, each as long as the kind stays the same."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or type(rows[end]) is not type(rows[start]) or end - start == 7:
            kind = LEDGER if isinstance(rows[start], LedgerRow) else REQUESTS
            yield from encode_rows(kind, rows[start:end])
            start = end


def books(
    first: str, days: int, rows_a_day: int, *, orgs: int = 3, seed: int = 1, partition: int = 0
) -> Books:
    """Return books of random rows of some orgs over some days of posting."""
    rng = random.Random(seed)
    start_ms = ist.day_start_ms(ist.day_of_date(date.fromisoformat(first)))
    names = [ORG, *(f"org_{number}" for number in range(1, orgs))]
    balances = dict.fromkeys(names, 0)
    rows: list[Row] = []
    for day in range(days):
        stamps = sorted(rng.randrange(ist.DAY_MS) for _ in range(rows_a_day))
        for stamp in stamps:
            org, row_id = rng.choice(names), public_id(partition, len(rows) + 1)
            posted_ms = start_ms + day * ist.DAY_MS + stamp
            row: Row
            if rng.random() < 0.2:
                amount = rng.randrange(-(10**12), 10**12)
                balances[org] += amount
                row = LedgerRow(
                    *(row_id, org, posted_ms, "correction", amount, balances[org]),
                    *("pay_1", "order_1", "", 'a "note" \n é\x7f\x01'),
                )
            else:
                row = _request(rng, row_id, org, posted_ms)
                balances[org] -= row.cost_nano
            rows.append(row)
    first_day = ist.day_of(start_ms)
    return Books(rows, list(range(first_day, first_day + days)))


def _request(rng: random.Random, row_id: int, org: str, posted_ms: int) -> RequestRow:
    by: Rate = rng.choice(RATES)
    prompt, completion = rng.randrange(1_000), rng.randrange(1_000)
    cached, reasoning = rng.randrange(prompt + 1), rng.randrange(completion + 1)
    written = rng.randrange(prompt - cached + 1)
    irregular = rng.choice((0, 0, 0, 1, 2, 3))
    free = rng.random() < 0.2
    counts = (prompt, cached, completion, reasoning, (written, 0, rng.randrange(completion + 1)), irregular)
    return RequestRow(
        **{
            name: getattr(
                request(
                    row_id,
                    org,
                    posted_ms - rng.randrange(3 * ist.DAY_MS),
                    posted_ms=posted_ms,
                    event_id=f"e{row_id}",
                    model=by.model,
                    provider=by.provider,
                    byok=free,
                    ttft_ms=rng.choice((None, 120)),
                    prompt_tokens=prompt,
                    cached_tokens=cached,
                    completion_tokens=completion,
                    reasoning_tokens=reasoning,
                    cache_write_tokens=written,
                    audio_output_tokens=counts[4][2],
                    irregular=irregular,
                    cost_nano=0 if free else cost_nano(by, *counts),
                    rate_from_ms=0 if free else by.from_ms,
                ),
                name,
            )
            for name in RequestRow.__struct_fields__
        }
    )


def old_keys() -> NotaryKeys:
    """Return the keys before a rotation."""
    return NotaryKeys([NotaryKey(OLD_SECRET)])


def both_keys() -> NotaryKeys:
    """Return the keys while a rotation is under way."""
    return NotaryKeys.parse(f"{NOTARY_KEY}, {OLD_SECRET}")
