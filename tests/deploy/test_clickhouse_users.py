"""ClickHouse's users in the shipped stack: the product's own user may read every system table that the product reads."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from tests.support.deploy import DEPLOY

SOURCES = [
    path
    for folder in ("pipeline", "sql")
    for path in (DEPLOY.parent / folder).rglob("*")
    if path.suffix in (".py", ".sql")
]
READ_BY_THE_DRIVER = {"settings"}
"""clickhouse-connect looks settings up there before it sends any."""


def _grants() -> list[str]:
    root = ET.parse(DEPLOY / "clickhouse" / "users.xml").getroot()
    return [query.text or "" for query in root.findall("./users/metering/grants/query")]


def test_every_system_table_that_is_read_is_granted() -> None:
    read = {
        table
        for path in SOURCES
        for table in re.findall(r"FROM system\.(\w+)", path.read_text(encoding="utf-8"))
    }
    granted = [re.fullmatch(r"GRANT SELECT ON system\.(\w+)", grant) for grant in _grants()]
    assert read
    assert read | READ_BY_THE_DRIVER == {found[1] for found in granted if found}


def test_the_user_owns_its_own_database_and_no_other() -> None:
    beside = [grant for grant in _grants() if not grant.startswith("GRANT SELECT ON system.")]
    assert [grant.rsplit(" ON ", 1)[1] for grant in beside] == ["metering.*", "*"]
    assert beside[1] == "GRANT TABLE ENGINE ON *"
