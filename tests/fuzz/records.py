"""Post spoilt records of all kinds, and hold that nothing is raised, nothing is lost, and the books add up."""

from __future__ import annotations

import random
from collections import Counter

from pipeline.journal import LedgerRow, RequestRow, decode_rows
from pipeline.posting.unit import UnitOutput
from pipeline.topics import BILLING, MOVED, REQUESTS
from tests.fuzz.spoilt import spoilt_command, spoilt_events
from tests.support.builders import Books, Record, everything

RECORDS_A_UNIT = 400
RESTORED_EVERY = 25
PARTITIONS = 2


class Ledger:
    """The books once more, from the journal alone: what each org was debited and credited, in nano-rupees."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.balances: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def take(self, outcome: UnitOutput) -> int:
        """Take in what a unit posted; return how many requests that were."""
        posted = 0
        for record in outcome.journal:
            for row in decode_rows(record):
                if isinstance(row, RequestRow):
                    posted += 1
                    self.balances[row.org] -= row.cost_nano
                elif isinstance(row, LedgerRow):
                    self.balances[row.org] += row.amount_nano
        self.counts["requests posted"] += posted
        for letter in outcome.dead_letters:
            self.counts[f"dead letters: {letter.reason}"] += 1
        for name in ("events", "duplicates", "moved", "commands"):
            self.counts[name] += outcome.counts[name]
        return posted


def post(books: Books, rng: random.Random, number: int) -> tuple[str, UnitOutput, int]:
    """Post a unit of spoilt records; return its topic, its outcome and how many records it had."""
    topic = rng.choice((REQUESTS, REQUESTS, REQUESTS, REQUESTS, MOVED, BILLING))
    records: list[Record] = []
    for n in range(RECORDS_A_UNIT):
        value = spoilt_command(rng) if topic == BILLING else spoilt_events(rng, number + n)
        record = books.record(topic, value)
        if topic == BILLING and rng.random() < 0.1:
            record.headers = rng.choice(((), (("mac", rng.randbytes(20)),), (("mac", b"1.1." + b"0" * 64),)))
        records.append(record)
    return topic, books.post(records), len(records)


def problem(topic: str, outcome: UnitOutput, posted: int, records: int) -> str | None:
    """Return what of a unit's records is nowhere, None where each of them went somewhere."""
    counts, letters = outcome.counts, len(outcome.dead_letters)
    if topic == BILLING:
        told = len(outcome.replies) + letters
        return None if told == records else f"{records} commands, {told} answered or set aside"
    found = posted + counts["duplicates"] + counts["moved"] + letters
    return None if found == counts["events"] else f"{counts['events']} events, {found} of them found again"


def books_problem(books: Books, ledger: Ledger) -> str | None:
    """Return where state, journal and a restored state do not say the same, None where they do."""
    for org in books.state.orgs() | ledger.balances.keys():
        in_state, in_journal = books.balance_nano(org), ledger.balances[org]
        if in_state != in_journal:
            return f"{org!r}: {in_state} nano-rupees by the state, {in_journal} by the journal"
    return (
        None if everything(books.restore()) == everything(books.state) else "the state comes back another one"
    )


def fuzz(records: int, seed: int) -> tuple[Ledger, str | None]:
    """Post `records` records of a seed; return the account of it, and the first difference if there was one."""
    rng, books, ledger, done, units = random.Random(seed), Books(0, PARTITIONS), Ledger(), 0, 0
    while done < records:
        topic, outcome, count = post(books, rng, done)
        done, units = done + count, units + 1
        wrong = problem(topic, outcome, ledger.take(outcome), count)
        if wrong is None and (units % RESTORED_EVERY == 0 or done >= records):
            wrong = books_problem(books, ledger)
        if wrong is not None:
            return ledger, f"seed {seed}, unit {units} of {topic}: {wrong}"
    ledger.counts["records"] = done
    return ledger, None
