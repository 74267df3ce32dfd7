"""Run the present code as the release after it would be: one stored thing newer, everything else the same.

`python -m tests.support.product.newer_release COMMAND` is `metering COMMAND` of such a release. What is newer,
METERING_TEST_NEWER says: `schema` is one more migration, which only adds; `state` is the next format of the state.
Nothing of the product knows of this, and nothing else is changed: what the present code makes of such records is
its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import formats

SCHEMA, STATE = "schema", "state"
VARIABLE = "METERING_TEST_NEWER"
MIGRATION = """-- additive: yes
ALTER TABLE events {{on_cluster}} ADD COLUMN IF NOT EXISTS mood LowCardinality(String);
"""


def _with_one_more_migration() -> None:
    from pipeline.clickhouse import migrate

    load = migrate.load

    def load_with_one_more(paths: list[Path]) -> list[migrate.Migration]:
        known = load(paths)
        number = len(known) + 1
        return [*known, migrate.Migration(number, f"{number:04d}_moods", MIGRATION)]

    migrate.load = load_with_one_more


def _with_the_next_format_of_the_state() -> None:
    object.__setattr__(formats.STATE, "number", formats.STATE.number + 1)


@contextmanager
def knowing_the_next_format_of_the_state() -> Iterator[None]:
    """For what a test does in its own process as the newer release would, such as to verify."""
    present = formats.STATE.number
    _with_the_next_format_of_the_state()
    try:
        yield
    finally:
        object.__setattr__(formats.STATE, "number", present)


def main() -> None:
    """Make one thing newer, and run the command."""
    {SCHEMA: _with_one_more_migration, STATE: _with_the_next_format_of_the_state}[os.environ[VARIABLE]]()
    from pipeline.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
