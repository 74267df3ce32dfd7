"""Find the SQL files: `sql/` stands beside the package, in the repository's root.

Owns: where they are.
Called by: `clickhouse/migrate.py`, `clickhouse/queries.py`.
"""

from __future__ import annotations

from pathlib import Path

import pipeline

SQL = Path(pipeline.__file__).resolve().parent.parent / "sql"


class SqlFilesMissingError(Exception):
    """The SQL files are not there, which means that the package was installed without its repository."""


def sql_files(folder: str) -> list[Path]:
    """Return the SQL files of a folder of `sql/` in the order of their names.

    Raises SqlFilesMissingError where there are none.
    """
    found = sorted((SQL / folder).glob("*.sql"))
    if not found:
        raise SqlFilesMissingError(
            f"no SQL files in {SQL / folder}: run from a checkout, installed with `pip install -e .`"
        )
    return found
