"""The engine over HTTP: the same behaviour as the embedded one, with what a server needs to be told."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from pipeline.api.services.coalesced_reads import lines_by_org
from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.clickhouse.migrate import migrate
from pipeline.clickhouse.pool import CONNECT_SECONDS, GREETING_SECONDS
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.clickhouse.sql_files import sql_files
from tests.support.clickhouse.front import http_front
from tests.support.journal_rows import payload, random_requests


@pytest.fixture
def seen(engine_home: str, empty_engine: Engine) -> Iterator[tuple[Engine, list[Any]]]:
    """An engine over HTTP on a database that does not exist yet, and the requests it has made."""
    with http_front(engine_home) as front:
        url = f"http://meter:p%40ss@127.0.0.1:{front.server_port}/{empty_engine.database}"
        engine = open_engine(url)
        yield engine, front.seen
        engine.close()


def test_migrate_insert_and_read(seen: tuple[Engine, list[Any]]) -> None:
    engine, requests = seen
    assert migrate(engine) == [path.stem for path in sql_files("migrations")]
    rows = random_requests(seed=50, count=500, orgs=("org_a",), days=20)
    for _ in range(3):
        engine.insert_blocks("events", payload(rows), len(rows), "token-1")
    given, _ = requests[-1]
    assert given["database"] == engine.database
    assert given["insert_deduplication_token"] == "token-1"
    assert (given["async_insert"], given["max_insert_threads"]) == ("0", "1")
    assert given["deduplicate_blocks_in_dependent_materialized_views"] == "1"
    assert given["authorization"].startswith("Basic ")
    assert "session_id" not in given
    # Without a cluster nobody else could have a copy; with one, most replicas have to have it.
    assert "insert_quorum" not in given
    Engine(engine._pool, engine.database, "replicas").insert_blocks(
        "events", payload(rows), len(rows), "token-1"
    )
    assert requests[-1][0]["insert_quorum"] == "auto"
    assert engine.query("SELECT count() FROM events", row=tuple[int]) == [(500,)]
    bound = query("usage").of_orgs([OrgScope("org_a")], from_day="2026-05-01", to_day="2026-06-30")
    lines = lines_by_org(engine.query_bytes(bound.sql, bound.parameters, output="JSONEachRow"))
    assert sum(msgspec.json.decode(line)["requests"] for line in lines["org_a"]) == 500
    assert requests[-1][0]["param_orgs"] == "['org_a']"


def test_threads_share_one_client(seen: tuple[Engine, list[Any]]) -> None:
    engine, _ = seen
    migrate(engine)
    texts = [f"it's \\ {n}" for n in range(60)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda x: engine.query("SELECT {x:String}", {"x": x}, row=tuple[str]), texts)
        )
    assert answers == [[(text,)] for text in texts]


def test_a_refusal_keeps_its_code(seen: tuple[Engine, list[Any]]) -> None:
    engine, _ = seen
    migrate(engine)
    with pytest.raises(EngineError) as refused:
        engine.query("SELECT nothing FROM nowhere", row=tuple[int])
    assert refused.value.code == 60


def test_a_server_that_hangs_keeps_no_lane_waiting_for_another() -> None:
    """It takes connections and answers nothing, as a stopped one does: a scan may take long, a greeting not."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        engine = open_engine(f"http://127.0.0.1:{hanging.getsockname()[1]}/metering")
        started = time.monotonic()
        with ThreadPoolExecutor(2) as threads:
            scan = threads.submit(
                engine.query, "SELECT 1", row=tuple[int], settings={"max_execution_time": 600}
            )
            page = threads.submit(engine.query, "SELECT 1", row=tuple[int])
            for asked in (scan, page):
                with pytest.raises(EngineUnavailable):
                    asked.result()
        assert time.monotonic() - started < 2 * GREETING_SECONDS + CONNECT_SECONDS
        engine.close()


async def test_a_write_that_hangs_takes_no_thread_from_anything_else() -> None:
    """More inserts than the loop's own threads are under way, and a thread is still to be had at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hanging:
        engine = open_engine(f"http://127.0.0.1:{hanging.getsockname()[1]}/metering")
        inserts = [
            asyncio.create_task(engine.writing(engine.insert, "events", ("id",), b"[1]\n", "token"))
            for _ in range(40)
        ]
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
            assert await asyncio.to_thread(lambda: 1) == 1
        for insert in inserts:
            insert.cancel()
        await asyncio.wait(inserts)
    engine.close()
