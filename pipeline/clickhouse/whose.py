"""Ask the database whose it is and where a partition's rows end, and write whose it is.

Owns: the table `deployment`. Called by: `sink/partition.py`, before anything is written, and `sink/rebuild.py`. Next: `sink/histories.py` judges.
"""

from __future__ import annotations

import msgspec

from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.cluster import ONLY_SHARD, Shard, misplaced
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.clickhouse.queries import query
from pipeline.identity import DeploymentIdentity
from pipeline.inserts import DatabasePlace
from pipeline.journal import position_of, public_id

LAST_ROWS = 500_000
"""More than a range of the sink has."""
SCAN = {"max_execution_time": 600}


def place_of(engine: Engine, partition: int, first: int, last: int) -> DatabasePlace:
    """Return whose the database is, and what it has of a partition around the positions `first` to `last`.

    Raises what the engine raises, and EngineUnavailable where the database says that it is another shard.
    """
    whose = query("deployments").of_platform()
    owners = engine.query(whose.sql, whose.parameters, row=tuple[str, str, int, int, int])
    problem = misplaced(engine.shard, [Shard(*which) for _, _, _, *which in owners])
    if problem is not None:
        raise EngineUnavailable(problem, needs_operator=True)
    before = public_id(partition, first - 1)
    bound = query("rows_around").of_platform(
        before=before, last=public_id(partition, last), partition=partition
    )
    [(found, highest)] = engine.query(bound.sql, bound.parameters, row=tuple[int, int])
    return DatabasePlace(
        owners=tuple((DeploymentIdentity(name, topic_id), epoch) for name, topic_id, epoch, *_ in owners),
        has_before=first <= 1 or found > 0,
        highest=position_of(highest)[1],
    )


def is_written(engine: Engine, partition: int, end: int) -> bool:
    """Whether the last rows of a partition before a position are all there and in the roll-ups, a large range of them.

    Rows are written in their order, a range after the other, and a range's roll-ups after its rows. Raises what the engine raises.
    """
    engine.catch_up()
    first = max(1, end - LAST_ROWS)
    bounds = {
        "low": public_id(partition, first),
        "high": public_id(partition, end - 1),
        "partition": partition,
    }
    counted = query("rows_between").of_platform(**bounds)
    found = engine.query(counted.sql, counted.parameters, row=tuple[int], settings=SCAN)[0][0]
    if found < end - first:
        return False
    lacking = query("range_lacking").of_platform(**bounds)
    return engine.query(lacking.sql, lacking.parameters, row=tuple[int], settings=SCAN)[0][0] == 0


def unbroken_up_to(engine: Engine, partition: int, highest: int) -> int:
    """Return up to which position a partition's rows are all there, looked for among the last LAST_ROWS up to `highest`.

    More than a range is never written at once, so a backup lacks none before these; of months that were dropped there may
    be fewer. Raises what the engine raises.
    """
    engine.catch_up()
    below = max(0, highest - LAST_ROWS)
    low, high = below, highest
    while low < high:
        middle = (low + high + 1) // 2
        bounds = {
            "low": public_id(partition, below + 1),
            "high": public_id(partition, middle),
            "partition": partition,
        }
        counted = query("rows_between").of_platform(**bounds)
        found = engine.query(counted.sql, counted.parameters, row=tuple[int], settings=SCAN)[0][0]
        low, high = (middle, high) if found == middle - below else (low, middle - 1)
    return low


def adopt(engine: Engine, identity: DeploymentIdentity, epoch: int) -> None:
    """Write whose the database is, and which shard. Safe to repeat. Raises what the engine raises."""
    columns: tuple[str, ...] = ("name", "id", "epoch")
    values: list[str | int] = [identity.name, identity.id, epoch]
    token = f"{identity}:{epoch}"
    if engine.shard != ONLY_SHARD:
        columns += ("shard", "shards")
        values += engine.shard
        token += f":{engine.shard}"
    engine.insert("deployment", columns, msgspec.json.encode(values) + b"\n", token=token)
