"""Create the ClickHouse schema or bring it up to date.

Owns: the order and the record of the migrations of `sql/migrations/`, and their template words.
Called by: `metering migrate`, and the server when it starts. Next: `clickhouse/client.py`.

Forward only. Each file is applied once, in the order of its number, and recorded in `schema_versions`
with a checksum; a file that was edited after that is an error. Every statement may run twice, so a
migration that was cut off, or runs in two processes at once, is simply run again.

A file says in a line of its own, `-- additive: yes` or `-- additive: no`, whether releases before it can go on
with the schema that it makes. That is recorded too, so such a release starts on a newer schema, or says why not.

One set of files serves every kind of engine, by words in double braces:
`on_cluster` and `repl` are empty but on a cluster; `journal_settings` are the settings of each table
that the sink's inserts reach, roll-ups included.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipeline.clickhouse.client import Engine, EngineError, EngineUnavailable
from pipeline.clickhouse.errors import NOT_THERE, UNKNOWN_IDENTIFIER
from pipeline.clickhouse.location import LocationError
from pipeline.clickhouse.shards import Database, open_database
from pipeline.clickhouse.sql_files import SqlFilesMissingError, sql_files
from pipeline.settings import SinkSettings

log = logging.getLogger(__name__)

DEDUPLICATION_WINDOW = 100_000
"""How many blocks a table remembers by their tokens: 17 minutes of them at full rate (`sink/pace.py`), which few
deployments reach."""
DEDUPLICATION_WINDOW_SECONDS = 604_800

UNDECLARED_UP_TO = 5
"""Files up to this number say nothing, and need not: every release that asks knows them."""

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql\Z")
_ADDITIVE = re.compile(r"^-- additive: (yes|no)$", re.MULTILINE)
_WORD = re.compile(r"\{\{\s*(\w+)\s*\}\}")

_JOURNAL_SETTINGS = (
    f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}, "
    f"replicated_deduplication_window = {DEDUPLICATION_WINDOW}, "
    f"replicated_deduplication_window_seconds = {DEDUPLICATION_WINDOW_SECONDS}, "
    "fsync_after_insert = 1, fsync_part_directory = 1"
)

_VERSIONS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_versions {{on_cluster}} (
    version    UInt16,
    name       String,
    checksum   String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {{repl}}MergeTree
ORDER BY version
"""

_ADDITIVE_COLUMN = "ALTER TABLE schema_versions {{on_cluster}} ADD COLUMN IF NOT EXISTS additive Bool"
"""A column of its own statement: earlier releases made the table without it. Where nothing is said, it is false."""


_NO_RECORD = frozenset(
    {
        UNKNOWN_IDENTIFIER,
        *NOT_THERE,
    }
)


class MigrationError(Exception):
    """The schema cannot be brought up to date. The message says which file is in the way, and why."""


class _Applied(msgspec.Struct, array_like=True):
    version: int
    name: str
    checksum: str
    additive: bool


