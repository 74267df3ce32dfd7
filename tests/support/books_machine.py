"""The books, driven at random beside a naive second set of books that must agree after every unit.

Two partitions; events new, published again, misplaced, unpriced, late, free; commands; the clock over the
turns of months and of a year; crashes at a unit's end and in its midst, restored from the state topic.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, pairwise
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from pipeline import ist
from pipeline.accounts import verdicts
from pipeline.accounts.commands import ChangeKey, CreateKey, Credit, SignUp, decode_reply
from pipeline.accounts.verdicts import Verdict
from pipeline.catalog.apply import ANNOUNCED_MS, plan
from pipeline.catalog.rates import Rate
from pipeline.journal import decode_rows
from pipeline.partitioning import partition_of
from pipeline.posting.unit import UnitOutput
from pipeline.topics import MOVED, REQUESTS
from tests.support.builders import Books, Record, event, everything, rate, rate_table, time_text
from tests.support.oracle import Oracle, Price

PARTITIONS = 2
ORGS = ["org_1", "org_2", "org_3", "org_4"]
KEYS = ["key_a", "key_b"]
STARTS = [
    datetime(2026, 6, 30, 18, 29, 59, tzinfo=UTC),
    datetime(2026, 12, 31, 18, 29, 58, tzinfo=UTC),
    datetime(2028, 2, 29, 18, 25, tzinfo=UTC),
]
FLAVOURS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fallback": {"data__provider": "e2e"},
    "byok": {"data__byok": True, "data__model": "gpt-0"},
    "trial": {"data__tier": "trial"},
    "failed": {"data__status": 502, "data__usage": None, "data__provider": None},
    "unpriced": {"data__model": "newcomer"},
    "invalid": {"data__usage": None},
}
NEW_EVENTS = st.fixed_dictionaries(
    {
        "flavour": st.sampled_from([*FLAVOURS, "plain", "plain"]),
        "org": st.sampled_from(ORGS),
        "key": st.sampled_from(KEYS),
        "ago_ms": st.sampled_from(
            [0, 1, 999, 61_000, ist.DAY_MS, 34 * ist.DAY_MS, 36 * ist.DAY_MS, -590_000, -700_000]
        ),
        "prompt": st.integers(0, 10**6),
        "cached_share": st.integers(0, 4),
        "completion": st.integers(0, 10**6),
        "beside": st.sampled_from([0, 0, 1, 10**5]),
        "source": st.sampled_from(["plain-1", "numbered-1", "numbered-2"]),
    }
)


def rupees(nano: int) -> Decimal:
    """Return nano-rupees as rupees."""
    return Decimal(nano).scaleb(-9)


def moment(at_ms: int) -> datetime:
    """Return an instant in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


