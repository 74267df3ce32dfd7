"""What gateways have to know of an account: its balance, and which keys to refuse and until when.

Owns: when a key is refused, when a new verdict is due, and its record on `metering.verdicts`.
Called by: `posting/reviewing.py` at the end of a unit. Next: `gateway/following/follow.py`, across Kafka.

A refusal carries the window it holds for, so it ends by itself when the IST day or month does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from pipeline import ist
from pipeline.accounts.model import TRIAL_REQUESTS_PER_DAY, Account, KeyUsage, Refused, daily_limit_of
from pipeline.formats import VERDICTS
from pipeline.money import NANO_PER_RUPEE
from pipeline.outcomes import KeyRefusal

EXACT_BELOW_NANO = 1_000 * NANO_PER_RUPEE
"""Up to here every change of the balance makes a verdict; above, a rise, or a fall by a SLACK_SHARE-th."""
SLACK_SHARE = 16

_FOR_EVER_MS = 253_402_300_800_000

PROGRESS_KEY = b"\x00progress"
"""Key of the record that tells up to which request offset a partition's verdicts count."""


class Verdict(Struct, frozen=True, tag_field="format", tag=VERDICTS.number):
    """What a gateway may know of an org: the balance in nano-rupees and the refused windows of keys."""

    org: str
    balance_nano: int
    refused: tuple[Refused, ...]


class VerdictProgress(Struct, frozen=True, tag_field="format", tag=VERDICTS.number):
    """All verdicts of a partition count the requests below `requests_offset` of `metering.requests`."""

    partition: int
    requests_offset: int


encode = msgspec.json.Encoder().encode
_decode_verdict = VERDICTS.decoder(Verdict)
_decode_progress = VERDICTS.decoder(VerdictProgress)


def decode_record(key: bytes, value: bytes) -> Verdict | VerdictProgress:
    """Return what a record of `metering.verdicts` says.

    Raises NewerFormatError where a newer release wrote it, msgspec.MsgspecError where it is none.
    """
    return _decode_progress(value) if key == PROGRESS_KEY else _decode_verdict(value)


def floor_nano(verdict_nano: int) -> int:
    """Return the lowest that the balance can have been at the offset of the newest `VerdictProgress`.

    `verdict_nano` is the balance of the newest verdict: a smaller fall makes no new one.
    """
    return verdict_nano if verdict_nano <= EXACT_BELOW_NANO else verdict_nano - verdict_nano // SLACK_SHARE


def refused_keys(account: Account, at_ms: int) -> tuple[Refused, ...]:
    """Return the windows, from the current IST day and month on, in which gateways refuse a key."""
    today, this_month = ist.day_of(at_ms), ist.month_of(at_ms)
    registered = account.profile.keys
    refused = [
        window
        for key in registered.values()
        if key.budget_nano == 0
        for window in _without_budget(key.key_id, account.spending.usage(key.key_id), this_month)
    ]
    for key_id, usage in account.spending.keys.items():
        key = registered.get(key_id)
        if key is None and not usage.trial:
            continue
        if key is not None and key.budget_nano:
            for month, spent_nano in usage.months.items():
                if month >= this_month and spent_nano >= key.budget_nano:
                    window = ist.month_start_ms(month), ist.month_end_ms(month)
                    refused.append(
                        Refused(key_id, KeyRefusal.BUDGET_EXCEEDED, *window, key.budget_nano, spent_nano)
                    )
        limit = daily_limit_of(key, usage)
        if limit is not None:
            for day, requests in usage.days.items():
                if day >= today and requests >= limit:
                    window = ist.day_start_ms(day), ist.day_end_ms(day)
                    refused.append(Refused(key_id, KeyRefusal.DAILY_LIMIT_REACHED, *window, limit, requests))
    return (*refused, *_without_trial(account, today, refused))


def _without_trial(account: Account, today: int, refused: Sequence[Refused]) -> Iterator[Refused]:
    """Yield the days on which trial keys are refused as all of the org's together have used what is free.

    A key that has reached a limit of its own on that day is among `refused` already.
    """
    used_up = {
        day: requests
        for day, requests in account.spending.trial_days.items()
        if day >= today and requests >= TRIAL_REQUESTS_PER_DAY
    }
    if not used_up:
        return
    registered, used = account.profile.keys, account.spending.keys
    trial = [key.key_id for key in registered.values() if key.tier == "trial" and not key.revoked]
    trial += [key_id for key_id, usage in used.items() if usage.trial and key_id not in registered]
    by_itself = {(window.key_id, window.code, window.from_ms) for window in refused}
    for day, requests in used_up.items():
        window = ist.day_start_ms(day), ist.day_end_ms(day)
        for key_id in trial:
            if (key_id, KeyRefusal.DAILY_LIMIT_REACHED, window[0]) not in by_itself:
                yield Refused(
                    *(key_id, KeyRefusal.DAILY_LIMIT_REACHED, *window),
                    TRIAL_REQUESTS_PER_DAY,
                    requests,
                )


def is_same_balance(verdict_nano: int | None, balance_nano: int) -> bool:
    """Whether gateways would do nothing differently with a balance than with that of the last verdict, if any."""
    if verdict_nano is None:
        return False
    return (
        verdict_nano == balance_nano
        or max(floor_nano(verdict_nano), EXACT_BELOW_NANO) < balance_nano <= verdict_nano
    )


def _without_budget(key_id: str, usage: KeyUsage | None, this_month: int) -> tuple[Refused, Refused]:
    """Return the windows of a key whose budget is 0: what it spent this month before that, and every later month."""
    spent_nano = usage.months.get(this_month, 0) if usage else 0
    from_ms, until_ms = ist.month_start_ms(this_month), ist.month_end_ms(this_month)
    return (
        Refused(key_id, KeyRefusal.BUDGET_EXCEEDED, from_ms, until_ms, 0, spent_nano),
        Refused(key_id, KeyRefusal.BUDGET_EXCEEDED, until_ms, _FOR_EVER_MS, 0, 0),
    )


def due_verdict(account: Account, at_ms: int) -> Verdict | None:
    """Return the verdict that gateways need now, or None where they would do nothing differently with it."""
    spending = account.spending
    refused = refused_keys(account, at_ms)
    same_refusals = _quoted(refused) == _quoted(spending.verdict_refused)
    if same_refusals and is_same_balance(spending.verdict_nano, spending.balance_nano):
        return None
    return Verdict(account.org, spending.balance_nano, refused)


def _quoted(refused: tuple[Refused, ...]) -> set[tuple[str, KeyRefusal, int, int]]:
    """Return what must not be out of date at a gateway: which key is refused, why, since when, by which limit.

    What was used beyond the limit may be: it grows with every request that was in flight.
    """
    return {(window.key_id, window.code, window.from_ms, window.limit) for window in refused}
