"""What integration tests share: one embedded engine for the session, and a fresh database for each test.

A process can open one engine directory, once, so every test that needs ClickHouse takes it from here.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.migrate import migrate

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def engine_home() -> Iterator[str]:
    """The directory of the session's engine."""
    home = tempfile.mkdtemp(prefix="metering-clickhouse-")
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def session_engine(engine_home: str) -> Iterator[Engine]:
    """The session's engine."""
    engine = open_engine(f"chdb://{engine_home}")
    yield engine
    engine.close()


@pytest.fixture
def empty_engine(session_engine: Engine) -> Iterator[Engine]:
    """The engine on a database that does not exist yet."""
    database = f"test_{next(_numbers)}"
    yield session_engine.for_database(database)
    session_engine.command(f"DROP DATABASE IF EXISTS {database} SYNC", in_database=False)


@pytest.fixture
def engine(empty_engine: Engine) -> Engine:
    """The engine on a fresh database with the schema in it."""
    migrate(empty_engine)
    return empty_engine
