"""Two shards answer as one database does: the same rows on both, over HTTP, with databases of the real engine."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pipeline.clickhouse import whose
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.clickhouse.migrate import MigrationError, load, migrate
from pipeline.clickhouse.shards import Database
from pipeline.clickhouse.sql_files import sql_files
from pipeline.identity import DeploymentIdentity
from pipeline.journal import LEDGER, encode_rows, public_id
from pipeline.operations.verify import asking
from pipeline.partitioning import partition_of
from pipeline.payments.matching import Credited
from pipeline.payments.reconcile import _credited
from tests.support.api.client import Api, api
from tests.support.clickhouse.front import serving
from tests.support.clickhouse.replica import Replica
from tests.support.clickhouse.shards import opened, servers_of, url_of
from tests.support.journal_rows import insert, ledger_row, random_requests

ORGS = ("org_c", "org_a", "org_d", "org_b")
"""Their partitions are 0 to 3, so two are of each shard."""
OURS = DeploymentIdentity("metering", "1" * 32)
SENT = Path(__file__).with_name("cluster.sql")
NAMES = [migration.name for migration in load(sql_files("migrations"))]


@dataclass
class Two:
    """Two shards, the servers that they are behind, and one database with the same rows."""

    servers: list[Replica]
    database: Database
    whole: Engine


@pytest.fixture
def two(engine: Engine, engine_home: str) -> Iterator[Two]:
    """Two shards with the rows of four orgs, as the sink places them."""
    with (
        servers_of(engine, engine_home, "one", "two") as servers,
        opened(url_of(*servers)) as database,
    ):
        assert migrate(database) == NAMES
        for shard in database.shards:
            whose.adopt(shard, OURS, 1)
        rows = random_requests(seed=7, count=400, orgs=ORGS)
        insert(engine, rows)
        for partition, org in enumerate(ORGS):
            assert partition_of(org, 2) == partition % 2
            insert(database.of_partition(partition), [row for row in rows if row.org == org])
        yield Two(servers, database, engine)


def _asked(api_of: Api) -> dict[str, Any]:
    """Return every kind of answer that there is of rows."""
    found: dict[str, Any] = {"rankings": api_of.get("/v1/rankings")}
    for org in ORGS:
        for path in (
            "usage",
            "activity",
            "activity/totals",
            "activity/events",
            "activity/latency",
            "keys/use",
        ):
            found[f"{org} {path}"] = api_of.ask(f"/me/{path}", org)
        headers = {"Authorization": f"Bearer {api_of.token(org)}"}
        found[f"{org} csv"] = api_of.client.get("/me/activity/events.csv", headers=headers).text
    return found


def test_every_answer_is_what_one_database_answers(two: Two) -> None:
    with api(two.whole) as one, api(two.database) as both:
        expected = _asked(one)
        assert _asked(both) == expected
    assert expected["rankings"]["windows"]["30d"]
    assert all(expected[f"{org} csv"].count("\n") > 10 for org in ORGS)
    counts = [
        shard.query("SELECT count() FROM events", row=tuple[int])[0][0] for shard in two.database.shards
    ]
    assert min(counts) > 0 and sum(counts) == 400


def test_what_is_over_all_orgs_is_put_together(two: Two) -> None:
    below = [(position + 1000) * 1024 for position in range(4)]
    since = [0] * 4
    of_months: dict[str, object] = {"since": since, "low": 0, "from_day": "1970-01-01"}
    days = {"from_day": "2000-01-01", "to_day": "2100-01-01"}
    asked: dict[str, dict[str, object]] = {
        "verify_months": of_months,
        "verify_days": {"below": below, "low": 1, "from_day": "1970-01-01"},
        "verify_counts": {"partition": 1, "from_id": 0, "below": 2**53, "from_day": "1970-01-01"},
        "verify_rows": {"partition": 2, "from_id": 0, "below": 2**53, "from_day": "1970-01-01"},
        "verify_usage_day": {"below": below, "since": since, "low": 0, **days},
        "verify_model_day": {"below": below, "since": since, "low": 0, **days},
        "rankings": {**days, "recent_day": "2000-01-01"},
        "status_debited": {"day": "2026-06-13"},
    }

    async def answers(database: Database) -> dict[str, list[Any]]:
        ask = asking(database)
        return {
            name: sorted(json.loads(line) for line in (await ask(name, values)).splitlines())
            for name, values in asked.items()
        }

    expected = asyncio.run(answers(two.whole))
    assert asyncio.run(answers(two.database)) == expected
    assert expected["verify_usage_day"] == expected["verify_model_day"] == []
    assert len(expected["verify_months"]) > 1 and expected["verify_counts"][0][0] > 0


def test_whatif_and_reconcile_take_in_every_shard(two: Two) -> None:
    paid = [ledger_row(public_id(at, 2_000), org, 10 + at, 10 + at) for at, org in enumerate(ORGS)]
    for at, row in enumerate(paid):
        entries = [structs.replace(row, payment_id=f"pay_{at}")]
        block = b"".join(record.value for record in encode_rows(LEDGER, entries))
        for engine in (two.whole, two.database.of_partition(at)):
            engine.insert_blocks("ledger", block, 1, f"paid-{at}")
    values = {
        "one_org": "",
        "from_day": "2000-01-01",
        "to_day": "2100-01-01",
        "starts": [0],
        "bounds": [1000],
    }

    async def found(database: Database) -> tuple[list[Credited], tuple[int, ...]]:
        groups = [
            json.loads(line) for line in (await asking(database)("whatif_platform", values)).splitlines()
        ]
        # Requests, prompt tokens and what they cost, of whatever groups there are.
        sums = tuple(sum(group[column] for group in groups) for column in (5, 6, 11))
        credited = await _credited(database, since_ms=0) + await _credited(database, ids=["pay_1", "pay_2"])
        return sorted(credited, key=lambda row: (row.payment_id, row.org)), sums

    expected = asyncio.run(found(two.whole))
    assert asyncio.run(found(two.database)) == expected
    assert len(expected[0]) == 6 and min(expected[1]) > 0


def test_a_difference_on_one_shard_is_found(two: Two) -> None:
    two.database.of_org("org_a").command(
        "ALTER TABLE usage_day DELETE WHERE org = 'org_a' SETTINGS mutations_sync = 2"
    )
    days = {"from_day": "2000-01-01", "to_day": "2100-01-01"}
    values = {"below": [2**53] * 4, "since": [0] * 4, "low": 0, **days}

    async def ask() -> bytes:
        return await asking(two.database)("verify_usage_day", values)

    found = asyncio.run(ask())
    assert found.count(b"org_a") > 1 and b"org_b" not in found


def test_with_a_shard_away_the_orgs_of_the_other_are_answered(two: Two) -> None:
    two.servers[1].is_away = True
    with api(two.database) as both:
        for org in ORGS:
            status, _ = both.ask("/me/usage", org)
            assert status == (200 if partition_of(org, 2) == 0 else 503)
        assert both.ask("/v1/rankings")[0] == 503
        two.servers[1].is_away = False
        assert both.ask("/v1/rankings")[0] == 200


def test_shards_that_are_not_those_that_were_written_are_refused(two: Two, engine_home: str) -> None:
    with servers_of(two.whole, engine_home, "three") as more:
        servers = [*two.servers, *more]
        for shards in ((1, 0), (0,), (1,), (0, 1, 2)):
            with opened(url_of(*(servers[each] for each in shards))) as wrong:
                # The third was never written to, so it says nothing.
                _is_refused(wrong, [each for each in wrong.shards if shards[each.shard.number - 1] < 2])


def _is_refused(wrong: Database, written: list[Engine]) -> None:
    words = "METERING_CLICKHOUSE_URL has a database as shard"
    for shard in written:
        with pytest.raises(EngineUnavailable, match=words) as error:
            shard.query("SELECT count() FROM events", row=tuple[int])
        assert error.value.needs_operator
        with pytest.raises(EngineUnavailable, match=words):
            whose.adopt(shard, OURS, 1)
    with api(wrong) as served:
        of_written = [org for org in ORGS if wrong.of_org(org) in written]
        assert of_written
        assert {served.ask("/me/usage", org)[0] for org in of_written} == {503}
        assert served.ask("/v1/rankings")[0] == 503


def test_a_database_of_before_there_were_shards_is_the_only_one(engine: Engine, engine_home: str) -> None:
    known = load(sql_files("migrations"))
    before = [migration for migration in known if migration.version <= 7]
    with servers_of(engine, engine_home, "one", "two") as servers:
        with opened(url_of(servers[0])) as one:
            assert len(migrate(one, before)) == 7
            one.shards[0].insert("deployment", ("name", "id", "epoch"), b'["metering", "", 1]\n', "t")
        with (
            opened(url_of(*servers)) as both,
            pytest.raises(EngineUnavailable, match="written as shard 1 of 1"),
        ):
            migrate(both)
        with opened(url_of(servers[0])) as one:
            assert migrate(one) == NAMES[7:]
            assert whose.place_of(one.shards[0], 0, 1, 0).owners


def test_a_statement_for_the_cluster_is_told_to_one_shard_alone(engine: Engine, engine_home: str) -> None:
    with servers_of(engine, engine_home, "one", "two", together=True) as servers:
        with opened(url_of(*servers, cluster="main")) as both:
            assert migrate(both) == NAMES
            assert migrate(both) == []
        told = [[body for _, body in server.seen if b" ON CLUSTER " in body] for server in servers]
        assert len(told[0]) > len(NAMES) and told[1] == []


def test_what_migrations_send_to_shards_of_replicas(engine: Engine, engine_home: str) -> None:
    """No cluster runs it here, so that is the SQL that would be: METERING_TEST_NEW_SQL=1 writes the file anew."""
    with servers_of(engine, engine_home, "one", "two", together=True) as firsts, ExitStack() as stack:
        seconds = [stack.enter_context(serving(first.again())) for first in firsts]
        pairs = zip(firsts, seconds, strict=True)
        hosts = ";".join(f"127.0.0.1:{a.server_port},127.0.0.1:{b.server_port}" for a, b in pairs)
        with opened(f"http://{hosts}/metering?cluster=main") as both:
            migrate(both)
            for shard in both.shards:
                whose.adopt(shard, OURS, 1)
        sent = "".join(
            f"-- to replica {replica} of shard {number}\n\n{_changes(server)}"
            for number, replicas in enumerate(zip(firsts, seconds, strict=True), start=1)
            for replica, server in enumerate(replicas, start=1)
        )
        settings = {
            key: value for given, body in firsts[1].seen if b"INSERT" in body for key, value in given.items()
        }
    assert settings["insert_quorum"] == "auto"
    if os.environ.get("METERING_TEST_NEW_SQL"):
        SENT.write_text(sent)
    assert sent == SENT.read_text()


def _changes(server: Replica) -> str:
    """Return the statements given to a server that change something, of an insert the first line."""
    bodies = (body.decode().strip() for _, body in server.seen)
    changes = [body for body in bodies if not body.startswith(("SELECT", "SYSTEM"))]
    return "".join(f"{body.splitlines()[0] if body.startswith('INSERT') else body};\n\n" for body in changes)


def test_a_cluster_that_lacks_a_shard_is_told_of(engine: Engine, engine_home: str) -> None:
    with (
        servers_of(engine, engine_home, "one", "two") as servers,
        opened(url_of(*servers, cluster="main")) as both,
        pytest.raises(MigrationError, match="'main' does not reach shard 2 of 2"),
    ):
        migrate(both)
