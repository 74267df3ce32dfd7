"""What an org is told of its keys' budgets: once for each thing, whatever is charged, changed, ended and started again."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.accounts import telling
from pipeline.accounts.commands import ChangeKey, CreateKey, SignUp, TellStatements, TellUnusualHour
from pipeline.accounts.ledger import charge
from pipeline.accounts.model import Account, Key, Profile
from pipeline.accounts.notices import (
    BudgetReached,
    NoticeSettings,
    StatementReady,
    Told,
    UnusualHour,
    decode_told,
    encode_told,
)
from pipeline.mail.record import decode
from pipeline.posting.unit import UnitOutput
from tests.support.builders import COST_NANO, EXAMPLES, NOW_MS, Books, event, packed, time_text

ORG, KEY = "org_1", "key_1"
THIS_MONTH = ist.month_of(NOW_MS)
NEXT_MONTH_MS = ist.month_end_ms(THIS_MONTH)


def _account(budget_nano: int | None, spent_nano: int = 0, **more: object) -> Account:
    key = Key(KEY, "ci", "br-", "h", "standard", 0, budget_nano=budget_nano)
    profile = Profile("Acme", "asha@acme.example", keys={KEY: msgspec.structs.replace(key, **more)})
    account = Account(ORG, decoded_profile=profile)
    if spent_nano:
        charge(account, KEY, trial=False, day=ist.day_of(NOW_MS), cost_nano=spent_nano)
    return account


def _due(account: Account, at_ms: int = NOW_MS, told: Told | None = None) -> list[tuple[int, int, int]]:
    due, _ = telling.not_told(telling.reached_budgets(account, at_ms), told or Told())
    return [(notice.month, notice.percent, notice.budget_nano) for notice in due]


@pytest.mark.parametrize(
    ("spent_nano", "percents"), [(79, []), (80, [80]), (99, [80]), (100, [100]), (5000, [100])]
)
def test_eighty_and_a_hundred_percent_are_told_exactly_from_there_on(
    spent_nano: int, percents: list[int]
) -> None:
    assert [percent for _, percent, _ in _due(_account(100, spent_nano))] == percents


def test_a_share_that_is_no_whole_number_is_rounded_against_nobody() -> None:
    """80 % of 7 are 5.6: five are not yet enough, six are."""
    assert _due(_account(7, 5)) == []
    assert _due(_account(7, 6)) == [(THIS_MONTH, 80, 7)]


def test_no_budget_none_that_can_be_spent_and_a_revoked_key_are_told_of_to_nobody() -> None:
    assert _due(_account(None, 100)) == []
    assert _due(_account(0, 100)) == []
    assert _due(_account(100, 100, revoked=True)) == []


def test_an_org_that_wants_none_is_told_nothing_and_once_it_wants_them_what_holds_then() -> None:
    account = _account(100, 85)
    account.profile = msgspec.structs.replace(account.profile, notices=NoticeSettings(budget_reached=False))
    assert _due(account) == []
    account.profile = msgspec.structs.replace(account.profile, notices=NoticeSettings())
    assert _due(account) == [(THIS_MONTH, 80, 100)]


def test_what_a_late_request_adds_to_a_month_that_is_over_is_told_to_nobody() -> None:
    assert _due(_account(100, 100), at_ms=NEXT_MONTH_MS) == []


def test_a_budget_that_moves_up_and_down_brings_no_mail_again() -> None:
    account, told, seen = _account(100, 85), Told(), []
    for budget_nano in (100, 85, 100, 80, 100, 106, 85, 106, 100):
        account.profile.keys[KEY].budget_nano = budget_nano
        due, told = telling.not_told(telling.reached_budgets(account, NOW_MS), told)
        seen += [(notice.percent, notice.budget_nano) for notice in due]
    assert seen == [(80, 100), (100, 85), (80, 106)]


STEPS = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from(["keep", None, 0, 50, 100, 101, 200]),
        st.sampled_from([0, 0, 0, 40]),
    ),
    max_size=30,
)


@EXAMPLES
@given(STEPS)
def test_told_is_what_a_naive_oracle_with_all_the_history_says(
    steps: list[tuple[int, int | str | None, int]],
) -> None:
    """Of each share: a budget is told of where it is larger than all that were told of in this month for that share."""
    account, told, at_ms = _account(100), Told(), NOW_MS
    all_told: list[tuple[int, int, int]] = []
    for cost_nano, change, later_days in steps:
        at_ms += later_days * ist.DAY_MS
        charge(account, KEY, trial=False, day=ist.day_of(at_ms), cost_nano=cost_nano)
        if change != "keep":
            account.profile.keys[KEY].budget_nano = msgspec.convert(change, int | None)
        month, budget_nano = ist.month_of(at_ms), account.profile.keys[KEY].budget_nano
        spent_nano = account.spending.keys[KEY].months.get(month, 0)
        expected = []
        if budget_nano and 5 * spent_nano >= 4 * budget_nano:
            share = 100 if spent_nano >= budget_nano else 80
            # Who was told that all of a budget is spent knows that most of it is.
            others = [b for m, p, b in all_told if m == month and p >= share]
            if all(budget_nano > other for other in others):
                expected = [(month, share, budget_nano)]
        due, told = telling.not_told(telling.reached_budgets(account, at_ms), told)
        assert [(notice.month, notice.percent, notice.budget_nano) for notice in due] == expected
        all_told += expected
        # What is kept must be all that the rule needs.
        told = decode_told(encode_told(told))
    ids = [telling.budget_id(ORG, BudgetReached(KEY, "ci", m, p, b, 0)) for m, p, b in all_told]
    assert len(set(ids)) == len(ids)


class _Org(Books):
    """An org with one key, whose requests cost COST_NANO each."""

    def __init__(self, budget_nano: int) -> None:
        super().__init__()
        self.send(SignUp("s", ORG, "Acme", "asha@acme.example"))
        self.send(CreateKey("k", ORG, KEY, "ci", "br-", "h", budget_nano=budget_nano))
        self.made = 0

    def requests(self, number: int, at_ms: int = NOW_MS) -> UnitOutput:
        """Charge requests in one unit."""
        names = [f"e{self.made + n}" for n in range(number)]
        self.made += number
        return self.publish(*[packed(event(name, time=time_text(at_ms))) for name in names], at_ms=at_ms)


def test_units_order_each_mail_once_through_restarts_and_a_rebuilt_state() -> None:
    books = _Org(10 * COST_NANO)
    seen = []
    for n in range(15):
        output = books.requests(1)
        seen += [(n + 1, decode(value)) for _, value in output.mail]
        assert output.counts["told budget_reached"] == len(output.mail)
        books.state = books.rebuilt() if n % 2 else books.restore()
    assert [at for at, _ in seen] == [8, 10]
    near, spent = (mail for _, mail in seen)
    assert near.about == BudgetReached(KEY, "ci", THIS_MONTH, 80, 10 * COST_NANO, 8 * COST_NANO)
    assert spent.about == BudgetReached(KEY, "ci", THIS_MONTH, 100, 10 * COST_NANO, 10 * COST_NANO)
    assert (near.to, near.org_name, near.at_ms) == ("asha@acme.example", "Acme", NOW_MS)
    # A larger budget is another one, and so is the next month's.
    raised = books.send(ChangeKey("c", ORG, KEY, budget_nano=15 * COST_NANO))
    assert [decode(value).id.split(":")[4:] for _, value in raised.mail] == [["100", str(15 * COST_NANO)]]
    assert books.requests(1).mail == []
    later = books.requests(15, NEXT_MONTH_MS + 1)
    assert [decode(value).id for _, value in later.mail] == [
        f"budget_reached:{ORG}:{KEY}:{ist.month_of(NEXT_MONTH_MS)}:100:{15 * COST_NANO}"
    ]


@EXAMPLES
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([None, 5, 8, 10, 20])), max_size=12))
def test_no_id_is_ordered_twice_whatever_is_charged_and_changed(moves: list[tuple[int, int | None]]) -> None:
    books = _Org(10 * COST_NANO)
    ids: list[str] = []
    for n, (requests, budget) in enumerate(moves):
        outputs = [books.requests(requests)]
        if budget is not None:
            outputs.append(books.send(ChangeKey(f"c{n}", ORG, KEY, budget_nano=budget * COST_NANO)))
        ids += [decode(value).id for output in outputs for _, value in output.mail]
        books.state = books.restore()
    assert len(set(ids)) == len(ids)
    by_share = [[int(i.rsplit(":", 1)[1]) for i in ids if i.rsplit(":", 2)[1] == p] for p in ("80", "100")]
    assert all(a < b for budgets in by_share for a, b in pairwise(budgets))


def test_of_a_key_that_is_gone_nothing_is_kept() -> None:
    books = _Org(COST_NANO)
    books.requests(1)
    told = books.state.told(ORG)
    account = books.state.account(ORG)
    assert list(told.budgets) == [KEY]
    account.profile = msgspec.structs.replace(account.profile, keys={})
    assert telling.forgetting(told, account) == Told()


STATEMENT_MS = NEXT_MONTH_MS + 60_000
UNUSUAL = UnusualHour(NOW_MS, 500, 100, KEY, "", "m")


def _signed_up(at_ms: int = NOW_MS, notices: NoticeSettings = NoticeSettings()) -> Account:  # noqa: B008
    account = _account(None)
    account.profile = msgspec.structs.replace(account.profile, signed_up_ms=at_ms, notices=notices)
    return account


def test_a_statement_is_told_of_once_when_its_month_is_over() -> None:
    account, month = _signed_up(), THIS_MONTH
    assert telling.due_statement(account, Told(), month, NEXT_MONTH_MS - 1) == (None, Told())
    due, told = telling.due_statement(account, Told(), month, NEXT_MONTH_MS)
    assert due == (f"statement_ready:{ORG}:{month}", StatementReady(month))
    assert told == Told(month=month)
    assert telling.due_statement(account, told, month, STATEMENT_MS) == (None, told)
    later_ms = ist.month_end_ms(ist.next_month(month))
    assert telling.due_statement(account, told, month, later_ms) == (None, told)


@pytest.mark.parametrize("month", [0, -1, 202600, 202613, 10**18, THIS_MONTH - 1, THIS_MONTH + 1])
def test_no_other_month_has_a_statement_to_tell_of(month: int) -> None:
    assert telling.due_statement(_signed_up(), Told(), month, STATEMENT_MS) == (None, Told())


def test_an_org_that_signed_up_later_or_wants_none_is_told_of_none_nor_afterwards() -> None:
    assert telling.due_statement(_signed_up(NEXT_MONTH_MS), Told(), THIS_MONTH, STATEMENT_MS) == (
        None,
        Told(),
    )
    assert telling.due_statement(_account(None), Told(), THIS_MONTH, STATEMENT_MS) == (None, Told())
    due, told = telling.due_statement(
        _signed_up(notices=NoticeSettings(statement_ready=False)), Told(), THIS_MONTH, STATEMENT_MS
    )
    assert (due, told) == (None, Told(month=THIS_MONTH))
    assert telling.due_statement(_signed_up(), told, THIS_MONTH, STATEMENT_MS) == (None, told)


def test_an_unusual_hour_names_the_key_and_another_is_told_of_a_day_later() -> None:
    account, at_ms = _signed_up(NOW_MS - telling.HISTORY_MS), NOW_MS + 4_000_000
    due, told = telling.due_unusual_hour(account, Told(), UNUSUAL, at_ms)
    assert due == (f"unusual_hour:{ORG}:{NOW_MS}", msgspec.structs.replace(UNUSUAL, key_name="ci"))
    assert told == Told(unusual_ms=at_ms)
    for later_ms, is_due in ((0, False), (ist.DAY_MS - 1, False), (ist.DAY_MS, True)):
        again = msgspec.structs.replace(UNUSUAL, hour_ms=NOW_MS + later_ms)
        assert (telling.due_unusual_hour(account, told, again, at_ms + later_ms)[0] is not None) is is_due


def test_an_unusual_hour_is_not_told_of_late_nor_to_a_young_org_nor_to_who_wants_none() -> None:
    old, at_ms = NOW_MS - telling.HISTORY_MS, NOW_MS + 4_000_000
    for account, when_ms in (
        (_signed_up(old), NOW_MS + telling.UNUSUAL_AGE_MAX_MS),
        (_signed_up(old), NOW_MS - 1),
        (_signed_up(NOW_MS), at_ms),
        (_account(None), at_ms),
        (_signed_up(old, NoticeSettings(unusual_hour=False)), at_ms),
        (_signed_up(old, NoticeSettings(mail=False)), at_ms),
    ):
        assert telling.due_unusual_hour(account, Told(), UNUSUAL, when_ms) == (None, Told())


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=20))
def test_whoever_asks_however_often_no_statement_twice_and_no_two_hours_within_24(
    asked: list[tuple[int, bool]],
) -> None:
    """Servers ask again after each start, and several at once; the state is made again in between."""
    books = _Org(COST_NANO)
    at_ms, ids, unusual = NOW_MS + telling.HISTORY_MS, list[str](), list[int]()
    for n, (hours, is_statement) in enumerate(asked):
        at_ms += hours * 3_600_000
        if is_statement:
            command: TellStatements | TellUnusualHour = TellStatements(
                f"s{n}", ist.month_of(ist.month_start_ms(ist.month_of(at_ms)) - 1)
            )
        else:
            command = TellUnusualHour(f"u{n}", ORG, at_ms - 4_000_000, 500, 1, KEY, "m")
        output = books.send(command, command, at_ms=at_ms)
        found = [decode(value) for _, value in output.mail]
        ids += [mail.id for mail in found]
        unusual += [mail.at_ms for mail in found if isinstance(mail.about, UnusualHour)]
        books.state = books.rebuilt() if n % 2 else books.restore()
    assert len(set(ids)) == len(ids)
    assert all(b - a >= ist.DAY_MS for a, b in pairwise(unusual))
    assert bool(unusual) == any(not is_statement for _, is_statement in asked)
