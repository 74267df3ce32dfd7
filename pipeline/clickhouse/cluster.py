"""What a cluster needs that a single engine does not: replicas that have caught up, and shards that are what they are taken for.

Owns: which tables are replicated, the statement that has a replica catch up, and which shard a database says it is.
Called by: `clickhouse/pool.py`, `clickhouse/client.py`, `clickhouse/whose.py`. ADR 13 has the reasons. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

REPLICATED = ("events", "ledger", "usage_day", "model_day", "posted_day", "filled_roll_ups", "deployment")
"""What the sink writes, and what its views fill."""

CATCH_UP_SECONDS = 5
"""For how long a replica may catch up before it counts as one that does not answer."""
CATCH_UP_SETTINGS = {"receive_timeout": CATCH_UP_SECONDS}

WHICH_SHARD = "SELECT DISTINCT shard, shards FROM deployment"
"""Asks a database which shard it is: no row before the first sink."""
WHICH_SHARD_BEFORE = "SELECT DISTINCT 1, 1 FROM deployment"
"""The same where the schema is of a release that knew no shards."""


class Shard(NamedTuple):
    """Which of a deployment's shards a database is: its number, from 1 on, of how many."""

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        """Return it in words: shard 1 of 2."""
        return f"shard {self.number} of {self.total}"


ONLY_SHARD = Shard()


class ShardsError(Exception):
    """So many shards cannot share the partitions that there are. The message says which numbers can."""


def misplaced(ours: Shard, found: Iterable[Shard]) -> str | None:
    """Return what to set where a database says that it is another shard than it is taken for, None where it does not.

    `found` is all that it says: nothing before the first sink.
    """
    others = sorted(set(found) - {ours})
    if not others:
        return None
    return (
        f"METERING_CLICKHOUSE_URL has a database as {ours} that was written as {' and as '.join(map(str, others))}: name the "
        "shards that there are, all of them and in their order. To have more or fewer, rebuild into new databases "
        "(docs/scale.md)"
    )


def catch_up(table: str) -> str:
    """Return the statement that ends once a replica has every row that any replica has confirmed before it.

    LIGHTWEIGHT: it waits for parts to be fetched and not for merges.
    """
    return f"SYSTEM SYNC REPLICA {table} LIGHTWEIGHT"
