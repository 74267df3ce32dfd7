"""The sink stops, before it writes anything, where its place, the journal and the database are of two histories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs

from pipeline import topics
from pipeline.identity import DeploymentIdentity, MixedHistoriesError
from pipeline.inserts import DatabasePlace
from pipeline.journal import LEDGER, JournalRecord
from pipeline.sink import ranges
from pipeline.sink.protocol import INTENT_KEY, RangeWriter
from pipeline.sink.steps import (
    AdoptDatabase,
    Insert,
    LookAtDatabase,
    NotConfirmedError,
    ReadJournal,
    SinkStep,
)
from pipeline.steps import Commit, LastHeaders, Now, Restore, TopicIds
from tests.support import scripted

OURS, THEIRS = DeploymentIdentity("metering", "a" * 32), DeploymentIdentity("metering", "b" * 32)
RECORDS = [(10, JournalRecord(LEDGER, 5, 8, b"rows"))]
FITS = DatabasePlace(((OURS, 1),))


class Parts:
    """What the sink finds in Kafka and in the database when it takes a partition over."""

    def __init__(
        self,
        *databases: DatabasePlace | Exception,
        journal: DeploymentIdentity | None = OURS,
        recorded: str | None = str(OURS),
        epoch: int = 1,
    ) -> None:
        """`databases` are answers, one after the other; `recorded` is whose range was recorded last, if any was."""
        self._databases: Iterator[DatabasePlace | Exception] = iter(databases)
        self._journal, self._recorded, self._epoch = journal, recorded, epoch
        self.taken: list[SinkStep] = []

    def answer(self, step: SinkStep) -> object:  # noqa: PLR0911 - one case a step
        """Answer a step, and note it."""
        self.taken.append(step)
        match step:
            case Restore():
                if self._recorded is None:
                    return {}
                intent = structs.replace(ranges.cut(RECORDS, 0), deployment=self._recorded, epoch=self._epoch)
                return {INTENT_KEY: ranges.encode(intent)}
            case TopicIds():
                return {topics.JOURNAL: "a" * 32}
            case LastHeaders():
                return None if self._journal is None else [self._journal.header()]
            case LookAtDatabase():
                found = next(self._databases)
                if isinstance(found, Exception):
                    raise found
                return found
            case ReadJournal():
                return RECORDS
            case Now():
                return 0
        return False

    def adopted(self) -> list[AdoptDatabase]:
        """Return what was written about whose the database is."""
        return [step for step in self.taken if isinstance(step, AdoptDatabase)]


def _taken_over(parts: Parts, deployment: str = "metering") -> int:
    return scripted.run(RangeWriter(deployment, 2, 10_000).take_over(), parts.answer)[0]


def _stopped(parts: Parts, match: str, deployment: str = "metering") -> None:
    with pytest.raises(MixedHistoriesError, match=match):
        _taken_over(parts, deployment)
    assert not any(isinstance(step, Commit | Insert) for step in parts.taken)


def test_what_is_of_one_history_goes_on() -> None:
    parts = Parts(FITS)
    assert _taken_over(parts) == 11
    assert LookAtDatabase(5, 8) in parts.taken
    assert parts.adopted() == []


@pytest.mark.parametrize("recorded", [None, "", str(OURS)])
@pytest.mark.parametrize("journal", [None, OURS])
def test_a_database_that_does_not_say_whose_it_is_gets_its_identity(
    recorded: str | None, journal: DeploymentIdentity | None
) -> None:
    parts = Parts(NotConfirmedError("away"), DatabasePlace(), FITS, recorded=recorded, journal=journal)
    assert _taken_over(parts) == (0 if recorded is None else 11)
    assert parts.adopted() == [AdoptDatabase(OURS, 1)]


def test_of_two_deployments_that_begin_at_once_neither_writes() -> None:
    both = DatabasePlace(((OURS, 1), (THEIRS, 1)))
    _stopped(Parts(DatabasePlace(), both), f"the database is of the deployment {THEIRS}, .* is of {OURS}")


def test_a_database_of_another_deployment_stops_it() -> None:
    _stopped(Parts(DatabasePlace(((THEIRS, 1),))), "METERING_CLICKHOUSE_URL.*metering rebuild clickhouse")


def test_a_database_of_another_epoch_stops_it() -> None:
    _stopped(Parts(FITS, epoch=2), "is of epoch 1, but metering.state.sink is of epoch 2")


def test_kafka_of_an_earlier_moment_stops_it() -> None:
    _stopped(Parts(DatabasePlace(FITS.owners, highest=20)), "up to position 20, but .* up to 8 only")


def test_a_lost_topic_of_the_sink_stops_it() -> None:
    lost = Parts(DatabasePlace(FITS.owners, highest=20), recorded=None)
    _stopped(lost, "up to position 20, but .* up to 0 only: .*metering rebuild clickhouse")
    assert LookAtDatabase(1, 0) in lost.taken


def test_an_empty_or_older_database_stops_it() -> None:
    _stopped(Parts(DatabasePlace((), has_before=False)), "lacks the row of partition 2 at position 4")


@pytest.mark.parametrize("parts", [Parts(FITS), Parts(FITS, journal=None)])
def test_a_mistyped_deployment_stops_it(parts: Parts) -> None:
    _stopped(parts, f"is of the deployment {OURS}, and this process is of 'metring'", "metring")


def test_a_journal_of_another_deployment_than_the_ranges_stops_it() -> None:
    _stopped(Parts(FITS, journal=THEIRS), f"state.sink/2 is of the deployment {OURS}, but .* is of {THEIRS}")
