"""What integration tests share: one embedded engine for the session, and a fresh database for each test.

A process can open one engine directory, once, so every test that needs ClickHouse takes it from here.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.migrate import migrate
from tests.support import parts
from tests.support.clickhouse.template import Template

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def engine_url() -> Iterator[str]:
    """Where the session's engine is."""
    with parts.clickhouse() as url:
        yield url


@pytest.fixture(scope="session")
def engine_home(engine_url: str) -> str:
    """The directory of the session's engine, for what needs the embedded one."""
    if not engine_url.startswith("chdb://"):
        pytest.skip("this test puts the embedded engine behind HTTP, so it runs on local parts only")
    return engine_url.removeprefix("chdb://")


@pytest.fixture(scope="session")
def session_engine(engine_url: str) -> Iterator[Engine]:
    """The session's engine."""
    engine = open_engine(engine_url)
    yield engine
    engine.close()


@pytest.fixture
def empty_engine(session_engine: Engine) -> Iterator[Engine]:
    """The engine on a database that does not exist yet."""
    # The lanes of one run may share a server that was given to them.
    lane = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    database = f"test_{lane}_{next(_numbers)}"
    yield session_engine.for_database(database)
    session_engine.command(f"DROP DATABASE IF EXISTS {database} SYNC", in_database=False)


@pytest.fixture(scope="session")
def template(session_engine: Engine) -> Template | None:
    """The schema to make databases from; on a given server, or in containers, each is migrated."""
    return Template(session_engine.for_database("test_template")) if session_engine.is_embedded else None


@pytest.fixture
def engine(empty_engine: Engine, template: Template | None) -> Engine:
    """The engine on a fresh database with the schema in it."""
    if template is None:
        migrate(empty_engine)
    else:
        template.copy_to(empty_engine)
    return empty_engine
