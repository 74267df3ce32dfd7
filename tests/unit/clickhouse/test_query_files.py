"""The head of a query's file, held against its text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.clickhouse.queries import QueryFileError, parse_query, queries
from pipeline.clickhouse.sql_files import sql_files

HEAD = "-- name: q\n-- caller: pipeline/x.py\n-- scope: {scope}\n-- parameters: {parameters}\n--\n-- Why.\n"
PATH = Path("q.sql")


def text(sql: str, scope: str = "org", parameters: str = "day Date") -> str:
    return HEAD.format(scope=scope, parameters=parameters) + sql + "\n"


def test_a_file_that_keeps_its_word() -> None:
    found = parse_query(PATH, text("SELECT 1 WHERE org = {org:String} AND day = {day:Date}"))
    assert (found.name, found.caller, found.scope) == ("q", "pipeline/x.py", "org")
    assert found.parameters == {"day": "Date"}
    assert found.sql == "SELECT 1 WHERE org = {org:String} AND day = {day:Date}"
    assert parse_query(PATH, text("SELECT 1", "platform", "")).parameters == {}
    several = parse_query(PATH, text("SELECT 1 WHERE org IN {orgs:Array(String)}", "orgs", ""))
    assert (several.scope, several.parameters) == ("orgs", {})
    arrays = parse_query(PATH, text("SELECT {a:Array(UInt64)}", "platform", "a Array(UInt64)"))
    assert arrays.parameters == {"a": "Array(UInt64)"}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("SELECT 1", "opens with"),
        (text("SELECT {day:Date}"), "the scope is"),
        (text("SELECT {org:String}, {day:Date}"), "the scope is"),
        (text("SELECT 1 WHERE org = {org:String}"), "the text uses"),
        (text("SELECT 1 WHERE org = {org:String}", "platform", ""), "the scope is"),
        (text("SELECT 1 WHERE org = {org:String}", "orgs", ""), "the scope is"),
        (text("SELECT 1 WHERE org IN {orgs:Array(String)}", "org", ""), "the scope is"),
        (text("SELECT {orgs:Array(String)}", "platform", ""), "the text uses"),
        (text("SELECT {day:Date}", "platform", "day String"), "the text uses"),
        (text("SELECT {day:Date}", "everyone"), "the scope is"),
        (text("SELECT {{token}}", "platform", ""), "unknown word {{token}}"),
        (text("SELECT {day:Date}", "platform", "day"), "a name and a type"),
        (text("SELECT {day:Date}", "platform").replace("name: q", "name: r"), "the name r"),
    ],
)
def test_a_file_that_does_not(file: str, message: str) -> None:
    with pytest.raises(QueryFileError, match=message):
        parse_query(PATH, file)


def test_what_the_core_defines_stands_in_for_its_word() -> None:
    found = parse_query(PATH, text("SELECT sum({{tokens}}), countIf({{failed}})", "platform", ""))
    assert (
        found.sql
        == "SELECT sum((prompt_tokens + completion_tokens + beside_tokens)), countIf((status >= 400))"
    )


def test_no_query_defines_for_itself_what_the_core_does() -> None:
    for path in sql_files("queries"):
        own = re.findall(
            r"prompt_tokens\)?\s*\+|status\s*(?:[<>]=?|BETWEEN)", path.read_text(encoding="utf-8")
        )
        assert own == [], path.name


def test_every_caller_exists_and_asks_for_its_query() -> None:
    root = Path(__file__).resolve().parents[3]
    for query in queries():
        assert query.name.split("_")[0] in (root / query.caller).read_text(encoding="utf-8"), query.caller
