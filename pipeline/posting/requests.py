"""Charge request events: the hot path.

Owns: what makes an event chargeable beyond its types, and the order of the checks.
Called by: `posting/protocol.py` with a batch of `metering.requests` or `metering.moved`.
Next: `posting/unit.py` closes the unit.

Each event meets, in order: whether its record may hold events of its source, validity, age, the duplicate check, its
place, its rate. Only then is it
charged, and only a charged or moved event enters the duplicate check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.catalog.rating import cost_nano, is_free
from pipeline.events import (
    AHEAD_MS,
    FAILED_FROM,
    LATE_MS,
    RequestEvent,
    Timestamps,
    decode_record,
    is_org,
    is_sequence,
    problem_of,
    whole_ms,
)
from pipeline.gateway_book import SignedRecord
from pipeline.ist import DAY_MS
from pipeline.journal import PARTITIONS_MAX, ROWS_A_RECORD
from pipeline.outcomes import DeadLetterReason
from pipeline.partitioning import partition_of
from pipeline.posting.duplicates import LEAP_MAX, charged_letter_mark, is_leap, mark_of
from pipeline.posting.reading import RecordParts
from pipeline.posting.state import PartitionState
from pipeline.posting.unit import LETTER_BYTES_MAX, InputRecord, Unit
from pipeline.topics import REQUESTS
from pipeline.usage import NO_OTHERS, NOTHING, REGULAR, counts_of

_timestamps = Timestamps()
PLAIN = (*NO_OTHERS, REGULAR)
"""How the row of nearly every request ends: no tokens of other classes, and no mark."""
ID_STEP = PARTITIONS_MAX
REST_EVERY = 2_000
MOVED_AHEAD_MS = AHEAD_MS + DAY_MS
"""Moved events were found not to be ahead by another broker's clock, so they get a day more."""


