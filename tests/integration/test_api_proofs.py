"""Proofs over the real engine: what the API gives is, byte for byte, what the notary's books come to.

The accounts' owner is played by the rows themselves, and the notary's topic by its records in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import cast

import pytest
from fastapi.testclient import TestClient

from pipeline import ist
from pipeline.accounts.commands import View
from pipeline.accounts.results import AccountView
from pipeline.api.server.app import create_app
from pipeline.api.services import proving
from pipeline.api.services.accounts import AccountServices
from pipeline.api.services.checkpoints import CheckpointBook
from pipeline.api.services.context import AppContext
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.migrate import migrate
from pipeline.clickhouse.shards import Database
from pipeline.journal import LEDGER, REQUESTS, LedgerRow, RequestRow, Row, encode_rows
from pipeline.notary import kept
from pipeline.notary.check import check
from pipeline.notary.checkpoint import is_signed, line_hash
from pipeline.notary.proof_reader import ProofError
from tests.support.api.client import SECRET, Api
from tests.support.builders import NOW_MS, rate_table
from tests.support.clickhouse.shards import opened, servers_of, url_of
from tests.support.notary import KEYS, ORG, RATES, Books, books, both_keys, old_keys

FIRST, DAYS = "2026-04-28", 46
"""Up to the day before NOW_MS."""


@cache
def made() -> Books:
    """Return books of April to June 2026, of more rows than a piece of a proof has here, with a change of keys."""
    found = books(FIRST, DAYS, 15)
    return found.sign({day: old_keys() if day < found.days[9] else both_keys() for day in found.days})


def book_of(found: Books) -> CheckpointBook:
    """Return what a server knows of the notary's books."""
    chunks: list[bytes] = []

    async def read(offsets: Iterable[int]) -> list[bytes]:
        return [chunks[offset] for offset in offsets]

    book = CheckpointBook(read)
    for day, tree in found.trees.items():
        start = len(chunks)
        chunks += [kept.encode(kept.DayChunk(chunk)) for chunk in tree.chunks]
        index = tree.index(range(start, len(chunks)), {})
        book.put(kept.index_key(day), kept.encode(index))
        book.put(kept.checkpoint_key(day), kept.encode(found.kept[day]))
    return book


def put(engine: Engine, rows: list[Row]) -> None:
    for kind, table, of in ((REQUESTS, "events", RequestRow), (LEDGER, "ledger", LedgerRow)):
        some = [row for row in rows if isinstance(row, of)]
        blocks = b"".join(record.value for record in encode_rows(kind, some))
        engine.insert_blocks(table, blocks, len(some), f"{table}-1")


class Owner:
    """Answers as the accounts' owner does, of rows that are all posted."""

    def __init__(self, rows: list[Row]) -> None:
        self._next_id = rows[-1].id + 1024

    async def ask(self, command: View) -> AccountView:
        return AccountView(*(command.org, "", "", True, 0, 0, None, None, []), self._next_id, NOW_MS)


