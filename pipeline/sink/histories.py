"""Whether the sink's place, the journal and the database are of one history: what differs, in words. Pure.

Owns: that comparison. Called by: `sink/protocol.py`, when a partition is taken over, before anything is sent.

Positions rise by one a row, and a range is recorded before it is sent. So the rows of a partition end within the range that
was recorded last: rows after it, or none right before it, are of another history. ADR 9 tells the cases.
"""

from __future__ import annotations

from pipeline import topics
from pipeline.identity import DeploymentIdentity, MixedHistoriesError
from pipeline.inserts import DatabasePlace

MAKE_AGAIN = "`metering rebuild clickhouse` makes the database again from the journal. See docs/operations.md, «Two histories»."


def check_journal(partition: int, kept: DeploymentIdentity | None, of_journal: DeploymentIdentity) -> None:
    """Raise MixedHistoriesError where the journal is of another deployment than the ranges that the sink recorded."""
    if kept is not None and not kept.is_of(of_journal):
        raise MixedHistoriesError(
            f"{topics.SINK_STATE}/{partition} is of the deployment {kept}, but {topics.JOURNAL}/{partition} is of "
            f"{of_journal}: nothing was written. Go back to the topics that belong together; {MAKE_AGAIN}"
        )


def is_adopted(ours: DeploymentIdentity, epoch: int, found: DatabasePlace) -> bool:
    """Whether the database says that it is ours; it says nothing before the first sink of a release that writes it.

    Raises MixedHistoriesError where it is another deployment's, or of another epoch.
    """
    for owner, its_epoch in found.owners:
        if not owner.is_of(ours):
            raise MixedHistoriesError(
                f"the database is of the deployment {owner}, but {topics.JOURNAL} is of {ours}: nothing was written. Set "
                "METERING_CLICKHOUSE_URL to this deployment's database. Only if nobody needs the other one's rows: "
                f"{MAKE_AGAIN}"
            )
        if its_epoch != epoch:
            raise MixedHistoriesError(
                f"the database of {owner} is of epoch {its_epoch}, but {topics.SINK_STATE} is of epoch {epoch}: one of the "
                f"two is older than the last rebuild. Nothing was written. {MAKE_AGAIN}"
            )
    return bool(found.owners)


def check_rows(partition: int, first: int, last: int, found: DatabasePlace) -> None:
    """Raise MixedHistoriesError where a partition's rows do not end within the positions `first` to `last`.

    These are of the range that the sink has recorded last.
    """
    if found.highest > last:
        raise MixedHistoriesError(
            f"the database has rows of partition {partition} up to position {found.highest}, but "
            f"{topics.SINK_STATE}/{partition} knows of rows up to {last} only: Kafka was restored to an earlier moment, or "
            f"the topic was lost. New rows would get ids that are taken. Nothing was written. {MAKE_AGAIN}"
        )
    if not found.has_before:
        raise MixedHistoriesError(
            f"the database lacks the row of partition {partition} at position {first - 1}, but "
            f"{topics.SINK_STATE}/{partition} has written it: the database is empty, another one, or was restored from a "
            f"backup. Nothing was written. {MAKE_AGAIN}"
        )