def post_requests(  # noqa: C901, PLR0912, PLR0915 - one pass a million times over: calls would cost more
    unit: Unit, records: Sequence[InputRecord], *, moved: bool, rest_every: int = REST_EVERY
) -> Iterator[None]:
    """Post the events of fresh records; to be run to its end, which is when the unit knows of all of them.

    Moved events passed the age check and the check by number where they were first read. Here they are out
    of their source's order, so they are duplicates only where their mark or their very number is known. The
    yields, one every `rest_every` events or so, let the caller attend to its connections in a long unit.
    """
    state, touched, rows, parts = unit.state, unit.touched, unit.requests, RecordParts(unit)
    last, known, unpriced = state.sources.last, state.ring.known, state.unpriced.known
    meters, in_force, ms = unit.meters.by_key, unit.rates.in_force, _timestamps.ms
    row_id, debited_nano, taken, duplicates, irregulars = unit.next_id(), 0, 0, 0, 0
    rest_at, aside, recent = rest_every, state.set_aside, state.recent
    # Nearly always many events of one source follow each other: it is looked up once for them all.
    running, newest, charged = "", -1, list[int]()
    no_room = state.sources.is_full
    # A moved event was looked at where it was first read: nobody but workers and operators can write there.
    bound = None if moved or not unit.gateways else unit.gateways
    for done, record in enumerate(records, 1):
        if aside and unit.takes_aside(record):
            continue
        posted_ms, timestamp = unit.advance(record), record.timestamp
        if moved:
            oldest_ms, newest_ms = 0, timestamp + MOVED_AHEAD_MS
        else:
            oldest_ms, newest_ms = timestamp - LATE_MS, timestamp + AHEAD_MS
            unit.requests_ms = max(unit.requests_ms, timestamp)
        events = decode_record(record.value)
        if events is None:
            events = parts.valid_events(record)
        taken += len(events)
        # The last source that the record may hold events of: those of one follow each other.
        signed = (
            None
            if bound is None
            else SignedRecord(bound, record.headers, record.value or b"", record.partition)
        )
        vouched = None
        for event in events:
            data, org, source, sequence = event.data, event.subject, event.source, event.sequence
            if signed is not None and source != vouched:
                problem = signed.problem(source)
                if problem is not None:
                    _reject_unsigned(unit, record, parts.bytes_of(record, events, event), event, problem)
                    continue
                vouched = source
            usage, status, provider = data.usage, data.status, data.provider
            at_ms = ms(event.time)
            prompt, cached, completion, reasoning, others, irregular = (
                counts_of(usage, failed=status >= FAILED_FROM) if usage is not None else NOTHING
            )
            if (
                at_ms is None
                or not oldest_ms <= at_ms <= newest_ms
                or (status < FAILED_FROM and (usage is None or provider is None))
            ):
                came_as = parts.bytes_of(record, events, event)
                if at_ms is not None and not oldest_ms <= at_ms <= newest_ms:
                    _reject_age(unit, record, came_as, event, early=at_ms > newest_ms)
                else:
                    _reject_invalid(unit, record, came_as, event)
                continue

            number, mark = -1, b""
            if sequence is None or moved or (no_room and source not in last):
                if sequence is not None and not moved:
                    if not is_sequence(sequence):
                        _reject_invalid(unit, record, parts.bytes_of(record, events, event), event)
                        continue
                    unit.counts["unnumbered"] += 1
                mark = mark_of(source, event.id)
                if mark in known or (moved and _came_straight(state, event, mark)):
                    duplicates += 1
                    unit.note_duplicate(event, events)
                    continue
            else:
                if not is_sequence(sequence):
                    _reject_invalid(unit, record, parts.bytes_of(record, events, event), event)
                    continue
                if source != running:
                    unit.note_source(running, newest, charged)
                    running, newest, charged = source, last.get(source, -1), []
                number = int(sequence)
                if number <= newest:
                    duplicates += 1
                    unit.note_duplicate(event, events, number, charged)
                    continue
                if number - newest > LEAP_MAX and is_leap(number, newest, timestamp):
                    _reject_leap(unit, record, parts.bytes_of(record, events, event), event, newest)
                    continue
                if known or unpriced:
                    mark = mark_of(source, event.id)
                    if mark in known:
                        # It came before by way of another partition, or of a redrive.
                        newest = number
                        duplicates += 1
                        unit.note_duplicate(event, events)
                        continue
                    if mark not in unpriced:
                        mark = b""

            key_id, trial = data.key_id, data.tier == "trial"
            meter = meters.get(key_id)
            if (
                meter is None
                or meter.org != org
                or not meter.from_ms <= at_ms < meter.until_ms
                or meter.trial is not trial
            ):
                account = touched.get(org)
                if account is None:
                    if not is_org(org):
                        _reject_invalid(unit, record, parts.bytes_of(record, events, event), event)
                        continue
                    if not state.owns(org):
                        if _move(unit, record, parts.bytes_of(record, events, event), event):
                            _remember(unit, mark)
                        newest = max(newest, number)
                        continue
                    account = unit.touch(org)
                meter = unit.meters.meter_for(account, key_id, at_ms, trial=trial)

            model = data.model
            if is_free(data):
                cost, rate_from_ms = 0, 0
                if status >= FAILED_FROM:
                    model, provider = unit.rates.listed(model, provider or "")
            else:
                rate = in_force(model, provider or "", at_ms)
                if rate is None:
                    detail = f"no rate for model {model!r} of provider {data.provider!r} at {event.time}"
                    unit.reject(
                        record, parts.bytes_of(record, events, event), DeadLetterReason.UNPRICED, detail
                    )
                    if number >= 0:
                        state.unpriced.add(mark_of(source, event.id))
                    continue
                cost, rate_from_ms = (
                    cost_nano(rate, prompt, cached, completion, reasoning, others, irregular),
                    rate.from_ms,
                )
                if cost >= meter.check_from_nano and not unit.meters.has_room(meter.account):
                    unit.reject(
                        record,
                        parts.bytes_of(record, events, event),
                        DeadLetterReason.INVALID,
                        "the account's debits are beyond any real amount",
                    )
                    continue

            # From here on the posting must succeed.
            if mark:
                # Without a number; or it was a dead letter before, which a redrive must find charged.
                _remember(unit, mark)
                if number >= 0:
                    state.unpriced.add(charged_letter_mark(mark))
                elif moved and sequence is not None and is_sequence(sequence):
                    _note_redriven(unit, record, event, int(sequence))
            if number >= 0:
                newest = number
                charged.append(number)
            meter.requests += 1
            meter.cost_nano += cost
            latency_ms, ttft_ms = data.latency_ms, data.ttft_ms
            # The columns of a RequestRow, in their order.
            rows.append(
                (
                    row_id,
                    org,
                    at_ms,
                    posted_ms,
                    source,
                    event.id,
                    key_id,
                    data.tier,
                    data.byok,
                    model,
                    provider or "",
                    status,
                    data.error_code or "",
                    latency_ms if type(latency_ms) is int else whole_ms(latency_ms),
                    ttft_ms if ttft_ms is None or type(ttft_ms) is int else whole_ms(ttft_ms),
                    data.stream is True,
                    prompt,
                    cached,
                    completion,
                    reasoning,
                    cost,
                    rate_from_ms,
                )
                + (PLAIN if others is NO_OTHERS and not irregular else (*others, irregular))
            )
            irregulars += irregular > REGULAR
            row_id += ID_STEP
            debited_nano += cost
        recent.add(record.value)
        if len(rows) >= ROWS_A_RECORD:
            unit.encode_requests()
        if taken >= rest_at:
            rest_at = taken + rest_every
            yield
        if unit.is_full():
            unit.leave(records[done:])
            break
    unit.note_source(running, newest, charged)
    unit.took_ids(row_id)
    unit.debited_nano += debited_nano
    unit.counts["events"] += taken
    unit.counts["duplicates"] += duplicates
    unit.counts["irregular"] += irregulars


