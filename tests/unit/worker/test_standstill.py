"""What counts as a standstill, in seconds of a clock that the tests set."""

from __future__ import annotations

from pipeline import topics
from pipeline.worker.standstill import AWAY_LIMIT_S, STANDSTILL_LIMIT_S, Activity, BrokerContact


def still_s(activity: Activity, at_s: float, worker_moved_at_s: float = 0.0) -> float:
    return activity.still_s(topics.REQUESTS, at_s, worker_moved_at_s)


def test_a_partition_without_input_is_not_still_however_long_ago_it_moved() -> None:
    activity = Activity(0.0)
    activity.caught_up(topics.REQUESTS, 100.0)
    assert still_s(activity, 102.0) == 2.0


def test_input_counts_from_when_it_was_first_seen() -> None:
    activity = Activity(0.0)
    assert still_s(activity, 50.0) == 0.0
    assert still_s(activity, 61.0) == 11.0


def test_a_unit_that_ends_starts_the_clock_anew() -> None:
    activity = Activity(0.0)
    still_s(activity, 0.0)
    activity.moved(58.0)
    assert still_s(activity, 61.0, worker_moved_at_s=61.0) == 3.0


def test_others_that_move_do_not_hide_a_partition_that_has_its_turn() -> None:
    activity = Activity(0.0)
    still_s(activity, 0.0)
    assert still_s(activity, 30.0, worker_moved_at_s=29.0) == 30.0


def test_waiting_for_a_turn_is_no_standstill_while_others_move() -> None:
    activity = Activity(0.0)
    still_s(activity, 0.0)
    activity.awaits_turn()
    assert still_s(activity, 30.0, worker_moved_at_s=29.0) == 1.0
    assert still_s(activity, 60.0, worker_moved_at_s=29.0) == 31.0
    activity.moved(61.0)
    assert still_s(activity, 75.0, worker_moved_at_s=74.0) == 14.0


def test_while_the_broker_is_away_a_batch_in_hand_has_longer() -> None:
    contact = BrokerContact()
    assert contact.too_long(STANDSTILL_LIMIT_S + 1, 100.0, commits=False)
    contact.failed()
    assert not contact.too_long(AWAY_LIMIT_S, 160.0, commits=False)
    assert contact.too_long(AWAY_LIMIT_S + 1, 161.0, commits=False)


def test_once_the_broker_is_back_nothing_counts_from_before() -> None:
    """The worker's own clients have yet to find the new leaders."""
    contact = BrokerContact()
    contact.failed()
    contact.answered(117.0)
    assert not contact.too_long(17.0, 117.0, commits=False)
    contact.answered(125.0)
    assert not contact.too_long(27.0, 127.0, commits=False)
    assert contact.too_long(27.5, 127.5, commits=False)


def test_a_commit_has_as_long_as_the_broker_may_be_away_and_no_longer() -> None:
    contact, activity = BrokerContact(), Activity(0.0)
    activity.awaits_commit(3.0)
    assert activity.moved_at_s == 3.0
    assert not contact.too_long(AWAY_LIMIT_S, 63.0, commits=activity.commits)
    assert contact.too_long(AWAY_LIMIT_S + 1, 64.0, commits=activity.commits)
    activity.moved(64.0)
    assert not activity.commits
