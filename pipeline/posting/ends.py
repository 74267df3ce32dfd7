"""Whether state, journal and inputs of a partition still end together, while it is being worked on.

Owns: that comparison, and what it says. Pure. Called by: `worker/ends_watch.py`, every hour.
`posting/protocol.py` compares the same when a partition is taken over.

A unit of work writes state and journal in one transaction, but the topics are read one after the other. So the
journal is read twice, before and after the state: what the state says must lie between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline import topics


@dataclass(frozen=True)
class PartitionEnds:
    """What was read of a partition, in this order."""

    journal_before: int
    """The position after the journal's last row."""
    state_position: int
    """The next position by the state topic's last record of a unit, 1 where it has none."""
    state_offsets: Mapping[str, int]
    """The next offset of each input by the same record."""
    journal_after: int
    inputs: Mapping[str, int]
    """Where each input ends."""
    known_ids: Mapping[str, str]
    """The ids that the topics had when the partition was taken over, by name; absent where there are none."""
    ids: Mapping[str, str]


def differences(ends: PartitionEnds) -> list[str]:
    """Return what does not end together, in words; nothing where all is well."""
    found = [
        f"{name} has the id {ends.ids[name]}, but had {known}: it was deleted and made anew"
        for name, known in ends.known_ids.items()
        if ends.ids.get(name, known) != known
    ]
    if ends.journal_after < ends.journal_before:
        found.append(f"{topics.JOURNAL} ended at {ends.journal_before} and now ends at {ends.journal_after}")
    if not ends.journal_before <= ends.state_position <= ends.journal_after:
        shorter = topics.STATE if ends.state_position < ends.journal_before else topics.JOURNAL
        found.append(
            f"{shorter} lost records: the state's next position is {ends.state_position}, the journal's is "
            f"{ends.journal_before} to {ends.journal_after}"
        )
    found += [
        f"{name} ends at {ends.inputs[name]}, but was posted up to {offset}"
        for name, offset in ends.state_offsets.items()
        if ends.inputs.get(name, offset) < offset
    ]
    return found