def _came_straight(state: PartitionState, event: RequestEvent, mark: bytes) -> bool:
    """Whether a moved event was charged before by its number, when it came on the right partition."""
    sequence = event.sequence
    if sequence is None or not is_sequence(sequence):
        return False
    return charged_letter_mark(mark) in state.unpriced.known or state.numbers.has(event.source, int(sequence))


def _note_redriven(unit: Unit, record: InputRecord, event: RequestEvent, number: int) -> None:
    """Note the number of a redriven event that became a letter in its source's order, on this partition.

    All events of its source with lower numbers were read here before that: so from now on each of them that is published
    again is a duplicate, or a letter that waits. Not so of a number that leapt, which may be another sender's.
    """
    headers = dict(record.headers)
    came_here = (headers.get("topic"), headers.get("partition")) == (
        REQUESTS.encode(),
        str(unit.state.partition).encode(),
    )
    sources, leapt = unit.state.sources, headers.get("reason") == DeadLetterReason.LEAP.encode()
    last = sources.last.get(event.source, -1)
    if not came_here or leapt or is_leap(number, last, record.timestamp) or (last < 0 and sources.is_full):
        return
    unit.note_source(event.source, number, [number])


def _remember(unit: Unit, mark: bytes) -> None:
    if mark:
        unit.state.ring.add(mark)


def _reject_age(unit: Unit, record: InputRecord, value: bytes, event: RequestEvent, *, early: bool) -> None:
    """Send an event to the dead letters that came too late, or too early."""
    if not early:
        unit.reject(
            record, value, DeadLetterReason.TOO_LATE, f"{event.time} is over 35 days before its arrival"
        )
        return
    unit.reject(
        record,
        value,
        DeadLetterReason.FROM_THE_FUTURE,
        f"{event.time} is over 10 minutes ahead of its arrival",
    )
    if event.sequence is not None:
        # It may be redriven, and published again, once its time has come.
        unit.state.unpriced.add(mark_of(event.source, event.id))


def _reject_leap(unit: Unit, record: InputRecord, value: bytes, event: RequestEvent, last: int) -> None:
    """Send an event to the dead letters whose number cannot be its source's own. It may be redriven."""
    detail = f"sequence {event.sequence} is too far above {last}, the last of source {event.source!r} here"
    unit.reject(record, value, DeadLetterReason.LEAP, detail)
    unit.state.unpriced.add(mark_of(event.source, event.id))


def _reject_unsigned(
    unit: Unit, record: InputRecord, value: bytes, event: RequestEvent, problem: str
) -> None:
    """Send an event to the dead letters whose source is bound to a key that did not sign its record."""
    unit.reject(record, value, DeadLetterReason.UNSIGNED, problem)
    if event.sequence is not None:
        # An operator may have it redriven, and its gateway may publish it again.
        unit.state.unpriced.add(mark_of(event.source, event.id))


def _reject_invalid(unit: Unit, record: InputRecord, value: bytes, event: RequestEvent) -> None:
    """Send an event that is not valid to the dead letters. The checks above are `problem_of`'s, in place for speed."""
    problem = problem_of(event)
    assert problem is not None, f"refused, but nothing is wrong with {event}"
    unit.reject(record, value, DeadLetterReason.INVALID, f"{problem.field} {problem.text}")


def _move(unit: Unit, record: InputRecord, value: bytes, event: RequestEvent) -> bool:
    """Send an event on to the partition its org belongs to; return whether it can be carried there."""
    right = partition_of(event.subject, unit.state.partitions)
    if len(value) > LETTER_BYTES_MAX:
        detail = f"on another org's partition, and too large to be moved to {right}: {len(value)} bytes"
        unit.reject(record, value, DeadLetterReason.INVALID, detail)
        return False
    unit.move(record, value, right)
    return True
