"""ClickHouse's users in the shipped stack: each role has one, and none more than its database. What they may, the real engine
says in tests/integration/test_clickhouse_users.py.
"""

from __future__ import annotations

import re

import pytest

from tests.support.clickhouse.users import OWNER, READER, SINK, grants
from tests.support.deploy import DEPLOY

SOURCES = [
    path
    for folder in ("pipeline", "sql")
    for path in (DEPLOY.parent / folder).rglob("*")
    if path.suffix in (".py", ".sql")
]
READ_BY_THE_DRIVER = {"settings"}
"""clickhouse-connect looks settings up there before it sends any."""


def _system_tables(user: str) -> set[str]:
    found = (re.fullmatch(r"GRANT SELECT ON system\.(\w+)", grant) for grant in grants(user))
    return {each[1] for each in found if each}


def test_every_system_table_that_is_read_is_granted() -> None:
    read = {
        table
        for path in SOURCES
        for table in re.findall(r"FROM system\.(\w+)", path.read_text(encoding="utf-8"))
    }
    assert read
    assert _system_tables(OWNER) == _system_tables(SINK) == read | READ_BY_THE_DRIVER
    assert _system_tables(READER) == READ_BY_THE_DRIVER


@pytest.mark.parametrize("user", [OWNER, SINK, READER])
def test_a_user_has_its_own_database_and_no_other(user: str) -> None:
    beside = [grant for grant in grants(user) if not grant.startswith("GRANT SELECT ON system.")]
    for grant in beside:
        assert re.search(r" ON metering\.\S+$", grant) or grant.startswith("GRANT TABLE ENGINE ON "), grant


def test_who_reads_may_change_nothing() -> None:
    assert [grant for grant in grants(READER) if not grant.startswith("GRANT SELECT ON ")] == []
