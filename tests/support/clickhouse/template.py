"""A database that was migrated once, and new ones made as it is: hundreds of tests want one of their own.

Called by: tests/integration/conftest.py; that a copy is what the migrations make is for tests/integration/test_schema.py.
"""

from __future__ import annotations

from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.migrate import migrate

_MADE_BY = """
SELECT create_table_query FROM system.tables WHERE database = {database:String}
ORDER BY engine = 'MaterializedView', name
"""


def made_by(engine: Engine) -> list[str]:
    """Return the statements that would make a database's tables as they are, then its views."""
    return [sql for (sql,) in engine.query(_MADE_BY, {"database": engine.database}, row=tuple[str])]


class Template:
    """A migrated database of an embedded engine."""

    def __init__(self, engine: Engine) -> None:
        """Migrate a new database."""
        migrate(engine)
        self._database = engine.database
        self._statements = made_by(engine)

    def copy_to(self, engine: Engine) -> None:
        """Make a new database with the same schema, and what its migrations have noted, in a third of their time."""
        engine.command(f"CREATE DATABASE {engine.database}", in_database=False)
        for sql in self._statements:
            engine.command(sql.replace(f"{self._database}.", f"{engine.database}."))
        for table in ("schema_versions", "filled_roll_ups"):
            engine.command(f"INSERT INTO {table} SELECT * FROM {self._database}.{table}")
