"""The worker's protocol: the order of its steps, and what goes to which topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from pipeline import topics
from pipeline.accounts.commands import Credit, encode
from pipeline.accounts.promos import PromoTable
from pipeline.catalog.rates import Rate, RateTable
from pipeline.events import STAMP_AHEAD_MS
from pipeline.identity import DeploymentIdentity, MixedHistoriesError, of_headers
from pipeline.journal import LEDGER, JournalRecord
from pipeline.outcomes import DeadLetterReason
from pipeline.posting import beside_journal
from pipeline.posting.protocol import (
    Decide,
    WorkerStep,
    outputs_of,
    state_against_journal,
    take_over,
    unit_of_work,
)
from pipeline.posting.state import PartitionState, StateError
from pipeline.posting.unit import (
    DeadLetter,
    FutureStampError,
    InputRecord,
    Moved,
    UnitOutput,
)
from pipeline.steps import (
    AnotherTopicError,
    Commit,
    ConfirmOwner,
    Fence,
    LastHeaders,
    Now,
    Output,
    Reached,
    Restore,
    TopicIds,
    TopicPlace,
)
from tests.support import scripted
from tests.support.builders import COMMAND_KEYS, NOW_MS, Record, command_record, event, packed, rate_table

REQUESTS = [Record(value=packed(event()))]
BESIDE = TopicPlace(topics.BESIDE_JOURNAL, 2)
JOURNAL_AT_4 = JournalRecord(LEDGER, 3, 3, b"").headers()


class FencedError(Exception):
    """What a commit comes to once another owner is there."""


def _restored(step: WorkerStep) -> object:
    match step:
        case Restore() | TopicIds():
            return {}
        case LastHeaders():
            return JOURNAL_AT_4
    return None


def _decided(step: WorkerStep) -> object:
    if isinstance(step, Decide):
        list(step.decision)
    return NOW_MS if isinstance(step, Now) else None


def _unit(state: PartitionState, topic: str, records: Sequence[InputRecord]) -> list[WorkerStep]:
    posted, steps = scripted.run(
        unit_of_work(state, rate_table(), PromoTable(), COMMAND_KEYS, topic, records), _decided
    )
    assert (posted is None) is (not steps)
    return steps


class TestTakingOver:
    def test_the_state_is_read_once_nobody_else_can_write(self) -> None:
        state, steps = scripted.run(
            take_over("metering", 2, 4), lambda step: {} if isinstance(step, Restore | TopicIds) else None
        )
        assert scripted.names(steps) == [
            *("Fence", "Restore", "TopicIds", "LastHeaders", "Commit", "Restore"),
            *("LastHeaders", "Restore", "Commit", "Commit", "Reached"),
        ]
        assert isinstance(steps[0], Fence)
        place = TopicPlace(topics.STATE, 2)
        assert steps[1:] == [
            Restore(place),
            TopicIds((*topics.INPUTS, topics.JOURNAL, topics.STATE)),
            LastHeaders(TopicPlace(topics.JOURNAL, 2)),
            Commit({place: [Output(*state.save_meta()), Output(b"imetering", b"")]}),
            Restore(place),
            LastHeaders(BESIDE),
            Restore(BESIDE),
            Commit({BESIDE: [Output(b"imetering", b"")]}),
            Commit({BESIDE: beside_journal.of_unit(state, [], [])}),
            Reached("worker.restored"),
        ]
        assert (state.partition, state.partitions) == (2, 4)

    def test_a_lost_state_is_told_only_by_whoever_is_still_the_owner(self) -> None:
        with pytest.raises(StateError, match="the state topic lost records"):
            scripted.run(take_over("metering", 2, 4), _restored)

        def overtaken(step: WorkerStep) -> object:
            if isinstance(step, ConfirmOwner):
                assert step.place == TopicPlace(topics.STATE, 2)
                raise FencedError
            return _restored(step)

        with pytest.raises(FencedError):
            scripted.run(take_over("metering", 2, 4), overtaken)

    def test_the_ids_of_its_topics_are_kept_and_another_topic_of_the_name_stops_it(self) -> None:
        kept: dict[bytes, bytes] = {}

        def answer(ids: dict[str, str]) -> Callable[[WorkerStep], object]:
            def answered(step: WorkerStep) -> object:
                match step:
                    case Restore():
                        return kept
                    case TopicIds():
                        return ids
                return None

            return answered

        first = dict.fromkeys((*topics.INPUTS, topics.JOURNAL, topics.STATE), "a" * 32)
        # Brokers that give topics no ids, then some that do.
        state, _ = scripted.run(take_over("metering", 0, 1), answer({}))
        state, _ = scripted.run(take_over("metering", 0, 1), answer(first))
        state.meta.offsets = dict.fromkeys(topics.INPUTS, 7)
        key, value = state.save_meta()
        assert value is not None
        kept[key] = value
        assert scripted.run(take_over("metering", 0, 1), answer(first))[0].meta.offsets == state.meta.offsets
        assert scripted.run(take_over("metering", 0, 1), answer({}))[0].meta.topic_ids == first

        for name in first:
            another = first | {name: "b" * 32}
            with pytest.raises(AnotherTopicError, match=f"{name} has the id b{{32}}, .* had the id a{{32}}"):
                scripted.run(take_over("metering", 0, 1), answer(another))
            with pytest.raises(AnotherTopicError):
                scripted.run(take_over("metering", 0, 1, {name: "c" * 32}), answer(another))
            # An operator has accepted it: it is read from its beginning, the others go on.
            state, steps = scripted.run(take_over("metering", 0, 1, {name: "b" * 32}), answer(another))
            commits = [step for step in steps if isinstance(step, Commit)]
            # What is kept beside the journal is written anew.
            assert [set(commit.outputs) for commit in commits[1:]] == [{TopicPlace(BESIDE.topic, 0)}] * 2
            assert commits[:1] == [
                Commit(
                    {
                        TopicPlace(topics.STATE, 0): [
                            Output(*state.save_meta()),
                            Output(b"imetering", another[topics.JOURNAL].encode()),
                        ]
                    }
                )
            ]
            read_anew = {name: 0} if name in topics.INPUTS else {}
            assert state.meta.offsets == dict.fromkeys(topics.INPUTS, 7) | read_anew
            assert state.meta.topic_ids == another

    def test_state_and_journal_must_end_with_the_same_unit(self) -> None:
        state = PartitionState(0, 1)
        assert state_against_journal(state, None) is None
        assert "state topic lost" in str(state_against_journal(state, JOURNAL_AT_4))
        state.meta.position = 4
        assert state_against_journal(state, JOURNAL_AT_4) is None
        assert "journal topic lost" in str(state_against_journal(state, None))


class TestUnitOfWork:
    def test_requests_are_decided_then_committed_at_once(self) -> None:
        state = PartitionState(0, 1)
        steps = _unit(state, topics.REQUESTS, REQUESTS)
        assert scripted.names(steps) == ["Now", "Decide", "Reached", "Commit", "Reached"]
        assert (steps[2], steps[4]) == (Reached("worker.decided"), Reached("worker.committed"))
        commit = steps[3]
        assert isinstance(commit, Commit)
        assert len(commit.outputs[TopicPlace(topics.JOURNAL, 0)]) == 1
        assert commit.counts["events"] == 1

    def test_commands_wait_for_the_catalog_that_they_name(self) -> None:
        command = command_record(encode(Credit(id="c", org="org_1", amount_nano=5, reason="r")))
        steps = _unit(PartitionState(0, 1), topics.BILLING, [command])
        assert scripted.names(steps) == ["Now", "AwaitCatalog", "Reached", "Commit", "Reached"]

    def test_what_the_state_has_seen_takes_no_step(self) -> None:
        state = PartitionState(0, 1)
        _unit(state, topics.REQUESTS, REQUESTS)
        assert _unit(state, topics.REQUESTS, REQUESTS) == []

    def test_a_record_after_a_gap_is_charged(self) -> None:
        state = PartitionState(0, 1)
        _unit(state, topics.REQUESTS, [Record(offset=3, value=packed(event()))])
        assert state.account("org_1").spending.balance_nano < 0
        assert state.meta.offsets == {topics.REQUESTS: 4}

    @pytest.mark.parametrize("topic", topics.INPUTS)
    def test_a_time_stamp_from_the_future_ends_the_unit_before_anything_is_decided(self, topic: str) -> None:
        """Of the two records the second is a millisecond further ahead than a broker's clock can be."""
        records = [
            Record(topic, 2, 7, NOW_MS + STAMP_AHEAD_MS),
            Record(topic, 2, 8, NOW_MS + STAMP_AHEAD_MS + 1),
        ]
        taken: list[str] = []

        def answer(step: WorkerStep) -> object:
            taken.append(type(step).__name__)
            return _decided(step)

        unit = unit_of_work(PartitionState(2, 4), rate_table(), PromoTable(), COMMAND_KEYS, topic, records)
        with pytest.raises(
            FutureStampError, match=f"{topic}/2, offset 8: .* {records[1].timestamp} ms .* 600 s ahead"
        ):
            scripted.run(unit, answer)
        assert taken == ["Now"]

    def test_the_time_of_posting_follows_a_clock_that_is_a_little_ahead(self) -> None:
        state = PartitionState(0, 1)
        _unit(state, topics.REQUESTS, [Record(timestamp=NOW_MS + STAMP_AHEAD_MS, value=packed(event()))])
        assert state.meta.posted_ms == NOW_MS + STAMP_AHEAD_MS

    def test_what_ends_it_names_the_record(self) -> None:
        records = [Record(offset=7, value=packed(event())), Record(offset=8, value=packed(event("e2")))]

        class SpoiltRates(RateTable):
            def in_force(self, model: str, provider: str, at_ms: int) -> Rate:
                raise ArithmeticError(model, provider, at_ms)

        unit = unit_of_work(
            PartitionState(0, 1), SpoiltRates(), PromoTable(), COMMAND_KEYS, topics.REQUESTS, records
        )
        with pytest.raises(ArithmeticError) as raised:
            scripted.run(unit, _decided)
        assert raised.value.__notes__ == ["at metering.requests/0, offset 7"]

    def test_an_unclear_commit_ends_it(self) -> None:
        def unclear(step: WorkerStep) -> object:
            if isinstance(step, Commit):
                raise TimeoutError
            return _decided(step)

        unit = unit_of_work(
            PartitionState(0, 1), rate_table(), PromoTable(), COMMAND_KEYS, topics.REQUESTS, REQUESTS
        )
        with pytest.raises(TimeoutError):
            scripted.run(unit, unclear)


