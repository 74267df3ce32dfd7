"""The engine's door: parameters stay apart, limits hold, failures are of the right kind."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree as ET

import pytest

from pipeline.clickhouse.client import BLOCK_ROWS_MAX, Engine, open_engine
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.clickhouse.migrate import migrate
from pipeline.clickhouse.queries import OrgScope, queries, query
from tests.support.deploy import DEPLOY

ODD_TEXTS = (
    "plain",
    "with 'single' and \"double\" quotes",
    "back\\slash \\n \\' end\\",
    "tab\tline\nfeed\rreturn\0nul",
    "{org:String} and %(x)s and $1",
    "हिन्दी, é, 🙂 \u2028",
    "' OR 1 = 1 --",
    "",
)


def test_a_parameter_comes_back_as_it_was(engine: Engine) -> None:
    for text in ODD_TEXTS:
        assert engine.query("SELECT {x:String}", {"x": text}, row=tuple[str]) == [(text,)]
    found = engine.query("SELECT {x:Array(String)}", {"x": list(ODD_TEXTS)}, row=tuple[list[str]])
    assert found == [(list(ODD_TEXTS),)]
    numbers = {"a": 2**64 - 1, "b": -(2**63), "c": [0, 2**53]}
    sql = "SELECT {a:UInt64}, {b:Int64}, {c:Array(UInt64)}, sum(toInt128({a:UInt64})) FROM numbers(3)"
    sums = engine.query(sql, numbers, row=tuple[int, int, list[int], int])
    assert sums == [(2**64 - 1, -(2**63), [0, 2**53], 3 * (2**64 - 1))]


def test_parameters_of_threads_never_mix(engine: Engine) -> None:
    def ask(number: int) -> bool:
        text = f"org_{number}"
        sql = "SELECT {org:String}, {n:UInt64} FROM numbers({rows:UInt64})"
        rows = engine.query(sql, {"org": text, "n": number, "rows": number % 50}, row=tuple[str, int])
        return rows == [(text, number)] * (number % 50)

    # In rounds, as handles are not lent in turn: nobody waits for one longer than a round takes.
    with ThreadPoolExecutor(8) as threads:
        for first in range(0, 1_500, 150):
            assert all(threads.map(ask, range(first, first + 150)))


def test_every_query_of_the_product_is_valid_sql_on_the_schema(engine: Engine) -> None:
    values: dict[str, object] = {
        "Date": "2026-06-12",
        "String": "x",
        "UInt16": 1,
        "UInt64": 1,
        "Int64": 1,
        "Array(UInt64)": [1] * 1024,
        "Array(Int64)": [1],
        "Array(UInt32)": [1],
        "Array(String)": ["x"],
        "Identifier": "events",
    }
    assert queries()
    for each in queries():
        given = {name: values[kind] for name, kind in each.parameters.items()}
        if each.scope == "platform":
            bound = each.of_platform(**given)
        elif each.scope == "org":
            bound = each.of_org(OrgScope("org_a"), **given)
        else:
            bound = each.of_orgs([OrgScope("org_a")], **given)
        engine.query_bytes(bound.sql, bound.parameters, output="TSVRaw")


def test_a_query_about_an_org_cannot_run_without_its_scope() -> None:
    days = {"from_day": "2026-06-01", "to_day": "2026-06-02"}
    page = {"from_rid": 0, "rows": 1}
    scope = OrgScope("org_a")
    with pytest.raises(TypeError, match="needs their scope"):
        query("usage").of_platform(**days)
    with pytest.raises(TypeError, match="not about one org"):
        query("usage").of_org(scope, **days)
    with pytest.raises(TypeError, match="not about one org"):
        query("rankings").of_org(scope, recent_day="2026-06-01", **days)
    with pytest.raises(TypeError, match="not about several"):
        query("ledger_page").of_orgs([scope], **page)
    with pytest.raises(TypeError, match="takes from_day, to_day"):
        query("usage").of_orgs([scope], from_day="2026-06-01")
    assert query("ledger_page").of_org(scope, **page).parameters["org"] == "org_a"
    assert query("usage").of_orgs([scope, OrgScope("b")], **days).parameters["orgs"] == ["org_a", "b"]


def test_wrong_sql_and_wrong_rows_are_definite(engine: Engine) -> None:
    with pytest.raises(EngineError) as refused:
        engine.query("SELECT nothing FROM nowhere", row=list[object])
    assert refused.value.code == 60
    with pytest.raises(EngineError):
        engine.query("SELECT 'text'", row=tuple[int])
    with pytest.raises(EngineError):
        engine.command("CREATE TABLE events (a Int8) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(EngineError):
        engine.insert("nowhere", ("a",), b"[1]\n", "token")


def test_a_database_that_is_not_there_is_definite(session_engine: Engine) -> None:
    with pytest.raises(EngineError):
        session_engine.for_database("never_made").ping()


def test_a_query_ends_at_its_limit(engine: Engine) -> None:
    started = time.monotonic()
    with pytest.raises(EngineUnavailable, match=r"(?i)timeout"):
        engine.query(
            "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
            row=tuple[int],
            settings={"max_execution_time": 1},
        )
    assert time.monotonic() - started < 5


def test_a_payload_has_to_be_one_block(engine: Engine) -> None:
    for payload in (b"", b"[1]\n" * (BLOCK_ROWS_MAX + 1)):
        with pytest.raises(ValueError, match="one block"):
            engine.insert("events", ("id",), payload, "token")


def test_settings_are_never_text_from_outside(engine: Engine) -> None:
    for settings in ({"a, max_memory_usage": 1}, {"max_threads": "1, readonly = 0"}):
        with pytest.raises(ValueError, match="not a setting"):
            engine.query("SELECT 1", row=tuple[int], settings=settings)


@pytest.fixture
def mute_server() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_server_that_is_down_is_unclear_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    engine = open_engine(f"http://user:secret@127.0.0.1:{port}/db")
    started = time.monotonic()
    with pytest.raises(EngineUnavailable) as failure:
        await engine.async_ping()
    with pytest.raises(EngineUnavailable):
        engine.insert("events", ("id",), b"[1]\n", "token")
    with pytest.raises(EngineUnavailable):
        migrate(engine)
    assert time.monotonic() - started < 5
    assert "secret" not in str(failure.value)
    engine.close()
    with pytest.raises(EngineUnavailable):
        await engine.async_ping()


async def test_a_server_that_never_answers_is_unclear_within_the_promise(mute_server: int) -> None:
    engine = open_engine(f"http://127.0.0.1:{mute_server}/db")
    started = time.monotonic()
    failures = await asyncio.gather(*(engine.async_ping() for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [EngineUnavailable] * 3
    assert time.monotonic() - started < 10


def test_the_grants_of_the_shipped_stack_are_statements_that_the_engine_knows(engine: Engine) -> None:
    """The embedded engine has no users to give them to, but it reads them."""
    users = ET.parse(DEPLOY / "clickhouse" / "users.xml")
    grants = [query.text for query in users.findall("./users/*/grants/query")]
    assert grants
    for grant in grants:
        [(read,)] = engine.query(
            "SELECT formatQuerySingleLine({text:String})", {"text": f"{grant} TO metering"}, row=tuple[str]
        )
        assert read.startswith("GRANT ")
    with pytest.raises(EngineError):
        engine.query("SELECT formatQuery('GRANT SELEKT ON system.tables TO metering')", row=tuple[str])
