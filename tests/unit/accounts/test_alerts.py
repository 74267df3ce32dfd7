"""The low-balance alert against a naive oracle that keeps the whole history."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accounts import alerts
from pipeline.accounts.commands import Credit, SetThreshold
from pipeline.accounts.model import Account, Profile, Spending
from pipeline.accounts.notices import LowBalance
from pipeline.ist import DAY_MS
from pipeline.mail.record import decode
from tests.support.billing import ORG, RUPEE, Shop
from tests.support.builders import EXAMPLES, MANY_EXAMPLES, NOW_MS

STEPS = st.lists(
    st.tuples(
        st.integers(-3, 3),
        st.sampled_from(["keep", None, 0, 1, 2]),
        st.sampled_from([0, 1, DAY_MS // 2, DAY_MS - 1, DAY_MS, DAY_MS + 1]),
    ),
    max_size=40,
)


def _oracle(history: list[tuple[int, int, int | None]]) -> list[int]:
    """Return the instants of mails for a history of (instant, balance, threshold), looking at all of it."""
    sent: list[int] = []
    for i, (at_ms, balance, threshold) in enumerate(history):
        if threshold is None:
            continue
        _, balance_before, threshold_before = history[i - 1] if i else (0, 0, None)
        was_below = threshold_before is not None and balance_before < threshold_before
        falls_below = balance < threshold and not was_below
        if balance <= 0 < balance_before or (falls_below and all(at_ms - other >= DAY_MS for other in sent)):
            sent.append(at_ms)
    return sent


def _balance_nano(mail: bytes) -> int:
    about = decode(mail).about
    assert isinstance(about, LowBalance)
    return about.balance_nano


@MANY_EXAMPLES
@given(STEPS)
def test_mails_go_out_as_a_naive_oracle_says(steps: list[tuple[int, int | str | None, int]]) -> None:
    account = Account("org", Spending(), Profile(name="A", email="a@example.in"))
    history: list[tuple[int, int, int | None]] = []
    sent, at_ms, threshold = [], NOW_MS, None
    for balance, change, later_ms in steps:
        at_ms += later_ms
        threshold = threshold if change == "keep" else msgspec.convert(change, int | None)
        account.spending.credited_nano, account.profile.threshold_nano = balance, threshold
        history.append((at_ms, balance, threshold))
        mail = alerts.due_alert(account, at_ms)
        account.spending.verdict_nano = balance
        if mail is not None:
            sent.append(mail.at_ms)
            assert mail.about == LowBalance(balance, threshold or 0)
        # What is kept must be all that the rule needs.
        account.spending = msgspec.msgpack.decode(msgspec.msgpack.encode(account.spending), type=Spending)
    assert sent == _oracle(history)


def test_a_unit_orders_the_mail_that_the_mailer_reads() -> None:
    shop = Shop()
    shop.do(SetThreshold("t", ORG, 50 * RUPEE))
    outcome = shop.send(Credit("1", ORG, -60 * RUPEE, "used"), at_ms=NOW_MS + 5)
    [(key, value)] = outcome.mail
    mail = decode(value)
    assert (key, mail.org, mail.to, mail.org_name) == (ORG.encode(), ORG, "asha@example.in", "Asha")
    assert (mail.about, mail.at_ms) == (LowBalance(40 * RUPEE, 50 * RUPEE), NOW_MS + 5)
    assert shop.send(Credit("2", ORG, -1, "used")).mail == []


def test_two_mails_of_one_millisecond_are_two() -> None:
    """The balance falls below the threshold, then to nothing, and is brought up and used up once more."""
    shop = Shop()
    shop.do(SetThreshold("t", ORG, 50 * RUPEE))
    amounts = (-60 * RUPEE, -40 * RUPEE, RUPEE, -RUPEE)
    sent = [shop.send(Credit(f"{n}", ORG, amount, "used")).mail for n, amount in enumerate(amounts)]
    mails = [decode(value) for each in sent for _, value in each]
    assert len({mail.id for mail in mails}) == len(mails) == 3
    assert len({mail.at_ms for mail in mails}) == 1


def test_a_replay_of_the_same_command_orders_no_second_mail() -> None:
    shop = Shop()
    shop.do(SetThreshold("t", ORG, 50 * RUPEE))
    fall = Credit("1", ORG, -60 * RUPEE, "used")
    assert len(shop.send(fall).mail) == 1
    shop.state = shop.restore()
    assert shop.send(fall, at_ms=NOW_MS + 2 * DAY_MS).mail == []


@EXAMPLES
@given(st.lists(st.tuples(st.integers(-40, 40), st.integers(0, DAY_MS)), max_size=30))
def test_never_two_about_the_threshold_in_24_hours_and_one_each_time_it_runs_out(
    moves: list[tuple[int, int]],
) -> None:
    shop = Shop()
    shop.do(SetThreshold("t", ORG, 90 * RUPEE))
    at_ms, about_threshold, about_nothing, times_run_out = NOW_MS, list[int](), 0, 0
    balance = 100
    for n, (rupees, later_ms) in enumerate(moves):
        at_ms += later_ms
        mails = shop.send(Credit(str(n), ORG, (rupees or 1) * RUPEE, "x"), at_ms=at_ms).mail
        before, balance = balance, balance + (rupees or 1)
        times_run_out += balance <= 0 < before
        for _, value in mails:
            if _balance_nano(value) > 0:
                about_threshold.append(at_ms)
            else:
                about_nothing += before > 0
                about_threshold += [at_ms] if before <= 0 else []
        shop.state = shop.restore()
    assert all(b - a >= DAY_MS for a, b in itertools.pairwise(about_threshold))
    assert about_nothing == times_run_out


def test_an_empty_balance_is_told_however_short_ago_the_threshold_was() -> None:
    shop = Shop()
    shop.do(SetThreshold("t", ORG, 50 * RUPEE))
    below = shop.send(Credit("1", ORG, -60 * RUPEE, "used"), at_ms=NOW_MS)
    empty = shop.send(Credit("2", ORG, -40 * RUPEE, "used"), at_ms=NOW_MS + 60_000)
    further = shop.send(Credit("3", ORG, -1, "used"), at_ms=NOW_MS + 120_000)
    assert [_balance_nano(value) for _, value in below.mail + empty.mail] == [40 * RUPEE, 0]
    assert further.mail == []
    shop.send(Credit("4", ORG, 2 * RUPEE, "topped up"), at_ms=NOW_MS + 180_000)
    again = shop.send(Credit("5", ORG, -2 * RUPEE, "used"), at_ms=NOW_MS + 240_000)
    assert [_balance_nano(value) for _, value in again.mail] == [-1]


def test_without_a_threshold_nothing_is_told_at_zero_either() -> None:
    shop = Shop()
    assert shop.send(Credit("1", ORG, -200 * RUPEE, "used")).mail == []


def test_an_org_without_an_address_gets_none() -> None:
    account = Account("org", Spending(credited_nano=1), Profile(threshold_nano=2))
    assert alerts.due_alert(account, NOW_MS) is None
    assert account.spending.alerted_ms == 0
