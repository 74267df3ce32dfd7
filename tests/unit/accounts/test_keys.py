"""The rules of API keys."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import ist
from pipeline.accounts import keys
from pipeline.accounts.commands import ChangeKey, CommandRefusal, CreateKey
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import ACTIVE_KEYS_MAX, INACTIVE_KEYS_KEPT, Account, Key
from pipeline.accounts.results import KeyChanged, KeyCreated
from pipeline.ist import DAY_MS
from pipeline.money import MAX_RUPEES, NANO_PER_RUPEE
from tests.support.builders import NOW_MS, Books


def create(account: Account, key_id: str, at_ms: int = NOW_MS, **fields: Any) -> Key | CommandRefusal:
    """Create a key and put it into the account; return the key or the refusal."""
    named = {"name": f"name of {key_id}", **fields}
    command = CreateKey(id=f"c-{key_id}", org="org", key_id=key_id, prefix="br-abc", hash="00", **named)
    return done(account, keys.create(account, command, at_ms))


def change(account: Account, key_id: str, at_ms: int = NOW_MS, **fields: Any) -> Key | CommandRefusal | None:
    """Change a key; return it, the refusal, or None where nothing was to be done."""
    posting = keys.change(account, ChangeKey(id="c", org="org", key_id=key_id, **fields), at_ms)
    if isinstance(posting, Posting) and not posting.keys:
        return None
    return done(account, posting)


def done(
    account: Account, posting: Posting[KeyCreated] | Posting[KeyChanged] | CommandRefusal
) -> Key | CommandRefusal:
    """Make a posting of one key so."""
    if isinstance(posting, CommandRefusal):
        return posting
    assert posting.profile is not None
    assert posting.entries == ()
    account.profile = posting.profile
    [key] = posting.keys
    assert account.profile.keys[key.key_id] == key
    return key


def code_of(answer: Key | CommandRefusal | None) -> tuple[str, str | None]:
    """Return the code and field of a refusal."""
    assert isinstance(answer, CommandRefusal), answer
    return answer.code, answer.param


def test_at_most_five_keys_are_active() -> None:
    account = Account("org")
    for n in range(ACTIVE_KEYS_MAX):
        assert isinstance(create(account, f"k{n}"), Key)
    assert code_of(create(account, "k9")) == ("key_limit_reached", None)
    assert isinstance(change(account, "k0", revoked=True), Key)
    assert isinstance(create(account, "k9"), Key)
    assert ACTIVE_KEYS_MAX == 5


def test_an_expired_key_makes_room_and_cannot_come_back_to_a_full_house() -> None:
    account = Account("org")
    create(account, "k0", expires_ms=NOW_MS + ist.DAY_MS)
    for n in range(1, ACTIVE_KEYS_MAX):
        create(account, f"k{n}")
    tomorrow = NOW_MS + ist.DAY_MS
    assert code_of(create(account, "k9", at_ms=tomorrow - 1)) == ("key_limit_reached", None)
    assert isinstance(create(account, "k9", at_ms=tomorrow), Key)
    assert code_of(change(account, "k0", at_ms=tomorrow, expires_ms=None)) == ("key_limit_reached", None)
    assert isinstance(change(account, "k0", at_ms=tomorrow, name="still renamed"), Key)


def test_names_are_unique_among_the_active() -> None:
    account = Account("org")
    create(account, "k0", name="ci")
    assert code_of(create(account, "k1", name="ci")) == ("duplicate_key_name", "name")
    create(account, "k1", name="other")
    assert code_of(change(account, "k1", name="ci")) == ("duplicate_key_name", "name")
    change(account, "k0", revoked=True)
    assert isinstance(change(account, "k1", name="ci"), Key)


def test_a_key_keeps_its_own_name() -> None:
    account = Account("org")
    create(account, "k0", name="ci")
    assert change(account, "k0", name="ci") is None
    assert isinstance(change(account, "k0", name="ci", rpm_limit=5), Key)


def test_a_key_id_is_taken_once() -> None:
    account = Account("org")
    create(account, "k0")
    assert code_of(create(account, "k0", name="another")) == ("invalid_request", "key_id")


def test_revoking_is_for_good_and_each_change_has_a_version() -> None:
    account = Account("org")
    create(account, "k0")
    first = change(account, "k0", budget_nano=5)
    revoked = change(account, "k0", revoked=True)
    later = change(account, "k0", revoked=False, name="x")
    assert isinstance(first, Key)
    assert isinstance(revoked, Key)
    assert isinstance(later, Key)
    assert (first.version, revoked.version, later.version) == (2, 3, 4)
    assert (first.revoked, revoked.revoked, later.revoked) == (False, True, True)


def test_what_is_already_so_changes_nothing() -> None:
    account = Account("org")
    create(account, "k0", daily_limit=5)
    assert change(account, "k0", daily_limit=5) is None
    assert change(account, "k0") is None


def test_none_takes_a_limit_away() -> None:
    account = Account("org")
    create(account, "k0", daily_limit=5, budget_nano=7)
    changed = change(account, "k0", daily_limit=None)
    assert isinstance(changed, Key)
    assert (changed.daily_limit, changed.budget_nano) == (None, 7)


def test_a_key_of_nobody_is_not_found() -> None:
    assert code_of(change(Account("org"), "k0", revoked=True)) == ("not_found", None)


BEYOND = (MAX_RUPEES * NANO_PER_RUPEE) + 1
ABSURD: list[tuple[dict[str, Any], str, str]] = [
    ({"tier": "gold"}, "invalid_request", "tier"),
    ({"budget_nano": -1}, "invalid_request", "budget_inr"),
    ({"budget_nano": BEYOND}, "invalid_request", "budget_inr"),
    ({"daily_limit": 0}, "invalid_request", "daily_limit"),
    ({"daily_limit": 2**62}, "invalid_request", "daily_limit"),
    ({"rpm_limit": -3}, "invalid_request", "rpm_limit"),
    ({"expires_ms": NOW_MS}, "invalid_request", "expires_days"),
    ({"expires_ms": -(2**60)}, "invalid_request", "expires_days"),
    ({"expires_ms": NOW_MS + 367 * ist.DAY_MS}, "invalid_request", "expires_days"),
    ({"tier": "trial", "daily_limit": 201}, "trial_ceiling", "daily_limit"),
    ({"tier": "trial", "rpm_limit": 61}, "trial_ceiling", "rpm_limit"),
]


@pytest.mark.parametrize(("fields", "code", "param"), ABSURD, ids=str)
def test_a_key_with_absurd_limits_is_refused(fields: dict[str, Any], code: str, param: str) -> None:
    account = Account("org")
    assert code_of(create(account, "k0", **fields)) == (code, param)
    assert account == Account("org")


@pytest.mark.parametrize("revoked", [False, True])
@pytest.mark.parametrize(("fields", "code", "param"), [c for c in ABSURD if "tier" not in c[0]], ids=str)
def test_nor_can_one_be_made_so_even_when_revoked(
    fields: dict[str, Any], code: str, param: str, revoked: bool
) -> None:
    account = Account("org")
    create(account, "k0")
    if revoked:
        change(account, "k0", revoked=True)
    assert code_of(change(account, "k0", **fields)) == (code, param)


def test_a_trial_key_may_be_at_its_ceiling() -> None:
    assert isinstance(create(Account("org"), "k0", tier="trial", daily_limit=200, rpm_limit=60), Key)


@pytest.mark.parametrize("ended_by", ["revoked", "expired"])
def test_keys_of_the_past_are_kept_up_to_a_number(ended_by: str) -> None:
    account = Account("org")
    at_ms = NOW_MS
    for n in range(INACTIVE_KEYS_KEPT + 20):
        create(account, f"k{n}", at_ms=at_ms, expires_ms=at_ms + ist.DAY_MS)
        if ended_by == "revoked":
            change(account, f"k{n}", at_ms=at_ms, revoked=True)
        at_ms += 2 * ist.DAY_MS
    assert len(account.profile.keys) <= INACTIVE_KEYS_KEPT + 1
    assert f"k{INACTIVE_KEYS_KEPT + 19}" in account.profile.keys
    assert "k0" not in account.profile.keys


def test_a_key_of_the_past_that_is_kept_no_more_leaves_the_topic_too_the_longest_unchanged_first() -> None:
    """A key that was made first and revoked last is the last to go: gateways must not miss that it was revoked."""
    books = Books()
    told: dict[bytes, bytes | None] = {}
    for n in range(INACTIVE_KEYS_KEPT + 2):
        made = CreateKey(f"make-{n}", "org_1", f"k{n}", f"name {n}", "br-", "0" * 64, "standard")
        told.update(books.send(made, at_ms=NOW_MS + n * DAY_MS).keys)
        if n:
            told.update(books.send(ChangeKey(f"end-{n}", "org_1", f"k{n}", revoked=True)).keys)
    told.update(books.send(ChangeKey("end-0", "org_1", "k0", revoked=True)).keys)
    assert [key for key, value in told.items() if value is None] == [b"k1", b"k2"]
    kept = books.restore().account("org_1").profile.keys
    assert len(kept) == INACTIVE_KEYS_KEPT and "k0" in kept
    assert told.keys() == {f"k{n}".encode() for n in range(INACTIVE_KEYS_KEPT + 2)}


def test_a_key_comes_back_from_its_record() -> None:
    key = Key("k0", "नाम", "br-abc", "00", "standard", NOW_MS, budget_nano=0, version=3)
    record = keys.decode_key(keys.encode_key("org", key))
    assert record.org == "org"
    assert all(getattr(record, field) == getattr(key, field) for field in Key.__struct_fields__)


@pytest.mark.parametrize(("at", "active"), [(-1, True), (0, False), (1, False)])
def test_a_key_ends_at_the_instant_it_expires(at: int, active: bool) -> None:
    key = Key("k0", "n", "p", "h", "standard", 0, expires_ms=NOW_MS)
    assert keys.is_active(key, NOW_MS + at) is active


def test_a_name_shows_as_what_it_is_whoever_sends_the_command() -> None:
    account = Account("org")
    made = create(account, "k0", name="  Cafe\u0301 ")
    assert isinstance(made, Key) and made.name == "Caf\u00e9"
    assert code_of(create(account, "k1", name="Caf\u00e9")) == ("duplicate_key_name", "name")
    for bad in ("", " ", "a\x00", "a\u202eb", "x" * 61):
        assert code_of(create(account, "k1", name=bad)) == ("invalid_request", "name")
        assert code_of(change(account, "k0", name=bad)) == ("invalid_request", "name")
    assert change(account, "k0", name="Cafe\u0301") is None


def test_an_org_makes_so_many_keys_a_day_whatever_it_revokes() -> None:
    account = Account("org")
    for number in range(keys.KEYS_A_DAY):
        assert isinstance(create(account, f"k{number}", NOW_MS + number), Key)
        change(account, f"k{number}", NOW_MS + number, revoked=True)
    refusal = create(account, "one more", NOW_MS + 1_000)
    assert isinstance(refusal, CommandRefusal) and refusal.code == "rate_limit_exceeded"
    assert refusal.retry_after_s == DAY_MS // 1000 - 1
    assert isinstance(create(account, "one more", NOW_MS + DAY_MS - 1), CommandRefusal)
    assert isinstance(create(account, "one more", NOW_MS + DAY_MS), Key)
    # They can be counted because none of a day's keys is forgotten within it.
    assert keys.KEYS_A_DAY <= INACTIVE_KEYS_KEPT
