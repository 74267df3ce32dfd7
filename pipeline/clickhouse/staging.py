"""Make a table by way of which partitions get into another one, without a view being fed.

Owns: the staging table's engine. Called by: `clickhouse/lost.py` and `clickhouse/remake.py`.

It is of one replica and nobody else's, on a cluster too: the partition that is attached or replaced from it is replicated
then, like any part.
"""

from __future__ import annotations

import re

from pipeline.clickhouse.client import Engine

_REPLICATED = re.compile(r"\AReplicated(\w*MergeTree)(?:\('[^']*', '[^']*'\))?")


def make_like(engine: Engine, staging: str, table: str) -> None:
    """Make an empty table `staging` that partitions can be moved from into a table. Raises what the engine raises."""
    if engine.cluster is None:
        engine.command(f"CREATE TABLE {staging} AS {table}")
        return
    # Without ON CLUSTER a table cannot take over another's path in Keeper, nor should it.
    [(described,)] = engine.query(
        "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = {table:String}",
        {"table": table},
        row=tuple[str],
    )
    engine.command(f"CREATE TABLE {staging} AS {table} ENGINE = {alone(described)}")


def alone(engine_full: str) -> str:
    """Return what ENGINE says of a replicated table, for one that is not replicated."""
    return _REPLICATED.sub(r"\1", engine_full)
