"""When a webhook is tried again, and what is kept of it meanwhile."""

from __future__ import annotations

import msgspec

from pipeline.webhook import waiting
from pipeline.webhook.waiting import AGE_MAX_MS, BACK_OFF_MAX_MS, WebhookProgress, again, is_too_old
from tests.support.webhooks import MESSAGE


def test_it_waits_twice_as_long_each_time_up_to_two_hours() -> None:
    waits = [again(MESSAGE, 0, tries, 0, 30_000).due_ms for tries in range(1, 12)]
    assert waits[:4] == [30_000, 60_000, 120_000, 240_000]
    assert waits[-1] == again(MESSAGE, 0, 10_000, 0, 30_000).due_ms == BACK_OFF_MAX_MS


def test_it_is_tried_for_a_day() -> None:
    assert not is_too_old(5, 5 + AGE_MAX_MS - 1)
    assert is_too_old(5, 5 + AGE_MAX_MS)


def test_what_is_kept_comes_back() -> None:
    first, second = (
        again(msgspec.structs.replace(MESSAGE, id=name), 1, 2, 3, 4) for name in ("first", "second")
    )
    outputs = [waiting.kept(first), waiting.kept(second), waiting.gone("first")]
    records: dict[bytes, bytes] = {}
    for output in outputs:
        assert output.key is not None
        if output.value is None:
            del records[output.key]
        else:
            records[output.key] = output.value
    records[waiting.PROGRESS_KEY] = waiting.encode_progress(WebhookProgress(7, "t"))
    assert waiting.restored(records) == (WebhookProgress(7, "t"), {"second": second})
    assert waiting.restored({}) == (WebhookProgress(), {})
