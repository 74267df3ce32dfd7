"""Charge request events: the hot path.

Owns: what makes an event chargeable beyond its types, and the order of the checks.
Called by: `worker/partition.py` with a batch of `metering.requests` or `metering.moved`.
Next: `posting/unit.py` closes the unit.

Each event meets, in order: validity, age, the duplicate check, its place, its rate. Only then is it
charged, and only a charged or moved event enters the duplicate check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.accounts.ledger import charge
from pipeline.catalog.rating import FAILED_FROM, cost_nano, is_free
from pipeline.events import RequestEvent, Timestamps, is_org, is_sequence
from pipeline.ist import DAY_MS, OFFSET_MS
from pipeline.journal import PARTITIONS_MAX
from pipeline.partitioning import partition_of
from pipeline.posting.duplicates import mark_of
from pipeline.posting.reading import Reading, read_events
from pipeline.posting.unit import AHEAD_MS, LATE_MS, InputRecord, Moved, Unit, origin

_timestamps = Timestamps()
ID_STEP = PARTITIONS_MAX
DEBITED_MAX_NANO = 4 * 10**18
"""An account that has been debited more than four billion rupees is a mistake: Int64 must hold its balance."""
MOVED_AHEAD_MS = AHEAD_MS + DAY_MS
"""Moved events were found not to be ahead by another broker's clock, so they get a day more."""


def post_requests(unit: Unit, records: Sequence[InputRecord], *, moved: bool) -> Iterator[int]:
    """Post the events of fresh records, yielding after each record how many events it held.

    Moved events passed the age check and the check by number where they were first read; here only
    their marks are checked. The yields let the caller attend to its connections in a long unit.
    """
    for record in records:
        before = unit.counts["events"]
        _post_events(unit, record, read_events(unit, record), moved=moved)
        yield unit.counts["events"] - before


def _post_events(  # noqa: C901, PLR0912, PLR0915 - one pass a million times over: calls would cost more
    unit: Unit, record: InputRecord, reading: Reading, *, moved: bool
) -> None:
    posted_ms = unit.advance(record)
    if not moved:
        unit.requests_ms = max(unit.requests_ms, record.timestamp)
    oldest_ms, newest_ms = _window(record, moved=moved)
    state, touched, rows = unit.state, unit.touched, unit.requests
    last, known, unpriced = state.sources.last, state.ring.known, state.unpriced.known
    in_force, ms = unit.rates.in_force, _timestamps.ms
    row_id, debited_nano = unit.next_id(), 0
    for event in reading.events:
        data, org, source = event.data, event.subject, event.source
        at_ms = ms(event.time)
        prompt = completion = cached = reasoning = 0
        usage = data.usage
        if usage is not None:
            prompt, completion = usage.prompt_tokens, usage.completion_tokens
            if usage.prompt_tokens_details is not None:
                cached = usage.prompt_tokens_details.cached_tokens or 0
            if usage.completion_tokens_details is not None:
                reasoning = usage.completion_tokens_details.reasoning_tokens or 0
        if (
            at_ms is None
            or not oldest_ms <= at_ms <= newest_ms
            or cached > prompt
            or reasoning > completion
            or (data.status < FAILED_FROM and (usage is None or data.provider is None))
        ):
            _reject(unit, record, reading, event, at_ms, oldest_ms, newest_ms)
            continue

        number, mark = -1, b""
        if event.sequence is None or moved:
            mark = mark_of(source, event.id)
            if mark in known:
                unit.counts["duplicates"] += 1
                continue
        else:
            if not is_sequence(event.sequence):
                _dead(unit, record, reading, event, "invalid", "sequence is not made of digits")
                continue
            number = int(event.sequence)
            if number <= last.get(source, -1):
                unit.counts["duplicates"] += 1
                continue
            if known or unpriced:
                mark = mark_of(source, event.id)
                if mark in known:
                    # It came before by way of another partition, or of a redrive.
                    _remember(unit, source, number, b"")
                    unit.counts["duplicates"] += 1
                    continue
                if mark not in unpriced:
                    mark = b""

        account = touched.get(org)
        if account is None:
            if not is_org(org):
                _dead(unit, record, reading, event, "invalid", "subject has control characters")
                continue
            if not state.owns(org):
                _move(unit, record, reading, event)
                _remember(unit, source, number, mark)
                continue
            account = unit.touch(org)

        if is_free(data):
            cost, rate_from_ms = 0, 0
        else:
            rate = in_force(data.model, data.provider or "", at_ms)
            if rate is None:
                detail = f"no rate for model {data.model!r} of provider {data.provider!r} at {event.time}"
                _dead(unit, record, reading, event, "unpriced", detail)
                if number >= 0:
                    state.unpriced.add(mark_of(source, event.id))
                continue
            if account.spending.debited_nano > DEBITED_MAX_NANO:
                _dead(
                    unit, record, reading, event, "invalid", "the account's debits are beyond any real amount"
                )
                continue
            cost, rate_from_ms = cost_nano(rate, prompt, cached, completion), rate.from_ms

        # From here on the posting must succeed.
        if mark:
            # Without a number; or it was a dead letter before, which a redrive must find charged.
            state.ring.add(mark)
        if number >= 0:
            last[source] = number
            unit.sources_changed[source] = None
        charge(
            account,
            data.key_id,
            trial=data.tier == "trial",
            day=(at_ms + OFFSET_MS) // DAY_MS,
            cost_nano=cost,
        )
        rows.append(
            (
                row_id,
                org,
                at_ms,
                posted_ms,
                source,
                event.id,
                data.key_id,
                data.tier,
                data.byok,
                data.model,
                data.provider or "",
                data.status,
                data.error_code or "",
                data.latency_ms,
                data.ttft_ms,
                bool(data.stream),
                prompt,
                cached,
                completion,
                reasoning,
                cost,
                rate_from_ms,
            )
        )
        row_id += ID_STEP
        debited_nano += cost
    unit.took_ids(row_id)
    unit.debited_nano += debited_nano