@pytest.fixture
def found(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Books:
    monkeypatch.setattr(proving, "ROWS_A_PIECE", 50)
    here = made()
    put(engine, list(here.rows))
    return here


def serving(engine: Database, found: Books, book: CheckpointBook) -> Iterator[Api]:
    context = AppContext(
        database=engine,
        key_names={},
        rates=rate_table(*RATES),
        session_secret=SECRET,
        now_ms=lambda: NOW_MS,
        checkpoints=book,
        accounts=cast("AccountServices", Owner(list(found.rows))),
    )
    with TestClient(create_app(context), client=("127.0.0.1", 50_000)) as client:
        yield Api(client, context)


@pytest.fixture
def served(engine: Engine, found: Books) -> Iterator[Api]:
    yield from serving(engine, found, book_of(found))


def proof(served: Api, month: str, org: str = ORG) -> bytes:
    answer = served.client.get(
        f"/me/statements/{month}/proof", headers={"Authorization": f"Bearer {served.token(org)}"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert f'filename="proof_{org}_{month}.ndjson"' in answer.headers["Content-Disposition"]
    return answer.content


def shown(file: bytes) -> tuple[int, str | None]:
    proven = check(file.splitlines(keepends=True), KEYS.newest.public)
    return proven.rows, proven.signed_through


def test_a_proof_is_what_the_notarys_books_come_to(served: Api, found: Books) -> None:
    assert proof(served, "2026-05") == found.proof(ORG, "2026-05")
    assert shown(proof(served, "2026-05"))[1] == "2026-05-31"
    rows, through = shown(proof(served, "2026-04", "org_1"))
    assert (rows > 0, through) == (True, "2026-04-30")
    assert shown(proof(served, "2026-06"))[1] == "2026-06-12"


def test_a_proof_comes_from_the_orgs_own_shard(engine: Engine, engine_home: str, found: Books) -> None:
    with servers_of(engine, engine_home, "one", "two") as servers, opened(url_of(*servers)) as database:
        migrate(database)
        on_shard = {
            shard: [row for row in found.rows if database.of_org(row.org) is shard]
            for shard in database.shards
        }
        for shard, rows in on_shard.items():
            put(shard, rows)
        for org in {row.org for row in found.rows}:
            theirs = replace(found, rows=on_shard[database.of_org(org)])
            for alone in serving(database, theirs, book_of(found)):
                assert proof(alone, "2026-05", org) == found.proof(org, "2026-05")


def test_a_proof_has_nothing_of_another_org(served: Api) -> None:
    assert b"org_1" not in proof(served, "2026-05")
    assert b"org_a" not in proof(served, "2026-05", "org_1")


def test_a_row_that_was_changed_in_the_database_shows(served: Api, found: Books, engine: Engine) -> None:
    row = next(row for row in found.rows if isinstance(row, RequestRow) and row.org == ORG)
    engine.command(
        f"ALTER TABLE events UPDATE latency_ms = latency_ms + 1 WHERE id = {row.id} SETTINGS mutations_sync = 2"
    )
    with pytest.raises(ProofError, match="the rows do not lead to what the path of 2026-04-"):
        check(proof(served, "2026-04").splitlines(keepends=True))


def test_without_checkpoints_a_proof_says_that_nothing_is_signed(engine: Engine, found: Books) -> None:
    for alone in serving(engine, found, CheckpointBook()):
        file = proof(alone, "2026-05")
        signed = found.proof(ORG, "2026-05")
        assert [line for line in file.split(b"\n") if line.startswith(b"[")] == [
            line for line in signed.split(b"\n") if line.startswith(b"[")
        ]
        proven = check(file.splitlines(keepends=True))
        assert (proven.signed_through, proven.public_key) == (None, None)
        assert proven.opening_nano == check(signed.splitlines(keepends=True)).opening_nano
        assert alone.get("/v1/checkpoints") == {"public_key": None, "checkpoints": []}


@pytest.mark.parametrize(
    ("month", "refusal"),
    [
        ("2026-07", (404, "not_found", None)),
        ("2026-03", (404, "not_found", None)),
        ("2026-13", (400, "invalid_request", "month")),
        ("now", (400, "invalid_request", "month")),
    ],
)
def test_a_month_without_a_proof_gets_a_clear_answer(
    served: Api, month: str, refusal: tuple[int, str, str | None]
) -> None:
    assert served.refused(f"/me/statements/{month}/proof", ORG) == refusal


def test_an_org_without_rows_has_no_proof(served: Api) -> None:
    assert served.refused("/me/statements/2026-05/proof", "org_z")[:2] == (404, "not_found")


def test_the_checkpoints_are_for_everybody_and_lead_to_one_another(served: Api, found: Books) -> None:
    answer = served.get("/v1/checkpoints")
    assert answer["public_key"] == KEYS.newest.public
    assert [each["day"] for each in answer["checkpoints"]] == [
        ist.date_of(day).isoformat() for day in found.days
    ]
    checkpoints = served.context.checkpoints.checkpoints
    assert all(map(is_signed, checkpoints))
    assert all(later.previous == line_hash(one) for one, later in pairwise(checkpoints))
    assert [each["handover"] is not None for each in answer["checkpoints"]].count(True) == 1


def test_a_rate_that_the_catalog_has_lost_is_no_proof(engine: Engine, found: Books) -> None:
    for served in serving(engine, found, book_of(found)):
        for rate in RATES:
            served.context.rates.remove(rate.route, rate.from_ms)
        assert served.refused("/me/statements/2026-05/proof", ORG)[0] == 503