def test_each_kind_of_output_goes_to_its_topic_and_what_is_moved_to_its_partition() -> None:
    record = JournalRecord(LEDGER, 1, 1, b"row")
    why = [("reason", b"invalid")]
    output = UnitOutput(
        journal=[record],
        state=[(b"s", None), (b"oorder", b"5")],
        verdicts=[(b"v", b"1")],
        replies=[b"reply"],
        keys=[(b"k", b"2")],
        dead_letters=[DeadLetter(b"dead", why, DeadLetterReason.INVALID)],
        moved=[Moved(0, b"to 0", []), Moved(1, b"to 1", [])],
        offsets={},
        counts=Counter(),
        orders=[(b"o", b"3")],
        mail=[(b"m", b"4")],
        webhooks=[(b"w", b"7")],
        alerts=[(b"lorg", b"6")],
    )
    assert outputs_of(PartitionState(3, 4), output) == {
        TopicPlace(topics.STATE, 3): [Output(b"s", None), Output(b"oorder", b"5")],
        TopicPlace(topics.JOURNAL, 3): [Output(None, b"row", record.headers())],
        TopicPlace(topics.BESIDE_JOURNAL, 3): beside_journal.of_unit(
            PartitionState(3, 4), [(b"oorder", b"5")], [(b"lorg", b"6")]
        ),
        TopicPlace(topics.VERDICTS, 3): [Output(b"v", b"1")],
        TopicPlace(topics.REPLIES, 3): [Output(None, b"reply")],
        TopicPlace(topics.KEYS, 3): [Output(b"k", b"2")],
        TopicPlace(topics.DEAD_LETTERS, 3): [Output(None, b"dead", why)],
        TopicPlace(topics.ORDERS, 3): [Output(b"o", b"3")],
        TopicPlace(topics.MAIL, 3): [Output(b"m", b"4")],
        TopicPlace(topics.WEBHOOKS, 3): [Output(b"w", b"7")],
        TopicPlace(topics.MOVED, 0): [Output(None, b"to 0", [])],
        TopicPlace(topics.MOVED, 1): [Output(None, b"to 1", [])],
    }