def _remember(unit: Unit, source: str, number: int, mark: bytes) -> None:
    if mark:
        unit.state.ring.add(mark)
    if number >= 0:
        unit.state.sources.last[source] = number
        unit.sources_changed[source] = None


def _window(record: InputRecord, *, moved: bool) -> tuple[int, int]:
    """Return the oldest and the newest time of request that a record may hold."""
    if moved:
        return 0, record.timestamp + MOVED_AHEAD_MS
    return record.timestamp - LATE_MS, record.timestamp + AHEAD_MS


def _reject(
    unit: Unit,
    record: InputRecord,
    reading: Reading,
    event: RequestEvent,
    at_ms: int | None,
    oldest_ms: int,
    newest_ms: int,
) -> None:
    """Send an event to the dead letters with the first thing that is wrong with it."""
    usage, data = event.data.usage, event.data
    if at_ms is None:
        reason, detail = "invalid", f"time is no RFC 3339 time with an offset: {event.time!r}"
    elif at_ms < oldest_ms:
        reason, detail = "too_late", f"{event.time} is over 35 days before its arrival"
    elif at_ms > newest_ms:
        reason, detail = "from_the_future", f"{event.time} is over 10 minutes ahead of its arrival"
        if event.sequence is not None:
            # It may be redriven, and published again, once its time has come.
            unit.state.unpriced.add(mark_of(event.source, event.id))
    elif data.status < FAILED_FROM and usage is None:
        reason, detail = "invalid", "a served request needs `usage`"
    elif data.status < FAILED_FROM and data.provider is None:
        reason, detail = "invalid", "a served request needs `provider`"
    else:
        reason, detail = "invalid", "more cached or reasoning tokens than tokens they are part of"
    _dead(unit, record, reading, event, reason, detail)


def _dead(
    unit: Unit, record: InputRecord, reading: Reading, event: RequestEvent, reason: str, detail: str
) -> None:
    unit.reject(record, reading.bytes_of(event), reason, detail)


def _move(unit: Unit, record: InputRecord, reading: Reading, event: RequestEvent) -> None:
    """Send an event on to the partition its org belongs to."""
    right = partition_of(event.subject, unit.state.partitions)
    unit.moved.append(Moved(right, reading.bytes_of(event), origin(record)))
    unit.counts["moved"] += 1
