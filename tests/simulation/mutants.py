"""Known mistakes, planted one at a time, to show that the simulation sees them.

Owns: the mistakes and the checks that must find each. A mistake is a change of the models around the
protocols (`faults.Rules`), or a patch of one function of the product's own core or protocols; no step is
written a second time here. Called by: `runs.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from pipeline.accounts import decide
from pipeline.mail.outbox import Outbox
from pipeline.posting import meters, requests
from pipeline.posting import protocol as worker_protocol
from pipeline.posting.duplicates import NumberedSources, RecentNumbers, Ring
from pipeline.posting.state import PartitionState
from pipeline.sink import ranges
from pipeline.sink.protocol import RangeWriter
from tests.simulation import plants
from tests.simulation.faults import EMBEDDED, LARGE_RING, SMALL_RING, Rules
from tests.simulation.plants import Patch
from tests.support.builders import utc_day_at


@dataclass(frozen=True)
class Mutant:
    """A planted mistake: what it is, and which checks must see it, at least one of them."""

    name: str
    what: str
    caught_by: frozenset[str]
    rules: Rules = field(default_factory=Rules)
    patches: tuple[Patch, ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """What of the plan is not left to chance, for a mistake that only a rare mixture of faults shows."""


def _mutant(
    name: str,
    what: str,
    caught_by: str,
    *patches: Patch,
    conditions: Mapping[str, Any] | None = None,
    **rules: Any,
) -> Mutant:
    return Mutant(name, what, frozenset(caught_by.split(", ")), Rules(**rules), patches, conditions or {})


_TOKENS_SOON_FORGOTTEN = {
    "embedded": False,
    "partitions": 2,
    "sinks": 2,
    "window": 4,
    "linger_ms": 2_000,
    "range_max": 2,
    "crash": 0.06,
    "freeze": 0.02,
    "insert_lost": 0.0,
    "insert_refused": 0.0,
    "insert_half": 0.0,
    "insert_late": 0.0,
    "insert_torn": 0.0,
}


_ALL = (
    _mutant(
        "blind_add",
        "the state keeps neither an offset mark nor a duplicate check; what is read again is added again",
        "charged twice, conservation",
        plants.keep_no_marks,
        plants.forgetting(plants.forget_numbers_and_marks),
        start="group",
    ),
    _mutant(
        "offset_before_effect",
        "the offset is committed before the effect it stands for",
        "not charged, conservation",
        plants.keep_no_marks,
        start="group",
        group_offsets="before",
    ),
    _mutant(
        "start_at_group_offset",
        "reading starts where the group has committed, not where the state says",
        "ended unexpectedly, not charged, replies, conservation",
        start="group",
    ),
    _mutant(
        "no_fencing",
        "a stale owner's writes are taken; the last write wins",
        "charged twice, not charged, ids",
        fencing=False,
    ),
    _mutant(
        "new_token_per_try",
        "an insert that is tried again gets a new deduplication token",
        "stored rows",
        plants.new_token_per_try,
    ),
    _mutant(
        "utc_months",
        "days and months of budgets turn at midnight in UTC",
        "budgets",
        lambda: patch.object(meters, "day_at", utc_day_at),
    ),
    _mutant(
        "duplicate_check_off",
        "nothing is a duplicate",
        "charged twice",
        plants.forgetting(plants.forget_numbers_and_marks),
    ),
    _mutant(
        "dead_letter_dropped",
        "one dead letter in ten is not written",
        "dead letters, conservation",
        plants.drop_some_letters,
    ),
    _mutant(
        "moved_not_checked",
        "an event that comes by way of another partition is not checked",
        "charged twice",
        plants.forgetting(plants.forget_marks_of_moved),
    ),
    _mutant(
        "letters_forgotten",
        "a dead letter that may be redriven is not remembered when its event comes again",
        "charged twice",
        plants.forgetting(lambda state, _moved: state.unpriced.known.clear()),
        # Read in large pieces by one that never ends: the letter is still the newest of its source when it comes again.
        conditions={
            "partitions": 1,
            "ring": SMALL_RING,
            "orgs": 1,
            "crash": 0.0,
            "freeze": 0.0,
            "read_max": 500,
            "unpriced": 0.6,
        },
    ),
    _mutant(
        "end_before_fencing",
        "the end of the state topic is asked for before the previous owner is fenced",
        "charged twice, ids",
        restore_end="before fencing",
    ),
    _mutant(
        "restore_short",
        "the restore ends a fetch before the end of the state topic",
        "charged twice, ids",
        restore_end="short",
    ),
    _mutant(
        "read_uncommitted",
        "aborted transactions are read like committed ones",
        "charged twice, not charged, ids, stored rows",
        read_committed=False,
    ),
    _mutant(
        "gaps_are_losses",
        "a gap in the offsets, which a producer's transaction leaves, is taken for lost records",
        "ended unexpectedly, not charged, conservation",
        plants.take_gaps_for_losses,
        conditions={"transactional": 0.6},
    ),
    _mutant(
        "commit_again",
        "a unit is written again in a new transaction when the answer to its commit was unclear",
        "charged twice, ids",
        after_unclear="again",
    ),
    _mutant(
        "positions_reused",
        "after a restore the journal's positions begin one too low",
        "ids",
        plants.forget_positions,
    ),
    _mutant(
        "marks_not_kept",
        "the marks of events without numbers are in memory only",
        "charged twice",
        lambda: patch.object(Ring, "take_changes", lambda _: iter(())),
    ),
    _mutant(
        "numbers_not_kept",
        "the last numbers of sources are in memory only",
        "charged twice",
        lambda: patch.object(NumberedSources, "take_changes", lambda *_: iter(())),
    ),
    _mutant(
        "straight_not_known",
        "an event that was charged where it belongs is not known again when it comes by another partition",
        "charged twice",
        lambda: patch.object(RecentNumbers, "has", lambda *_: False),
        conditions={"partitions": 2, "astray": True, "ring": LARGE_RING},
    ),
    _mutant(
        "sweep_by_any_time",
        "which sources are idle goes by the newest time of any topic",
        "charged twice",
        plants.sweep_by_any_time,
        conditions={"partitions": 1, "jump": 0.03, "crash": 0.02},
    ),
    _mutant(
        "answers_not_kept",
        "a command that is sent again is carried out again",
        # Money has memories of its own: credits, payments and promo codes count once by their own names.
        "replies, ledger, balances",
        lambda: patch.object(decide, "with_answer", lambda profile, _: profile),
    ),
    _mutant(
        "payments_not_known",
        "a payment is credited each time it is told of",
        "ledger, balances",
        lambda: patch.object(PartitionState, "payment", lambda *_: None),
    ),
    _mutant(
        "dear_cache",
        "cached tokens cost as much as others",
        "charged wrongly",
        lambda: patch.object(requests, "cost_nano", plants.dear_cache),
    ),
    _mutant(
        "refusals_not_told",
        "a verdict repeats the refusals of the last one",
        "verdicts",
        plants.tell_no_refusals,
    ),
    _mutant(
        "range_skipped",
        "after a crash the sink goes on after the range it had recorded",
        "stored rows",
        plants.skip_recorded_range,
    ),
    _mutant(
        "range_cut_anew",
        "after a crash the sink cuts the recorded range anew",
        "stored rows",
        plants.skip_recorded_range,
        plants.read_recorded_range_again,
    ),
    _mutant(
        "insert_before_intent",
        "a range is inserted before it is recorded",
        "stored rows",
        plants.insert_before_recording,
    ),
    _mutant(
        "unclear_insert_is_done",
        "an insert without an answer counts as done",
        "stored rows",
        unclear_insert_is_done=True,
    ),
    _mutant(
        "found_range_not_judged",
        "a range that is older than tokens are remembered is sent without a look at its rows",
        "stored rows",
        lambda: patch.object(ranges, "is_old", lambda *_: False),
        conditions=_TOKENS_SOON_FORGOTTEN | {"expire": 0.02},
    ),
    _mutant(
        "old_range_not_completed",
        "of a range that is older than tokens are remembered, only the rows are looked at",
        "roll-ups",
        plants.look_at_rows_only,
        conditions=_TOKENS_SOON_FORGOTTEN
        | {"window": 24, "insert_half": 0.5, "expire": 0.02, "linger_ms": 250},
    ),
    _mutant(
        "sent_before_looked",
        "a recorded range is sent by its token to an engine that was started since, and may have forgotten it",
        "stored rows",
        plants.send_before_looking,
        conditions=EMBEDDED | {"power_cut": 0.8, "crash": 0.08},
    ),
    _mutant(
        "views_not_deduplicated",
        "a repeated insert does not reach the roll-ups that the first one missed",
        "roll-ups",
        views_deduplicated=False,
    ),
    _mutant(
        "lost_rows_not_put_back",
        "rows that a killed server has lost, though it knows their token, are not looked for",
        "stored rows, roll-ups",
        lambda: patch.object(RangeWriter, "put_back", plants.nothing),
    ),
    _mutant(
        "mail_sent_before_taken_out",
        "a mail is handed to the server before it is taken out of the topic",
        "mails",
        plants.send_before_taking_out,
    ),
    _mutant(
        "unclear_mail_sent_again",
        "a mail of which nobody knows whether the server has it is tried again",
        "mails",
        unclear_mail_is_not_taken=True,
    ),
    _mutant(
        "progress_not_told",
        "how far verdicts count is told beside units only, although those leave it out now and then",
        "verdicts",
        progress_told_between_units=False,
    ),
    _mutant(
        "refused_mail_not_kept",
        "a mail that the server did not take for now is not tried again",
        "mails",
        lambda: patch.object(Outbox, "back", lambda box, _: box),
        conditions={"mail_not_taken": 0.3},
    ),
)

MUTANTS = {mutant.name: mutant for mutant in _ALL}


@contextmanager
def planted(name: str | None) -> Iterator[Rules]:
    """Plant a mistake, or none, and give the rules that go with it. Raises KeyError for an unknown name."""
    if name is None:
        yield Rules()
        return
    mutant = MUTANTS[name]
    with ExitStack() as stack:
        for make in mutant.patches:
            stack.enter_context(make())
        # The guard at start would end the process before most of these do harm. The harm has to be seen.
        stack.enter_context(patch.object(worker_protocol, "state_against_journal", lambda *_: None))
        yield mutant.rules
