"""Statements and past balances over the real engine, against sums done row by row.

The accounts' owner is played by the rows themselves; tests/product has the real one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from pipeline import ist
from pipeline.accounts.commands import View
from pipeline.accounts.results import AccountView
from pipeline.api.server.app import create_app
from pipeline.api.services.accounts import AccountServices
from pipeline.api.services.context import AppContext
from pipeline.clickhouse import fill
from pipeline.clickhouse.client import Engine
from pipeline.journal import LEDGER, PARTITIONS_MAX, LedgerRow, encode_rows, public_id
from pipeline.settings import Settings
from tests.support.api.client import SECRET, Api
from tests.support.builders import NOW_MS, rate_table
from tests.support.journal_rows import Request, inr, insert, request

ORG = "org_a"
START_MS = ist.month_start_ms(202603)


@dataclass
class Books:
    """An org's rows in the order of their ids, and what its owner says of it."""

    rows: list[Request | LedgerRow] = field(default_factory=list)
    next_id: int | None = None

    def balance_nano(self, at_ms: int) -> int:
        return sum(
            row.amount_nano if isinstance(row, LedgerRow) else -row.cost_nano
            for row in self.rows
            if row.posted_ms <= at_ms
        )

    async def ask(self, command: View) -> AccountView:
        next_id = (
            self.rows[-1].id + PARTITIONS_MAX if self.rows and self.next_id is None else self.next_id or 1024
        )
        return AccountView(
            *(command.org, "", "", True, self.balance_nano(NOW_MS), 0, None, None, []), next_id, NOW_MS
        )


