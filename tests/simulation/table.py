"""The table of a simulation: which faults were injected how often, and what came out different.

Called by: `__main__.py` and the tests.
"""

from __future__ import annotations

from collections import Counter

from tests.simulation import mail, redriver, sink, worker
from tests.simulation.runs import Result

CRASH_STEPS = (*worker.STEPS, *sink.STEPS, *mail.STEPS, *redriver.STEPS)

LINES = (
    ("seeds", "seeds"),
    ("events accepted", "events accepted"),
    ("events published again", "of them published again"),
    ("duplicates", "duplicates found"),
    ("moved", "events on the wrong partition, moved"),
    ("redrives", "redrives of dead letters begun"),
    ("commands", "commands carried out"),
    ("units committed", "units of work committed"),
    ("crashes", "crashes, all steps"),
    *((f"crash at {step}", f"... at {step}") for step in CRASH_STEPS),
    ("stale owners woken", "stale owners woken"),
    ("writes fenced", "writes of stale owners refused"),
    ("freezes", "processes frozen"),
    ("members taken for dead while alive", "members taken for dead while alive"),
    ("batches dropped after a rebalance", "batches fetched before a rebalance, dropped"),
    ("rebalances", "rebalances"),
    ("answers lost, done", "answers to a commit lost, done"),
    ("answers lost, not done", "requests of a transaction lost"),
    ("ended by UnclearError", "processes ended by an unclear answer"),
    ("transactions aborted", "transactions aborted"),
    ("transactions timed out", "transactions timed out"),
    ("producers' transactions aborted", "transactions of producers aborted, their records sent again"),
    ("compactions", "compactions"),
    ("records compacted away", "records compacted away"),
    ("group offsets changed from outside", "group offsets changed from outside"),
    ("inserts lost", "inserts done, answer lost"),
    ("inserts vanished", "inserts not done, no answer either"),
    ("inserts refused", "inserts refused"),
    ("inserts half", "inserts done in part"),
    ("inserts late", "inserts that arrived late"),
    ("inserts torn", "servers killed in the middle of an insert"),
    ("blocks lost", "blocks lost by that, their tokens known"),
    ("rows put back", "lost rows put back"),
    ("sums of roll-ups put back", "sums of roll-ups brought up to the rows"),
    ("sums of a new roll-up filled in", "sums that a roll-up lacked which an upgrade had made"),
    ("statements refused", "statements that put back refused"),
    ("statements done, answer lost", "statements that put back done, answer lost"),
    ("inserts on their way at the end", "inserts still on their way when the sink ended"),
    ("power cuts", "power cuts under an engine in the sink's process"),
    (
        "ranges looked for first in an engine just started",
        "recorded ranges looked for before they were sent to an engine just started",
    ),
    ("blocks deduplicated", "repeated blocks dropped by token"),
    ("ranges found too old", "ranges older than half of the time a token is remembered"),
    ("mails sent", "mails sent"),
    ("mails not taken", "mails not taken for now"),
    ("mails tried again", "mails tried again"),
    ("mails refused", "mails refused for good"),
    ("mails without an answer", "mails handed over without an answer"),
    ("gateways restarted", "gateways restarted, spool sent again"),
    ("numbered events sent again elsewhere", "numbered events sent again, to another partition"),
    ("clock jumps", "jumps of the clock"),
    ("day turns", "IST days turned"),
    ("month turns", "IST months turned"),
    ("outages of over 35 days", "outages of over 35 days"),
)
"""What is counted, and what it is called in the table. A test wants each to have happened."""


class Total:
    """The sum over seeds."""

    def __init__(self) -> None:
        """Start with no seed."""
        self.counts: Counter[str] = Counter()
        self.failed: list[Result] = []

    def add(self, result: Result) -> None:
        """Take in a seed."""
        self.counts.update(result.counts)
        if result.differences:
            self.failed.append(result)

    @property
    def never(self) -> list[str]:
        """The kinds of faults and crash steps that did not happen."""
        return [name for name, _ in LINES if not self.counts[name]]

    def lines(self) -> list[str]:
        """Return the table as Markdown."""
        rows = [("what", "how often"), ("---", "---:")]
        rows += [(title, f"{self.counts[name]:,}") for name, title in LINES]
        differences = sum(len(result.differences) for result in self.failed)
        rows.append(("**lost, doubled or wrong**", f"**{differences:,}**"))
        return [f"| {left} | {right} |" for left, right in rows]


def report(result: Result, events: int, mutant: str | None) -> list[str]:
    """Return what is needed to look into a failing seed."""
    replay = f"python -m tests.simulation --seed {result.seed} --events {events}"
    if mutant:
        replay += f" --mutant {mutant}"
    found = [f"  {check}: {what[:300]}" for check, what in result.differences[:12]]
    more = len(result.differences) - len(found)
    return [
        f"seed {result.seed} differs, run {result.digest}: {replay}",
        *found,
        *([f"  and {more} more"] if more else []),
        "  last steps:",
        *(f"    {step}" for step in result.trace[-12:]),
    ]
