"""What each role does, done on the real engine with the rights of its user of deploy/clickhouse/users.xml and no more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from pipeline.clickhouse import fill, lost, remake, whose
from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.clickhouse.migrate import migrate
from pipeline.clickhouse.queries import OrgScope, queries
from pipeline.clickhouse.sql_files import sql_files
from pipeline.identity import DeploymentIdentity
from pipeline.inserts import JournalInsert
from pipeline.journal import JSON_COLUMNS, NATIVE, REQUESTS
from tests.support.clickhouse.process import ClickHouse
from tests.support.clickhouse.users import OWNER, READER, SINK, configure
from tests.support.journal_rows import Request, payload, random_requests

LIMIT_S = 60.0
ROWS = random_requests(seed=11, count=40, orgs=("org_a",), days=3)
VALUES: dict[str, object] = {
    "Date": "2026-06-01",
    "Array(Int64)": [0],
    "Array(UInt32)": [0],
    "Array(UInt64)": [0],
    "Array(String)": ["org_a"],
    "String": "",
}
"""By the engine's type, something to ask with; numbers are 1."""


@contextmanager
def _as(home: ClickHouse, directory: Path, user: str) -> Iterator[Engine]:
    configure(directory, user)
    home.start()
    engine = open_engine(home.url)
    try:
        _wait_for(engine)
        yield engine
    finally:
        engine.close()
        home.kill()


def _wait_for(engine: Engine) -> None:
    """Return once the engine answers; it listens before it is open."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            engine.query("SELECT 1", row=tuple[int])
        except EngineUnavailable:
            if time.monotonic() > deadline:
                raise
        except EngineError:
            return
        else:
            return


def _sent(rows: Sequence[Request], token: str) -> JournalInsert:
    ids = [row.id for row in rows]
    place = (0, min(ids), max(ids), len(rows))
    return JournalInsert(REQUESTS, "events", NATIVE, JSON_COLUMNS[REQUESTS], *place, payload(rows), token)


def test_each_role_can_do_its_work_with_its_own_rights_and_no_more(tmp_path: Path) -> None:
    home = ClickHouse(tmp_path / "clickhouse", 1)
    directory = tmp_path / "clickhouse"
    with _as(home, directory, OWNER) as engine:
        assert migrate(engine) == [path.stem for path in sql_files("migrations")]
        remake.empty(engine)

    with _as(home, directory, SINK) as engine:
        assert migrate(engine) == []
        lost.insert(engine, _sent(ROWS[:15], "first"))
        whose.adopt(engine, DeploymentIdentity("metering", ""), 1)
        assert whose.place_of(engine, 0, 1, len(ROWS)).owners
        # Rows that a killed engine has lost come back by way of a table of its own, and so do sums.
        sent = _sent(ROWS, "all")
        assert lost.count_rows(engine, sent) == 15
        assert not lost.may_have_lost(engine, -100)
        assert lost.put_back(engine, sent, lost.prepare(engine, sent)) == len(ROWS) - 15
        assert lost.roll_ups_lack(engine, sent)
        assert lost.complete_roll_ups(engine, sent)
        assert not lost.roll_ups_lack(engine, sent)
        # What an upgrade's roll-up lacks is added by whoever takes a partition over.
        assert fill.fill(engine, 0, len(ROWS)) == 0
        # What it may not: touch the schema, or delete by whole tables.
        for refused in (
            "ALTER TABLE events ADD COLUMN mood String",
            "DROP TABLE events",
            "TRUNCATE TABLE ledger",
        ):
            with pytest.raises(EngineError, match="lacks the grant") as failure:
                engine.command(refused)
            assert failure.value.needs_operator

    with _as(home, directory, READER) as engine:
        engine.ping()
        assert migrate(engine) == []
        refused_queries: dict[str, str] = {}
        for each in queries():
            values = {name: VALUES.get(kind, 1) for name, kind in each.parameters.items()}
            bound = {
                "org": lambda e=each, v=values: e.of_org(OrgScope("org_a"), **v),
                "orgs": lambda e=each, v=values: e.of_orgs([OrgScope("org_a")], **v),
                "platform": lambda e=each, v=values: e.of_platform(**v),
            }[each.scope]()
            try:
                engine.query_bytes(bound.sql, bound.parameters, output="JSONCompactEachRow")
            except EngineError as error:
                refused_queries[each.name] = str(error)[:200]
        assert refused_queries == {}
        with pytest.raises(EngineError, match=r"lacks the grant|may only read"):
            lost.insert(engine, _sent(ROWS, "read"))

    with _as(home, directory, OWNER) as engine:
        days = remake.days_with_rows(engine)
        assert days
        remake.make_roll_ups(engine, min(days), max(*days, date(2026, 1, 1)), lambda: None)
        remake.drop_rows_after(engine, 0, 10)
