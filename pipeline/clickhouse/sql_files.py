"""Find the SQL files of `sql/`.

Owns: where they are.
Called by: `clickhouse/migrate.py`, `clickhouse/queries.py`.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.shipped import shipped

SQL = shipped("sql")


class SqlFilesMissingError(Exception):
    """The SQL files are not there: neither a checkout nor a whole wheel is what runs."""


def sql_files(folder: str) -> list[Path]:
    """Return the SQL files of a folder of `sql/` in the order of their names.

    Raises SqlFilesMissingError where there are none.
    """
    found = sorted((SQL / folder).glob("*.sql"))
    if not found:
        raise SqlFilesMissingError(
            f"no SQL files in {SQL / folder}: install the wheel, or run from a checkout (`pip install -e .`)"
        )
    return found
