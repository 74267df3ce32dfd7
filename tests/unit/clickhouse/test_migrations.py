"""The migration files: numbered, and one set for every kind of engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.clickhouse.migrate import UNDECLARED_UP_TO, Migration, MigrationError, load, render
from pipeline.clickhouse.sql_files import SqlFilesMissingError, sql_files

CREATES = re.compile(r"CREATE (TABLE|MATERIALIZED VIEW) IF NOT EXISTS (\w+)")
REPEATABLE = re.compile(
    r"ALTER TABLE \w+\s+(MODIFY (SETTING|QUERY)\s|(ADD COLUMN IF NOT EXISTS [^\n]+\n? *)+\Z)"
    r"|ATTACH TABLE IF NOT EXISTS \w+|DETACH TABLE IF EXISTS \w+"
    r"|INSERT INTO filled_roll_ups "
)


def test_a_single_engine_gets_plain_tables() -> None:
    assert render("CREATE TABLE t {{on_cluster}} ENGINE = {{repl}}MergeTree", None) == (
        "CREATE TABLE t  ENGINE = MergeTree"
    )


def test_a_cluster_gets_replicated_tables_everywhere() -> None:
    for migration in load(sql_files("migrations")):
        for statement in migration.statements("main"):
            # What is inserted is replicated by itself.
            assert "ON CLUSTER 'main'" in statement or statement.startswith("INSERT")
            if "ENGINE" in statement:
                assert re.search(r"ENGINE = Replicated(Aggregating)?MergeTree\n", statement)


def test_every_table_of_the_journal_remembers_tokens_and_syncs_to_disk() -> None:
    tables = 0
    for migration in load(sql_files("migrations")):
        for statement in migration.statements(None):
            if "ENGINE" in statement:
                tables += 1
                for setting in (
                    "non_replicated_deduplication_window = 100000",
                    "replicated_deduplication_window = 100000",
                    "fsync_after_insert = 1",
                    "fsync_part_directory = 1",
                ):
                    assert setting in statement
    assert tables == 7


def test_every_statement_may_run_twice() -> None:
    names = []
    for migration in load(sql_files("migrations")):
        for statement in migration.statements(None):
            match = CREATES.match(statement)
            if REPEATABLE.match(statement):
                continue
            assert match, statement[:80]
            names.append(match[2])
    assert names == [
        "events",
        "usage_day",
        "usage_day_feed",
        "model_day",
        "model_day_feed",
        "ledger",
        "deployment",
        "posted_day",
        "filled_roll_ups",
        "posted_day_feed",
    ]


def test_an_unknown_template_word_is_an_error() -> None:
    with pytest.raises(MigrationError, match="engine"):
        render("ENGINE = {{engine}}", None)


def test_statements_end_with_a_semicolon_and_a_line() -> None:
    text = "-- a comment; with one\nSELECT ';';\n\nSELECT 2;\n"
    assert Migration(1, "0001_x", text).statements(None) == ["SELECT ';'", "SELECT 2"]
    assert Migration(1, "0001_x", "SELECT 1").statements(None) == ["SELECT 1"]


def test_the_checksum_is_of_the_text_before_the_words() -> None:
    one, two = Migration(1, "0001_x", "{{repl}}"), Migration(1, "0001_x", "Replicated")
    assert one.checksum != two.checksum


def test_numbers_have_no_gap(tmp_path: Path) -> None:
    for names in (["0002_a.sql"], ["0001_a.sql", "0001_b.sql"], ["0001_a.sql", "0003_b.sql"], ["1_a.sql"]):
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.write_text("SELECT 1;\n", encoding="utf-8")
        with pytest.raises(MigrationError, match="expected a file named"):
            load(paths)


@pytest.mark.parametrize(
    ("text", "additive"),
    [
        ("-- additive: yes\nSELECT 1;\n", True),
        ("-- more\n-- additive: no\nSELECT 1;\n", False),
        ("SELECT '-- additive: yes';\n", None),
        ("-- additive: perhaps\n", None),
        ("-- additive: yes\n-- additive: no\n", None),
    ],
)
def test_a_file_says_whether_releases_before_it_can_go_on(
    tmp_path: Path, text: str, additive: bool | None
) -> None:
    paths = [*sql_files("migrations")[:UNDECLARED_UP_TO], tmp_path / "0006_x.sql"]
    paths[-1].write_text(text, encoding="utf-8")
    if additive is None:
        with pytest.raises(MigrationError, match=r"0006_x\.sql: expected one line"):
            load(paths)
    else:
        assert load(paths)[-1].additive is additive


def test_a_package_without_its_sql_says_so() -> None:
    with pytest.raises(SqlFilesMissingError, match="pip install -e"):
        sql_files("nowhere")