class TestWhoseAPartitionIs:
    OURS, THEIRS = DeploymentIdentity("metering", "a" * 32), DeploymentIdentity("metering", "b" * 32)

    def _taken_over(
        self,
        *kept: DeploymentIdentity,
        journal: DeploymentIdentity | None = None,
        comes: DeploymentIdentity | None = None,
        deployment: str = "metering",
    ) -> tuple[PartitionState, list[Commit]]:
        """Take over a partition with these identities in its state, while another deployment comes, if any."""
        state = PartitionState(0, 1)
        commits: list[Commit] = []

        def answer(step: WorkerStep) -> object:
            match step:
                case Restore():
                    there = [*kept, *([comes] if comes and commits else [])]
                    return dict(state.identity_record(identity) for identity in there)
                case TopicIds():
                    return {topics.JOURNAL: "a" * 32}
                case LastHeaders():
                    return (
                        None
                        if journal is None
                        else [*JournalRecord(LEDGER, 0, 0, b"").headers(), journal.header()]
                    )
                case Commit() if TopicPlace(topics.STATE, 0) in step.outputs:
                    commits.append(step)
            return None

        return scripted.run(take_over(deployment, 0, 1), answer)[0], commits

    def test_it_is_written_at_the_first_start_and_never_again(self) -> None:
        state, [commit] = self._taken_over()
        assert state.identities == [self.OURS]
        written = commit.outputs[TopicPlace(topics.STATE, 0)]
        assert Output(b"imetering", b"a" * 32) in written
        state, commits = self._taken_over(self.OURS, journal=self.OURS)
        assert (state.identities, commits) == ([self.OURS], [])

    def test_a_state_that_lost_it_takes_the_journals(self) -> None:
        assert self._taken_over(journal=self.THEIRS)[0].identities == [self.THEIRS]

    @pytest.mark.parametrize("where", ["state", "journal"])
    def test_a_mistyped_name_is_refused_before_anything_is_written(self, where: str) -> None:
        kept = [self.OURS] if where == "state" else []
        with pytest.raises(
            MixedHistoriesError, match=r"this process is of 'metring' \(METERING_DEPLOYMENT\)"
        ):
            self._taken_over(*kept, journal=self.OURS, deployment="metring")

    def test_a_journal_of_another_deployment_is_refused(self) -> None:
        with pytest.raises(
            MixedHistoriesError, match=f"accounts/0 is of .* {self.OURS}, but .* is of {self.THEIRS}"
        ):
            self._taken_over(self.OURS, journal=self.THEIRS)

    def test_of_two_that_begin_at_once_who_sees_the_other_withdraws(self) -> None:
        with pytest.raises(MixedHistoriesError, match="is of the deployment other/"):
            self._taken_over(comes=DeploymentIdentity("other", "a" * 32))

    def test_each_record_of_the_journal_says_whose_it_is(self) -> None:
        state = PartitionState(0, 1)
        state.identities = [self.OURS]
        commits = [step for step in _unit(state, topics.REQUESTS, REQUESTS) if isinstance(step, Commit)]
        [record] = commits[0].outputs[TopicPlace(topics.JOURNAL, 0)]
        assert of_headers(record.headers) == self.OURS