@dataclass(frozen=True)
class Migration:
    """A file of `sql/migrations/`: its number, name, text before the words are filled in, and checksum."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def additive(self) -> bool:
        """Whether releases before it can go on with the schema that it makes."""
        found = _ADDITIVE.search(self.text)
        return found is not None and found[1] == "yes"

    def statements(self, cluster: str | None) -> list[str]:
        """Return the statements for a cluster, or for a single engine where there is none."""
        lines = [line for line in self.text.splitlines() if not line.startswith("--")]
        parts = "\n".join(lines).split(";\n")
        return [
            render(part, cluster) for part in map(str.strip, (*parts[:-1], parts[-1].rstrip(";\n"))) if part
        ]


def render(text: str, cluster: str | None) -> str:
    """Return SQL with its template words filled in. Raises MigrationError for an unknown one."""
    words = {
        "on_cluster": f"ON CLUSTER '{cluster}'" if cluster else "",
        "repl": "Replicated" if cluster else "",
        "journal_settings": _JOURNAL_SETTINGS,
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise MigrationError(f"unknown template word {match[0]}")
        return words[match[1]]

    return _WORD.sub(fill, text)


def load(paths: list[Path]) -> list[Migration]:
    """Return the migrations of files.

    Raises MigrationError unless they are numbered 1, 2, 3, ... and say whether they are additive.
    """
    migrations = []
    for expected, path in enumerate(paths, start=1):
        match = _FILE_NAME.match(path.name)
        if match is None or int(match[1]) != expected:
            raise MigrationError(f"{path.name}: expected a file named {expected:04d}_name.sql here")
        migration = Migration(expected, path.stem, path.read_text(encoding="utf-8"))
        if expected > UNDECLARED_UP_TO and len(_ADDITIVE.findall(migration.text)) != 1:
            raise MigrationError(f"{path.name}: expected one line «-- additive: yes» or «-- additive: no»")
        migrations.append(migration)
    return migrations


def migrate(database: Database, migrations: list[Migration] | None = None) -> list[str]:
    """Apply what has not been applied, and return its names. A schema that is newer by additions is left as it is.

    Raises MigrationError where an applied file was changed, or is of a newer release and no addition, and the
    engine's errors.
    """
    todo = load(sql_files("migrations")) if migrations is None else migrations
    done, away = set[str](), list[EngineUnavailable]()
    for engines in told_together(database):
        try:
            done.update(_migrate(engines, todo))
        except EngineUnavailable as error:
            away.append(error)
    if away:
        raise away[0]
    return [migration.name for migration in todo if migration.name in done]


def is_up_to_date(engine: Engine) -> bool:
    """Whether a shard answers and lacks none of the migrations of this release."""
    try:
        return len(_applied(engine)) >= len(load(sql_files("migrations")))
    except (EngineError, EngineUnavailable):
        return False


def told_together(database: Database) -> list[Sequence[Engine]]:
    """Return the shards in groups: a statement that changes the schema is for the first of a group, and reaches all of it.

    ON CLUSTER reaches every shard of a cluster. Told to each of them, statements would be carried out again on those that
    have applied later ones, and have rows.
    """
    return [database.shards] if database.shards[0].cluster else [(each,) for each in database.shards]


def _migrate(engines: Sequence[Engine], todo: list[Migration]) -> list[str]:
    engine = engines[0]
    # Most who ask may only read, and need no more where nothing is to be done.
    looked_up = [_looked_up(each) for each in engines]
    try:
        applied = [each for each in looked_up if each is not None]
        if len(applied) < len(engines):
            _prepare(engine)
            applied = [_applied_beside(engine, each) for each in engines]
        for rows in applied:
            _check(todo, rows)
        done = []
        for migration in todo[min(map(len, applied)) :]:
            for statement in migration.statements(engine.cluster):
                engine.command(statement)
            for each, rows in zip(engines, applied, strict=True):
                if len(rows) < migration.version:
                    _record(each, migration)
            log.info("applied migration %s", migration.name)
            done.append(migration.name)
    except EngineError as error:
        if not error.needs_operator:
            raise
        raise EngineError(
            f"the schema is not up to date: run `metering migrate` as a user who may change it ({error})",
            error.code,
            needs_operator=True,
        ) from error
    return done


def main(settings: SinkSettings) -> str:
    """Migrate the engine that the settings name; return what was done. Raises MigrationError, whatever it was that failed."""
    if settings.clickhouse_url is None:
        raise MigrationError("METERING_CLICKHOUSE_URL is not set")
    try:
        database = open_database(settings.clickhouse_url, settings.clickhouse_tls)
    except (LocationError, EngineError) as error:
        raise MigrationError(str(error)) from error
    try:
        done = migrate(database)
    except (SqlFilesMissingError, EngineError, EngineUnavailable) as error:
        raise MigrationError(str(error)) from error
    finally:
        database.close()
    return f"applied {', '.join(done)}" if done else "the schema is up to date"


def _looked_up(engine: Engine) -> list[_Applied] | None:
    """Return what was applied, None where the record of it is not there or is an earlier release's."""
    try:
        return _applied(engine)
    except EngineError as error:
        if error.code in _NO_RECORD:
            return None
        raise


def _prepare(engine: Engine) -> None:
    """Make the record of what was applied."""
    engine.command(
        render(f"CREATE DATABASE IF NOT EXISTS `{engine.database}` {{{{on_cluster}}}}", engine.cluster),
        in_database=False,
    )
    engine.command(render(_VERSIONS_TABLE, engine.cluster))
    engine.command(render(_ADDITIVE_COLUMN, engine.cluster))


def _applied_beside(told: Engine, engine: Engine) -> list[_Applied]:
    """Return what was applied to a shard, once the first one was told to make the record of it on all."""
    try:
        return _applied(engine)
    except EngineError as error:
        if engine is told or error.code not in NOT_THERE:
            raise
        raise MigrationError(
            f"the cluster {told.cluster!r} does not reach {engine.shard}: ON CLUSTER has to reach every server that "
            "METERING_CLICKHOUSE_URL names"
        ) from error


def _applied(engine: Engine) -> list[_Applied]:
    # Two processes may have recorded the same file, so one row of each version is read.
    sql = (
        "SELECT version, any(name), any(checksum), max(additive) FROM schema_versions"
        " GROUP BY version ORDER BY version"
    )
    return engine.query(sql, row=_Applied)


def _check(todo: list[Migration], applied: list[_Applied]) -> None:
    for expected, row in enumerate(applied, start=1):
        if row.version != expected:
            raise MigrationError(f"schema_versions lacks version {expected} but has {row.version}")
        if expected > len(todo):
            if not row.additive:
                raise MigrationError(
                    f"{row.name} was applied by a newer release, and it is no mere addition: this release cannot work "
                    "with the schema that it made. Start the newer release."
                )
            log.info("the schema is newer by an addition, %s", row.name)
        elif todo[expected - 1].checksum != row.checksum:
            raise MigrationError(f"{row.name} was applied and then edited: add a new file instead")


def _record(engine: Engine, migration: Migration) -> None:
    values = [migration.version, migration.name, migration.checksum, migration.additive]
    row = msgspec.json.encode(values) + b"\n"
    columns = ("version", "name", "checksum", "additive")
    engine.insert("schema_versions", columns, row, token=f"schema-{migration.version}-{migration.checksum}")
