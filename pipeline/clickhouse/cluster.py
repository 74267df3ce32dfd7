"""What a cluster's replicas need that a single engine does not: to have caught up before they are believed.

Owns: which tables are replicated, and the statement that has a replica catch up.
Called by: `clickhouse/pool.py` and `clickhouse/client.py`. ADR 13 has the reasons.
"""

from __future__ import annotations

REPLICATED = ("events", "ledger", "usage_day", "model_day", "posted_day", "filled_roll_ups", "deployment")
"""What the sink writes, and what its views fill."""

CATCH_UP_SECONDS = 5
"""For how long a replica may catch up before it counts as one that does not answer."""
CATCH_UP_SETTINGS = {"receive_timeout": CATCH_UP_SECONDS}


def catch_up(table: str) -> str:
    """Return the statement that ends once a replica has every row that any replica has confirmed before it.

    LIGHTWEIGHT: it waits for parts to be fetched and not for merges.
    """
    return f"SYSTEM SYNC REPLICA {table} LIGHTWEIGHT"