class BooksMachine(RuleBasedStateMachine):
    """The two partitions, the oracle, and what travels between them."""

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: datetime) -> None:
        """Start with two routes priced."""
        self.now_ms = ist.ms_of(start)
        self.rates = rate_table(rate(), rate(provider="e2e", input_nano=14_000, cached_nano=14_000))
        epoch = moment(0)
        self.oracle = Oracle(
            [
                Price(("krutrim-2", "krutrim"), epoch, Decimal("12.5"), Decimal("3.125"), Decimal(50)),
                Price(("krutrim-2", "e2e"), epoch, Decimal(14), Decimal(14), Decimal(50)),
            ]
        )
        self.books = [Books(n, PARTITIONS, self.rates) for n in range(PARTITIONS)]
        self.made: list[tuple[dict[str, Any], int]] = []
        self.under_way: list[tuple[int, bytes]] = []
        self.unpriced: list[bytes] = []
        self.rows: list[list[dict[str, Any]]] = [[] for _ in range(PARTITIONS)]
        self.numbers = dict.fromkeys(("numbered-1", "numbered-2"), 0)
        self.commands = 0
        self.serial = count()
        self.crash_next = False
        self.told: dict[str, Verdict] = {}

    @rule(events=st.lists(NEW_EVENTS, min_size=1, max_size=4), misplaced=st.booleans())
    def publish(self, events: list[dict[str, Any]], misplaced: bool) -> None:
        """Publish new events, as one array to the partition of the first, or to the wrong one."""
        made = [self._make(**fields) for fields in events]
        partition = partition_of(made[0]["subject"], PARTITIONS)
        if misplaced:
            partition = 1 - partition
        self.made += [(each, partition) for each in made]
        self._deliver(partition, REQUESTS, made)

    @precondition(lambda self: self.made)
    @rule(data=st.data(), elsewhere=st.booleans())
    def publish_again(self, data: st.DataObject, elsewhere: bool) -> None:
        """Publish earlier events again, to the partition they were sent to or to the other one."""
        picked = data.draw(st.lists(st.sampled_from(self.made), min_size=1, max_size=3))
        for each, partition in picked:
            self._deliver(1 - partition if elsewhere else partition, REQUESTS, [each])

    @precondition(lambda self: self.under_way)
    @rule()
    def deliver_moved(self) -> None:
        """Deliver what was moved."""
        under_way, self.under_way = self.under_way, []
        for partition, value in under_way:
            self._deliver(partition, MOVED, [json.loads(value)])

    @precondition(lambda self: self.unpriced)
    @rule()
    def price_and_redrive(self) -> None:
        """Price the newcomer and send its dead letters in again, twice each."""
        if not self.rates.of_route(("newcomer", "krutrim")):
            newcomer = Rate("newcomer", "krutrim", 0, 1, 1, 2)
            for each in plan(self.rates, [newcomer], self.now_ms):
                self.rates.add(each)
            prices = Decimal("0.001"), Decimal("0.001"), Decimal("0.002")
            self.oracle.prices.append(Price(("newcomer", "krutrim"), moment(0), *prices))
        letters, self.unpriced = self.unpriced, []
        for value in letters * 2:
            redriven = json.loads(value)
            self._deliver(partition_of(redriven["subject"], PARTITIONS), MOVED, [redriven])

    @rule(input_nano=st.integers(0, 10**6))
    def announce_a_rate(self, input_nano: int) -> None:
        """Announce another rate as early as the catalog takes it: no event can have been charged beyond it."""
        later = rate(from_ms=self.now_ms + ANNOUNCED_MS, input_nano=input_nano)
        for each in plan(self.rates, [later], self.now_ms):
            self.rates.add(each)
            prices = rupees(input_nano * 10**6), Decimal("3.125"), Decimal(50)
            self.oracle.prices = [p for p in self.oracle.prices if p.start != moment(each.from_ms)]
            self.oracle.prices.append(Price(("krutrim-2", "krutrim"), moment(each.from_ms), *prices))

    @rule(org=st.sampled_from(ORGS), amount_nano=st.integers(-(10**12), 10**12).filter(bool))
    def credit(self, org: str, amount_nano: int) -> None:
        """Credit or correct, the command sent twice."""
        self.oracle.credits[org].append(rupees(amount_nano))
        self._command(Credit(id=self._command_id(), org=org, amount_nano=amount_nano, reason="r"))

    @rule(org=st.sampled_from(ORGS))
    def sign_up(self, org: str) -> None:
        """Sign up, perhaps again."""
        if not self.oracle.credits.get(f"signed up {org}"):
            self.oracle.credits[f"signed up {org}"].append(Decimal(1))
            self.oracle.credits[org].append(Decimal(100))
        self._command(SignUp(id=self._command_id(), org=org, name="n", email="e@example.in"))

    @rule(
        org=st.sampled_from(ORGS),
        key=st.sampled_from(KEYS),
        budget_nano=st.none() | st.integers(0, 10**11),
        daily_limit=st.none() | st.integers(1, 4),
    )
    def set_key(self, org: str, key: str, budget_nano: int | None, daily_limit: int | None) -> None:
        """Register a key, or change its limits."""
        self.oracle.budgets.pop((org, key), None)
        self.oracle.daily_limits.pop((org, key), None)
        if budget_nano is not None:
            self.oracle.budgets[org, key] = rupees(budget_nano)
        if daily_limit is not None:
            self.oracle.daily_limits[org, key] = daily_limit
        if key in self._books_of(org).state.account(org).profile.keys:
            self._command(
                ChangeKey(self._command_id(), org, key, budget_nano=budget_nano, daily_limit=daily_limit)
            )
        else:
            create = CreateKey(
                self._command_id(), org, key, key, "p", "h", budget_nano=budget_nano, daily_limit=daily_limit
            )
            self._command(create)

    @rule(by_ms=st.sampled_from([1, 1_000, 60_000, 3_600_000, ist.DAY_MS, 40 * ist.DAY_MS]))
    def pass_time(self, by_ms: int) -> None:
        """Let the broker's clock go on."""
        self.now_ms += by_ms

    @rule()
    def go_to_the_turn_of_the_month(self) -> None:
        """Let the clock stand a millisecond before the next IST month."""
        self.now_ms = ist.month_end_ms(ist.month_of(self.now_ms)) - 1

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def crash(self, partition: int) -> None:
        """Restore a partition from its state topic: it must be what it was."""
        books = self.books[partition]
        restored = books.restore()
        assert everything(restored) == everything(books.state)
        books.state = restored

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def lose_the_state(self, partition: int) -> None:
        """Make a partition's state again from its journal: what it knows of money is the same, and it goes on."""
        books = self.books[partition]
        before = everything(books.state)
        books.state = books.rebuilt()
        after = everything(books.state)
        same = ("meta", "last", "seen", "money", "answers", "unpriced")
        assert [after[name] for name in same] == [before[name] for name in same]
        # What was only passed on is in no row. It is passed on again, and a duplicate where it belongs.
        passed_on = self.oracle.passed_on
        self.oracle.passed_on = {at: passed for at, passed in passed_on.items() if at[0] != partition}

    @rule()
    def crash_in_the_next_unit(self) -> None:
        """Have the next unit fail before it commits, and be done again after a restore."""
        self.crash_next = True

    @invariant()
    def balances_agree(self) -> None:
        """I1: credits less debits, to the nano-rupee, for each org."""
        for org in ORGS:
            spending = self._books_of(org).state.account(org).spending
            assert rupees(spending.balance_nano) == self.oracle.balance(org)

    @invariant()
    def budgets_agree(self) -> None:
        """I5: what a key spent in this and the last month, and how often it was used today."""
        month = ist.month_of(self.now_ms)
        before = ist.month_of(ist.month_start_ms(month) - 1)
        today = ist.date_of(ist.day_of(self.now_ms)).strftime("%Y%m%d")
        for org in ORGS:
            used = self._books_of(org).state.account(org).spending.keys
            for key in KEYS:
                months = used[key].months if key in used else {}
                days = used[key].days if key in used else {}
                for each in (month, before):
                    assert rupees(months.get(each, 0)) == self.oracle.spent[org, key, str(each)]
                assert days.get(ist.day_of(self.now_ms), 0) == self.oracle.requests[org, key, today]

    @invariant()
    def each_event_is_journalled_once(self) -> None:
        """I2 and I8: every charged (source, id) has one row, and ids rise without a gap between rows."""
        rows = [row for journal in self.rows for row in journal]
        found = {(row["source"], row["event_id"]): rupees(row["cost_nano"]) for row in rows}
        assert len(found) == len(rows)
        assert found == self.oracle.charged
        for journal in self.rows:
            assert all(before["id"] < after["id"] for before, after in pairwise(journal))

    def _books_of(self, org: str) -> Books:
        return self.books[partition_of(org, PARTITIONS)]

    def _command_id(self) -> str:
        self.commands += 1
        return str(self.commands)

    def _make(self, **fields: Any) -> dict[str, Any]:
        prompt = fields["prompt"]
        made = event(
            f"e{next(self.serial)}",
            source=fields["source"],
            subject=fields["org"],
            time=time_text(self.now_ms - fields["ago_ms"]),
            data__key_id=fields["key"],
            data__usage={
                "prompt_tokens": prompt,
                "completion_tokens": fields["completion"],
                "total_tokens": prompt + fields["completion"] + fields["beside"],
                "prompt_tokens_details": {"cached_tokens": prompt * fields["cached_share"] // 4},
                "completion_tokens_details": {"reasoning_tokens": fields["beside"]},
            },
        )
        flavour = copy.deepcopy(FLAVOURS[fields["flavour"]])
        made["data"].update({path.removeprefix("data__"): value for path, value in flavour.items()})
        if fields["source"] in self.numbers:
            self.numbers[fields["source"]] += 1
            made["sequence"] = f"{self.numbers[fields['source']]:020d}"
        return made

    def _deliver(self, partition: int, topic: str, events: list[dict[str, Any]]) -> None:
        moved = topic == MOVED
        expected = [
            self.oracle.read(
                each, partition, partition_of(each["subject"], PARTITIONS), moment(self.now_ms), moved=moved
            )
            for each in events
        ]
        books = self.books[partition]
        outcome = self._unit(books, books.record(topic, json.dumps(events).encode(), self.now_ms))
        assert outcome.counts["events"] == len(events)
        assert outcome.counts["duplicates"] == expected.count("duplicate")
        assert outcome.counts["moved"] == len(outcome.moved) == expected.count("moved")
        assert [x.reason for x in outcome.dead_letters] == [
            x for x in expected if x not in ("charged", "duplicate", "moved")
        ]
        posted = [structs.asdict(row) for record in outcome.journal for row in decode_rows(record)]
        assert len(posted) == expected.count("charged")
        self.rows[partition] += posted
        self.under_way += [(each.partition, each.value) for each in outcome.moved]
        self.unpriced += [x.value for x in outcome.dead_letters if x.reason == "unpriced"]
        self._hear(outcome, {str(row["org"]) for row in posted})

    def _command(self, command: Any) -> None:
        books = self._books_of(command.org)
        value = msgspec.json.encode(command)
        answers = []
        for _ in range(2):
            outcome = self._unit(books, books.record("metering.billing", value, self.now_ms))
            [reply] = [decode_reply(each) for each in outcome.replies]
            assert reply.refusal is None
            answers.append(bytes(reply.result))
            self._hear(outcome, {command.org})
        assert answers[0] == answers[1]

    def _unit(self, books: Books, record: Record) -> UnitOutput:
        if self.crash_next:
            self.crash_next = False
            before = dict(books.topic), dict(books.beside), list(books.journal)
            lost = books.post([record])
            books.topic, books.beside, books.journal = before
            books.state = books.restore()
            outcome = books.post([record])
            assert _but_progress(outcome) == _but_progress(lost)
            return outcome
        return books.post([record])

    def _hear(self, outcome: UnitOutput, touched: set[str]) -> None:
        """Gateways must refuse whom they should, and never believe in more than there is."""
        for key, value in outcome.verdicts:
            verdict = verdicts.decode_record(key, value)
            if isinstance(verdict, Verdict):
                self.told[verdict.org] = verdict
        for org in touched:
            told, at_ms = self.told[org], self._books_of(org).state.meta.posted_ms
            refused = {(r.key_id, r.code) for r in told.refused if r.from_ms <= at_ms < r.until_ms}
            assert refused == self.oracle.refused(org, moment(at_ms))
            balance = self.oracle.balance(org)
            assert rupees(verdicts.floor_nano(told.balance_nano)) <= balance <= rupees(told.balance_nano)


def _but_progress(output: UnitOutput) -> UnitOutput:
    """Return what a unit writes without the record of progress: a new owner tells it anew, whether or not it was told."""
    told = [(key, value) for key, value in output.verdicts if key != verdicts.PROGRESS_KEY]
    return replace(output, verdicts=told)
