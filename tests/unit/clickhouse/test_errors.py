"""Which of the driver's errors are a refusal, and which leave it open."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, Error, OperationalError, ProgrammingError

from pipeline.clickhouse.errors import EngineError, EngineUnavailable, engine_failure


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DatabaseError("Unknown table", code=60), EngineError),
        (DatabaseError("Cannot parse", code=27), EngineError),
        (ProgrammingError("unknown setting"), EngineError),
        (DatabaseError("Timeout exceeded", code=159), EngineUnavailable),
        (DatabaseError("Too many parts", code=252), EngineUnavailable),
        (DatabaseError("read-only replica", code=242), EngineUnavailable),
        (DatabaseError("no more space", code=243), EngineUnavailable),
        (DatabaseError("wrong password", code=516), EngineUnavailable),
        (OperationalError("connection reset"), EngineUnavailable),
        (DatabaseError("502 Bad Gateway"), EngineUnavailable),
    ],
)
def test_kinds(error: Error, kind: type[Exception]) -> None:
    assert type(engine_failure(error)) is kind


def test_the_code_is_kept() -> None:
    failure = engine_failure(DatabaseError("Unknown table", code=60))
    assert isinstance(failure, EngineError)
    assert failure.code == 60
