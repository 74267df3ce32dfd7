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
from pipeline.events import Rejected, RequestEvent, Timestamps, decode_record, split_record
from pipeline.ist import DAY_MS, OFFSET_MS
from pipeline.journal import PARTITIONS_MAX
from pipeline.partitioning import partition_of
from pipeline.posting.duplicates import mark_of
from pipeline.posting.unit import AHEAD_MS, LATE_MS, InputRecord, Moved, Unit, origin

_timestamps = Timestamps()
ID_STEP = PARTITIONS_MAX


def post_requests(unit: Unit, records: Sequence[InputRecord], *, moved: bool) -> Iterator[int]:
    """Post the events of fresh records, yielding after each record how many events it held.

    Moved events passed the age check and the check by number where they were first read; here only
    their marks are checked. The yields let the caller attend to its connections in a long unit.
    """
    for record in records:
        events = decode_record(record.value)
        if events is None:
            events = _only_valid(unit, record)
        else:
            unit.counts["events"] += len(events)
        _post_events(unit, record, events, moved=moved)
        yield len(events)


def _only_valid(unit: Unit, record: InputRecord) -> list[RequestEvent]:
    """Return the valid events of a record that has others too, which become dead letters."""
    events = []
    for value, element in split_record(record.value):
        unit.counts["events"] += 1
        if isinstance(element, Rejected):
            unit.reject(record, value, element.reason, element.detail)
        else:
            events.append(element)
    return events


def _post_events(unit: Unit, record: InputRecord, events: list[RequestEvent], *, moved: bool) -> None:
    posted_ms = unit.advance(record)
    oldest_ms = -(2**62) if moved else record.timestamp - LATE_MS
    newest_ms = 2**62 if moved else record.timestamp + AHEAD_MS
    state, touched, rows = unit.state, unit.touched, unit.requests
    last, known, in_force, ms = state.sources.last, state.ring.known, unit.rates.in_force, _timestamps.ms
    row_id, debited_nano = unit.next_id(), 0
    for event in events:
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
            _reject(unit, record, event, at_ms)
            continue

        number, mark = -1, b""
        if event.sequence is None or moved:
            mark = mark_of(source, event.id)
            if mark in known:
                unit.counts["duplicates"] += 1
                continue
        else:
            if not event.sequence.isdecimal():
                _reject(unit, record, event, at_ms)
                continue
            number = int(event.sequence)
            if number <= last.get(source, -1):
                unit.counts["duplicates"] += 1
                continue

        account = touched.get(org)
        if account is None:
            if not state.owns(org):
                _move(unit, record, event)
                _remember(unit, source, number, mark)
                continue
            account = unit.touch(org)

        if is_free(data):
            cost, rate_from_ms = 0, 0
        else:
            rate = in_force(data.model, data.provider or "", at_ms)
            if rate is None:
                detail = f"no rate for model {data.model!r} of provider {data.provider!r} at {event.time}"
                _dead(unit, record, event, "unpriced", detail)
                continue
            cost, rate_from_ms = cost_nano(rate, prompt, cached, completion), rate.from_ms

        # From here on the posting must succeed.
        if mark:
            state.ring.add(mark)
        else:
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
    else:
        unit.state.sources.last[source] = number
        unit.sources_changed[source] = None


def _reject(unit: Unit, record: InputRecord, event: RequestEvent, at_ms: int | None) -> None:
    """Send an event to the dead letters with the first thing that is wrong with it."""
    usage, data = event.data.usage, event.data
    if at_ms is None:
        _dead(unit, record, event, "invalid", f"time is no RFC 3339 time with an offset: {event.time!r}")
    elif at_ms < record.timestamp - LATE_MS:
        _dead(unit, record, event, "too_late", f"{event.time} is over 35 days before its arrival")
    elif at_ms > record.timestamp + AHEAD_MS:
        _dead(unit, record, event, "from_the_future", f"{event.time} is over 10 minutes ahead of its arrival")
    elif data.status < FAILED_FROM and usage is None:
        _dead(unit, record, event, "invalid", "a served request needs `usage`")
    elif data.status < FAILED_FROM and data.provider is None:
        _dead(unit, record, event, "invalid", "a served request needs `provider`")
    elif event.sequence is not None and not event.sequence.isdecimal():
        _dead(unit, record, event, "invalid", "sequence is not made of digits")
    else:
        _dead(unit, record, event, "invalid", "more cached or reasoning tokens than tokens they are part of")


def _dead(unit: Unit, record: InputRecord, event: RequestEvent, reason: str, detail: str) -> None:
    unit.reject(record, _bytes_of(record, event), reason, detail)


def _move(unit: Unit, record: InputRecord, event: RequestEvent) -> None:
    """Send an event on to the partition its org belongs to."""
    right = partition_of(event.subject, unit.state.partitions)
    unit.moved.append(Moved(right, _bytes_of(record, event), origin(record)))
    unit.counts["moved"] += 1


def _bytes_of(record: InputRecord, event: RequestEvent) -> bytes:
    """Return the bytes an event came as, which may be part of an array."""
    elements = split_record(record.value)
    return next(value for value, element in elements if element == event)
