"""The schema on the real engine: migrations, IST days, one part an insert, and each row once."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline import ist
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineError
from pipeline.clickhouse.migrate import Migration, MigrationError, load, main, migrate
from pipeline.clickhouse.sql_files import sql_files
from pipeline.journal import (
    COLUMNS,
    JSON_COLUMNS,
    LEDGER,
    LEDGER_COLUMNS,
    REQUEST_COLUMNS,
    REQUESTS,
    LedgerRow,
    encode_rows,
    public_id,
)
from pipeline.journal.native import encode_block
from pipeline.settings import Settings
from pipeline.sink.ranges import TABLES
from tests.support.builders import NOW_MS
from tests.support.clickhouse.template import made_by
from tests.support.journal_rows import (
    Request,
    insert,
    json_arrays,
    ledger_row,
    of_release_0_1_0,
    payload,
    random_requests,
    request,
)


def test_migrating_again_changes_nothing(empty_engine: Engine) -> None:
    done = migrate(empty_engine)
    assert done == [path.stem for path in sql_files("migrations")]
    assert migrate(empty_engine) == []


def test_the_tests_schema_is_what_the_migrations_make(session_engine: Engine, engine: Engine) -> None:
    migrated = session_engine.for_database("test_migrated")
    done = migrate(migrated)
    assert [sql.replace("test_migrated.", f"{engine.database}.") for sql in made_by(migrated)] == made_by(
        engine
    )
    assert len(done) > 1
    assert migrate(engine) == []
    session_engine.command("DROP DATABASE test_migrated SYNC", in_database=False)


def test_a_migration_that_was_cut_off_is_finished(empty_engine: Engine) -> None:
    migrations = load(sql_files("migrations"))
    migrate(empty_engine, migrations[:1])
    empty_engine.command(migrations[1].statements(None)[0])
    assert migrate(empty_engine) == [m.name for m in migrations[1:]]


def test_an_edited_migration_is_refused(empty_engine: Engine) -> None:
    migrate(empty_engine)
    first, *others = load(sql_files("migrations"))
    with pytest.raises(MigrationError, match="0001_events was applied and then edited"):
        migrate(empty_engine, [Migration(1, first.name, first.text + "\n"), *others])


def _next(additive: str) -> Migration:
    """Return a migration of the release after this one."""
    number = len(sql_files("migrations")) + 1
    text = f"{additive}\nALTER TABLE events {{{{on_cluster}}}} ADD COLUMN IF NOT EXISTS mood String;\n"
    return Migration(number, f"{number:04d}_moods", text)


@pytest.mark.parametrize("additive", ["-- additive: no", "-- of a release that did not say"])
def test_a_schema_that_is_newer_by_more_than_additions_is_refused(
    empty_engine: Engine, additive: str
) -> None:
    known = load(sql_files("migrations"))
    migrate(empty_engine, [*known, _next(additive)])
    with pytest.raises(
        MigrationError, match="moods was applied by a newer release, and it is no mere addition"
    ):
        migrate(empty_engine)


def test_the_release_before_starts_on_a_schema_that_is_newer_by_additions_and_goes_on(
    empty_engine: Engine,
) -> None:
    known = load(sql_files("migrations"))
    migrate(empty_engine)
    assert migrate(empty_engine, [*known, _next("-- additive: yes")]) == [_next("-- additive: yes").name]
    assert migrate(empty_engine) == []
    rows = random_requests(seed=5, count=300, days=3)
    insert(empty_engine, rows)
    _assert_tables_hold(empty_engine, rows)
    assert migrate(empty_engine, [*known, _next("-- additive: yes")]) == []


def test_the_record_of_migrations_that_an_earlier_release_made_is_read(empty_engine: Engine) -> None:
    """It has no column for what is additive."""
    known = load(sql_files("migrations"))
    migrate(empty_engine, known[:3])
    empty_engine.command("ALTER TABLE schema_versions DROP COLUMN additive")
    assert migrate(empty_engine) == [migration.name for migration in known[3:]]


def test_the_columns_are_the_journals_and_have_no_default_of_their_own(engine: Engine) -> None:
    for kind, table in TABLES.items():
        found = engine.query(
            "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}"
            " AND default_kind = '' ORDER BY position",
            {"database": engine.database, "table": table},
            row=tuple[str, str],
        )
        assert found == list(COLUMNS[kind].items())


def test_a_day_is_the_ist_day_at_every_edge(engine: Engine) -> None:
    rng = random.Random(1)
    days = [0, 1, 365, 20_000, 20_616, *rng.sample(range(1, 65_000), 40)]
    instants = [ist.day_start_ms(day) + shift for day in days for shift in (0, 1, 999, ist.DAY_MS - 1)]
    instants = sorted(at_ms for at_ms in instants if at_ms >= 0)
    rows = [request(id=public_id(0, n), org="org_a", at_ms=at_ms) for n, at_ms in enumerate(instants)]
    for n in range(0, len(rows), 50):
        insert(engine, rows[n : n + 50])
    found = engine.query("SELECT at_ms, toString(day), rid + id FROM events", row=tuple[int, str, int])
    assert sorted(found) == [(row.at_ms, row.day, 2**53 - 1) for row in rows]


def test_one_insert_is_one_part_a_partition_in_every_table(engine: Engine) -> None:
    rows = [
        request(id=public_id(3, n), org="org_a", at_ms=NOW_MS - n * 13_000, key_id=f"key_{n % 300}")
        for n in range(200_000)
    ]
    assert len({row.day[:7] for row in rows}) == 2
    engine.insert_blocks("events", payload(rows), len(rows), "one")
    parts = engine.query(
        "SELECT table, partition, sum(max_block_number - min_block_number + 1) FROM system.parts"
        " WHERE active AND database = {database:String} AND table NOT IN ('schema_versions', 'filled_roll_ups') GROUP BY ALL",
        {"database": engine.database},
        row=tuple[str, str, int],
    )
    assert sorted(parts) == [
        ("events", "202605", 1),
        ("events", "202606", 1),
        ("model_day", "2026", 1),
        ("posted_day", "2026", 1),
        ("usage_day", "2026", 1),
    ]


def test_the_same_insert_sent_three_times_counts_once(engine: Engine) -> None:
    rows = random_requests(seed=2, count=3_000, orgs=("org_a",), days=70)
    blocks = payload(rows)
    for _ in range(3):
        engine.insert_blocks("events", blocks, len(rows), "journal-0-2999")
    others = random_requests(seed=3, count=500, orgs=("org_a",), days=70)
    others = [replace(row, id=row.id + public_id(0, 3_000)) for row in others]
    engine.insert_blocks("events", payload(others), len(others), "journal-3000-3499")
    engine.insert_blocks("events", blocks, len(rows), "journal-0-2999")
    _assert_tables_hold(engine, rows + others)


def test_an_insert_that_is_sent_again_by_an_engine_that_has_started_anew_counts_once(
    empty_engine: Engine,
) -> None:
    """What an engine loads when it starts are the views as they are kept, not as a migration left them in memory."""
    migrate(empty_engine)
    rows = random_requests(seed=4, count=300, orgs=("org_a",), days=3)
    for _ in range(2):
        empty_engine.insert_blocks("events", payload(rows), len(rows), "journal-0-299")
        for (view,) in empty_engine.query(
            "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView'",
            row=tuple[str],
        ):
            empty_engine.command(f"DETACH TABLE {view} SYNC")
            empty_engine.command(f"ATTACH TABLE {view}")
    _assert_tables_hold(empty_engine, rows)


def test_rolled_up_groups_stay_exact_when_parts_merge(engine: Engine) -> None:
    rows = random_requests(seed=4, count=2_000, days=40)
    for n in range(0, len(rows), 100):
        insert(engine, rows[n : n + 100])
    for table in ("events", "usage_day", "model_day", "posted_day"):
        engine.command(f"OPTIMIZE TABLE {table} FINAL")
    _assert_tables_hold(engine, rows)


def test_the_ledger_takes_each_entry_once(engine: Engine) -> None:
    rows = [ledger_row(public_id(1, n), "org_a", -(2**62) + n, 2**62 - n) for n in range(50)]
    blocks = b"".join(record.value for record in encode_rows(LEDGER, rows))
    for _ in range(2):
        engine.insert_blocks("ledger", blocks, len(rows), "ledger-0-49")
    columns = ", ".join(LEDGER_COLUMNS)
    assert engine.query(f"SELECT {columns} FROM ledger ORDER BY org, rid DESC", row=LedgerRow) == rows


def test_a_row_that_does_not_fit_is_refused_whole(engine: Engine) -> None:
    good = request(id=public_id(0, 1), org="org_a", at_ms=NOW_MS)
    lines = json_arrays([good]) + json_arrays([good]).replace(b"6100000", b'"much"')
    with pytest.raises(EngineError):
        engine.insert("events", JSON_COLUMNS[REQUESTS], lines, "bad lines")
    newer = encode_block({"id": "UInt64", "org": "String", "mood": "String"}, [[1], ["org_a"], ["good"]])
    for block in (newer, payload([good])[:-1], b"\x01\x01\x02id\x06String\x04much"):
        with pytest.raises(EngineError):
            engine.insert_blocks("events", payload([good]) + block, 2, f"bad block {block!r}")
    assert engine.query("SELECT count() FROM events", row=tuple[int]) == [(0,)]


def _content(engine: Engine) -> list[tuple[str, int, str]]:
    """Return of each table how many rows it has, and what they are."""
    return [
        (
            table,
            *engine.query(f"SELECT count(), toString(sum(cityHash64(*))) FROM {table}", row=tuple[int, str])[
                0
            ],
        )
        for table in ("events", "usage_day", "model_day", "posted_day", "ledger")
    ]


def test_both_formats_of_the_journal_make_the_same_rows(engine: Engine) -> None:
    rows = map(of_release_0_1_0, random_requests(seed=11, count=16_000, days=70))
    entries = [ledger_row(public_id(1, n), f"org é {n}", -(2**62) + n, 2**62 - n) for n in range(50)]
    requests = sorted(rows, key=lambda row: (row.org, row.id))
    engine.insert("events", JSON_COLUMNS[REQUESTS], json_arrays(requests), "json")
    engine.insert("ledger", JSON_COLUMNS[LEDGER], json_arrays(entries), "json")
    written = _content(engine)
    assert [rows for _, rows, _ in written[::4]] == [16_000, 50]
    for table in ("events", "usage_day", "model_day", "posted_day", "ledger"):
        engine.command(f"TRUNCATE TABLE {table}")
    engine.insert_blocks("events", payload(requests), len(requests), "blocks")
    blocks = b"".join(record.value for record in encode_rows(LEDGER, entries))
    engine.insert_blocks("ledger", blocks, len(entries), "blocks")
    assert _content(engine) == written


def test_a_column_that_a_block_lacks_takes_its_default_and_all_is_still_one_part(engine: Engine) -> None:
    """As with blocks from before a migration and after it, joined in one insert."""
    engine.command("ALTER TABLE events ADD COLUMN audio_tokens UInt32")
    old = request(id=public_id(0, 1), org="org_a", at_ms=NOW_MS, prompt_tokens=7)
    columns = {"id": "UInt64", "at_ms": "Int64", "audio_tokens": "UInt16", "org": "String"}
    new = encode_block(columns, [[public_id(0, 2)], [NOW_MS], [5], ["org_a"]])
    engine.insert_blocks("events", payload([old]) + new, 2, "mixed")
    engine.insert("events", JSON_COLUMNS[REQUESTS], json_arrays([replace(old, id=public_id(0, 3))]), "json")
    found = engine.query(
        "SELECT id, prompt_tokens, audio_tokens, tier FROM events ORDER BY id", row=tuple[int, int, int, str]
    )
    assert found == [(1024, 7, 0, "standard"), (2048, 0, 5, ""), (3072, 7, 0, "standard")]
    parts = engine.query(
        "SELECT sum(max_block_number - min_block_number + 1) FROM system.parts"
        " WHERE active AND database = {database:String} AND table = 'events'",
        {"database": engine.database},
        row=tuple[int],
    )
    assert parts == [(2,)]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "METERING_CLICKHOUSE_URL is not set"),
        (
            "http://127.0.0.1:1/db",
            "127.0.0.1:1 does not answer (Connection refused); METERING_CLICKHOUSE_URL names it",
        ),
    ],
)
def test_migrate_as_a_command_tells_what_is_wrong(url: str | None, says: str) -> None:
    with pytest.raises(MigrationError, match=re.escape(says)):
        main(Settings(clickhouse_url=url))


def test_a_migration_that_fails_is_a_log_line_where_these_are_json() -> None:
    environment = {
        **os.environ,
        "METERING_LOG_FORMAT": "json",
        "METERING_CLICKHOUSE_URL": "http://127.0.0.1:1/db",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "migrate"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "does not answer" in json.loads(line)["message"]


def test_the_sql_files_are_in_the_checkout() -> None:
    root = Path(__file__).resolve().parents[2]
    assert {path.parent for path in sql_files("migrations")} == {root / "sql" / "migrations"}


def _assert_tables_hold(engine: Engine, rows: list[Request]) -> None:
    """Compare the events and all roll-ups with sums done row by row."""
    columns = ", ".join(REQUEST_COLUMNS)
    found = engine.query(f"SELECT {columns} FROM events ORDER BY id", row=Request)
    assert found == sorted(rows, key=lambda r: r.id)

    usage: dict[tuple[object, ...], Counter[str]] = {}
    models: dict[tuple[object, ...], Counter[str]] = {}
    posted: dict[tuple[object, ...], Counter[str]] = {}
    for r in rows:
        group = (r.org, r.day, r.model, r.key_id, r.provider, r.byok, r.tier)
        sums = usage.setdefault(group, Counter())
        sums.update(n=1, e=r.failed, p=r.prompt_tokens, c=r.cached_tokens, o=r.completion_tokens)
        sums.update(b=r.beside_tokens, cost=r.cost_nano)
        sums["last"] = max(sums["last"], r.id)
        model = models.setdefault((r.day, r.model, r.id % 1024), Counter())
        model.update(n=1, t=r.tokens)
        model["last"] = max(model["last"], r.id)
        posted_day = ist.date_of(ist.day_of(r.posted_ms)).isoformat()
        charged = posted.setdefault((r.org, posted_day, r.day), Counter())
        charged.update(n=1, cost=r.cost_nano)
        charged["last"] = max(charged["last"], r.id)

    rolled = engine.query(
        "SELECT org, toString(day), model, key_id, provider, byok, tier, sum(requests), sum(errors),"
        " sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(beside_tokens), sum(cost_nano), max(last_id)"
        " FROM usage_day GROUP BY ALL",
        row=list[object],
    )
    expected = {
        group: (s["n"], s["e"], s["p"], s["c"], s["o"], s["b"], s["cost"], s["last"])
        for group, s in usage.items()
    }
    assert {tuple(row[:7]): tuple(row[7:]) for row in rolled} == expected

    ranked = engine.query(
        "SELECT toString(day), model, partition, sum(requests), sum(tokens), max(last_id)"
        " FROM model_day GROUP BY ALL",
        row=list[object],
    )
    assert {tuple(row[:3]): tuple(row[3:]) for row in ranked} == {
        group: (s["n"], s["t"], s["last"]) for group, s in models.items()
    }

    charged_days = engine.query(
        "SELECT org, toString(posted_day), toString(day), sum(requests), sum(cost_nano), max(last_id)"
        " FROM posted_day GROUP BY org, posted_day, day",
        row=list[object],
    )
    assert {tuple(row[:3]): tuple(row[3:]) for row in charged_days} == {
        group: (s["n"], s["cost"], s["last"]) for group, s in posted.items()
    }