def made(seed: int, count: int) -> Books:
    """Return postings of four months, a ledger entry among twenty of them; requests are up to 35 days older, or 9 minutes ahead."""
    rng, books, at_ms = random.Random(seed), Books(), START_MS
    for position in range(1, count + 1):
        at_ms += rng.choice((0, 0, 1, rng.randrange(2 * (NOW_MS - START_MS) // count)))
        row_id = public_id(0, position)
        if rng.random() < 0.05:
            amount_nano = rng.choice((10**11, -(10**9), rng.randrange(10**12)))
            after_nano = books.balance_nano(at_ms) + amount_nano
            books.rows.append(LedgerRow(row_id, ORG, at_ms, "topup", amount_nano, after_nano, "", "", "", ""))
            continue
        books.rows.append(
            request(
                row_id,
                ORG,
                at_ms - rng.choice((0, -540_000, rng.randrange(35 * ist.DAY_MS))),
                posted_ms=at_ms,
                key_id=f"key_{rng.randrange(3)}",
                model=rng.choice(("krutrim-2", "sarvam-m")),
                cost_nano=rng.choice((0, 1, rng.randrange(10**10))),
            )
        )
    return books


def put(engine: Engine, books: Books) -> None:
    insert(engine, [row for row in books.rows if isinstance(row, Request)])
    ledger = [row for row in books.rows if isinstance(row, LedgerRow)]
    engine.insert_blocks("ledger", b"".join(r.value for r in encode_rows(LEDGER, ledger)), len(ledger), "l")


@pytest.fixture
def books(engine: Engine) -> Books:
    found = made(5, 1_200)
    put(engine, found)
    insert(engine, [request(public_id(1, 1), "org_b", NOW_MS - 9, posted_ms=NOW_MS - 9, cost_nano=77)])
    return found


def serving(engine: Engine, books: Books, **settings: Any) -> Iterator[Api]:
    context = AppContext(
        database=engine,
        key_names={},
        rates=rate_table(),
        session_secret=SECRET,
        now_ms=lambda: NOW_MS,
        accounts=cast("AccountServices", books),
        settings=Settings(**settings) if settings else None,
    )
    with TestClient(create_app(context), client=("127.0.0.1", 50_000)) as client:
        yield Api(client, context)


@pytest.fixture
def served(engine: Engine, books: Books) -> Iterator[Api]:
    yield from serving(engine, books)


def test_the_balance_at_any_instant_is_what_was_posted_up_to_it(served: Api, books: Books) -> None:
    rng = random.Random(6)
    instants = [rng.choice(books.rows).posted_ms + rng.choice((-1, 0, 1)) for _ in range(60)]
    days = [ist.day_start_ms(ist.day_of(rng.choice(instants))) for _ in range(20)]
    instants += [start_ms + rng.choice((-1, 0)) for start_ms in days]
    for at_ms in (START_MS - 1, ist.month_end_ms(202604), *instants):
        answer = served.get("/me/balance", ORG, at=ist.isoformat(at_ms))
        assert answer == {"at": ist.isoformat(at_ms), "balance_inr": inr(books.balance_nano(at_ms))}


def test_of_the_days_between_no_row_is_read(engine: Engine, books: Books) -> None:
    """What is told of them is in the roll-up: here their rows are gone."""
    requests = [row for row in books.rows if isinstance(row, Request)]
    entries = [row for row in books.rows if isinstance(row, LedgerRow)]
    row, entry = next(
        (row, other)
        for one, other in pairwise(entries)
        for row in requests
        if one.id < row.id < other.id
        and ist.day_of(one.posted_ms) < ist.day_of(row.posted_ms) < ist.day_of(other.posted_ms) - 1
        and row.cost_nano
        and row.day[:7] == ist.isoformat(row.posted_ms)[:7]
    )
    at = ist.isoformat(entry.posted_ms - 1)
    engine.command(f"ALTER TABLE events DELETE WHERE id = {row.id} SETTINGS mutations_sync = 2")
    for api in serving(engine, books):
        assert api.get("/me/balance", ORG, at=at)["balance_inr"] == inr(
            books.balance_nano(entry.posted_ms - 1)
        )
        api.get("/me/statements", ORG)
        api.get(f"/me/statements/{at[:7]}", ORG)


def test_what_is_newer_than_the_owners_answer_is_in_none_of_ours(engine: Engine, books: Books) -> None:
    newest = books.rows[-1].id
    of = ((NOW_MS - 1, 1), (NOW_MS - 40 * ist.DAY_MS, 2), (NOW_MS + 540_000, 3))
    for at_ms, number in of:
        row_id = newest + number * PARTITIONS_MAX
        insert(engine, [request(row_id, ORG, at_ms, posted_ms=NOW_MS, cost_nano=10**number)])
    now = inr(books.balance_nano(NOW_MS))
    for api in serving(engine, books):
        assert api.get("/me/statements", ORG)["statements"][0]["closing_inr"] == now
        assert api.get("/me/statements/2026-06", ORG)["closing_inr"] == now
        assert api.get("/me/balance", ORG, at=ist.isoformat(NOW_MS - 1))["balance_inr"] == now


def test_nothing_is_told_before_the_roll_up_has_the_rows_from_before_it(
    engine: Engine, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.api.services.history.ROWS_LIMIT_S", 0.2)
    engine.command("TRUNCATE TABLE filled_roll_ups")
    for api in serving(engine, books):
        assert api.refused("/me/statements", ORG) == (503, "unavailable", None)
        assert api.refused("/me/balance", ORG, at="2026-05-01T00:00:00Z") == (503, "unavailable", None)
        fill.fill(engine, 0, len(books.rows))
        api.get("/me/balance", ORG, at="2026-05-01T00:00:00Z")


def test_a_row_that_the_roll_up_lacks_is_waited_for(
    engine: Engine, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view is fed a moment after its table."""
    monkeypatch.setattr("pipeline.api.services.history.ROWS_LIMIT_S", 0.2)
    row_id = books.rows[-1].id + PARTITIONS_MAX
    books.rows.append(request(row_id, ORG, NOW_MS - 1, posted_ms=NOW_MS - 1, cost_nano=5))
    engine.command("DETACH TABLE posted_day_feed SYNC")
    insert(engine, [row for row in books.rows[-1:] if isinstance(row, Request)], "late")
    engine.command("ATTACH TABLE posted_day_feed")
    for api in serving(engine, books):
        assert api.refused("/me/balance", ORG, at=ist.isoformat(NOW_MS - 1)) == (503, "unavailable", None)
        insert(engine, [row for row in books.rows[-1:] if isinstance(row, Request)], "late")
        told = api.get("/me/balance", ORG, at=ist.isoformat(NOW_MS - 1))
        assert told["balance_inr"] == inr(books.balance_nano(NOW_MS - 1))


def test_every_month_follows_and_each_statement_adds_up(served: Api, books: Books) -> None:
    lines = served.get("/me/statements", ORG)["statements"]
    assert [line["month"] for line in lines] == ["2026-06", "2026-05", "2026-04", "2026-03"]
    assert [line["closed"] for line in lines] == [False, True, True, True]
    closing = Decimal(0)
    for line in lines[::-1]:
        statement = served.get(f"/me/statements/{line['month']}", ORG)
        assert {name: statement[name] for name in line} == line
        assert line["opening_inr"] == closing
        closing = line["closing_inr"]
        assert line["opening_inr"] + line["credits_inr"] - line["debits_inr"] == closing
        assert sum(entry["amount_inr"] for entry in statement["entries"]) == line["credits_inr"]
        assert sum(debit["cost_inr"] for debit in statement["debits"]) == line["debits_inr"]
        month = int(line["month"].replace("-", ""))
        within = [
            row
            for row in books.rows
            if isinstance(row, Request)
            and ist.month_start_ms(month) <= row.posted_ms < ist.month_end_ms(month)
        ]
        assert sum(debit["requests"] for debit in statement["debits"]) == len(within)
        assert {debit["day"] for debit in statement["debits"]} == {row.day for row in within}
    assert closing == inr(books.balance_nano(NOW_MS))


def test_a_closed_month_stays_as_it_is_when_a_late_request_is_charged(engine: Engine, books: Books) -> None:
    for api in serving(engine, books):
        before = api.get("/me/statements/2026-05", ORG)
    late = request(
        books.rows[-1].id + PARTITIONS_MAX,
        ORG,
        ist.month_end_ms(202605) - ist.DAY_MS,
        posted_ms=NOW_MS - 1,
        cost_nano=123,
    )
    insert(engine, [late])
    books.rows.append(late)
    for api in serving(engine, books):
        assert api.get("/me/statements/2026-05", ORG) == before
        assert late.day in {debit["day"] for debit in api.get("/me/statements/2026-06", ORG)["debits"]}


def test_as_a_file_and_as_a_page(served: Api) -> None:
    headers = {"Authorization": f"Bearer {served.token(ORG)}"}
    path = "/me/statements/2026-05"
    csv = served.client.get(path, headers={**headers, "Accept": "text/csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    assert "statement_org_a_2026-05.csv" in csv.headers["content-disposition"]
    amounts = [Decimal(line.rpartition(",")[2]) for line in csv.text.splitlines()[1:]]
    assert sum(amounts[:-1]) == amounts[-1]
    linked = served.client.get(f"{path}?as=csv", headers={**headers, "Accept": "text/html"})
    assert linked.text == csv.text
    page = served.client.get(path, headers={**headers, "Accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html") and "May 2026" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("month", "told"),
    [
        ("2026-07", (404, "not_found", None)),
        ("2026-13", (400, "invalid_request", "month")),
        ("june", (400, "invalid_request", "month")),
    ],
)
def test_a_month_that_is_not_there_or_none_is_told(
    served: Api, month: str, told: tuple[int, str, str | None]
) -> None:
    assert served.refused(f"/me/statements/{month}", ORG) == told


@pytest.mark.parametrize("at", ["yesterday", "1969-12-31T00:00:00Z", "2099-01-01T00:00:00Z", "", None])
def test_what_is_no_past_instant_is_told(served: Api, at: str | None) -> None:
    named = {} if at is None else {"at": at}
    assert served.refused("/me/balance", ORG, **named) == (400, "invalid_request", "at")


def test_a_plus_sign_in_an_address_may_stand_as_it_is(served: Api) -> None:
    headers = {"Authorization": f"Bearer {served.token(ORG)}"}
    answer = served.client.get("/me/balance?at=2026-05-01T00:00:00+05:30", headers=headers)
    assert answer.json()["at"] == "2026-05-01T00:00:00.000+05:30"


def test_before_the_first_posting_a_month_is_empty_and_the_balance_is_0(served: Api) -> None:
    assert served.get("/me/balance", ORG, at="2025-01-01T00:00:00+05:30")["balance_inr"] == 0
    early = served.get("/me/statements/2025-01", ORG)
    assert (early["opening_inr"], early["entries"], early["debits"], early["closing_inr"]) == (0, [], [], 0)
    nobodys = served.get("/me/statements", "org_nobody")
    assert nobodys == {"as_of": ist.isoformat(NOW_MS), "statements": []}


def test_an_instant_whose_rows_are_not_all_there_is_not_told(
    engine: Engine, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.api.services.history.ROWS_LIMIT_S", 0.2)
    books.next_id = books.rows[-1].id + 2 * PARTITIONS_MAX
    for api in serving(engine, books):
        for path in ("/me/statements", "/me/statements/2026-05"):
            assert api.refused(path, ORG) == (503, "unavailable", None)
        assert api.refused("/me/balance", ORG, at="2026-05-01T00:00:00Z") == (503, "unavailable", None)
        books.next_id = None
        api.get("/me/balance", ORG, at="2026-05-01T00:00:00Z")
        # What was complete once stays complete: nobody is asked about it again.
        books.next_id = books.rows[-1].id + 2 * PARTITIONS_MAX
        api.get("/me/balance", ORG, at="2026-05-01T00:00:00Z")
        assert api.get("/me/statements/2026-05", ORG)["closed"]
        assert api.refused("/me/statements/2026-06", ORG) == (503, "unavailable", None)


def test_rows_that_are_missing_are_noticed(engine: Engine, books: Books) -> None:
    newest = [row for row in books.rows if isinstance(row, LedgerRow)][-1]
    lost = [row for row in books.rows if isinstance(row, Request) and row.cost_nano and row.id < newest.id][
        -1
    ]
    posted_day = ist.date_of(ist.day_of(lost.posted_ms)).isoformat()
    of = f"org = '{ORG}' AND posted_day = '{posted_day}' AND day = '{lost.day}'"
    engine.command(f"ALTER TABLE posted_day DELETE WHERE {of} SETTINGS mutations_sync = 2")
    for api in serving(engine, books):
        assert api.refused("/me/statements", ORG)[0] == 503
        month = ist.isoformat(newest.posted_ms)[:7]
        api.get(f"/me/statements/{month}", ORG)
        engine.command(f"ALTER TABLE usage_day DELETE WHERE org = '{ORG}' SETTINGS mutations_sync = 2")
        assert api.refused(f"/me/statements/{month}", ORG)[0] == 503
