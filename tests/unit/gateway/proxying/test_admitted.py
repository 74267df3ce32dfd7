"""The event of a request, as what became of it."""

from __future__ import annotations

from pipeline.gateway.proxying.admitted import NAME_MAX, AdmittedRequest, Caller, Outcome
from pipeline.gateway.sending.prepare import prepare

CALLER = Caller("org_1", "key_1", "standard")
NOW_MS = 1_800_000_000_123
SECOND_NS = 1_000_000_000


def test_a_stream_that_was_served() -> None:
    admitted = AdmittedRequest("req-1", CALLER, True, 5 * SECOND_NS, 6 * SECOND_NS)
    outcome = Outcome(200, "krutrim-2", "e2e", {"prompt_tokens": 4, "completion_tokens": 10})
    event = admitted.event(outcome, NOW_MS, 7 * SECOND_NS)
    prepared = prepare(event, "gateway/x", NOW_MS, bytes(10), 1)
    assert (prepared.given_id, prepared.event.subject) == ("req-1", "org_1")
    data = prepared.event.data
    assert (data.latency_ms, data.ttft_ms, data.stream, data.provider) == (2000, 1000, True, "e2e")
    assert not prepared.free


def test_whatever_names_a_failure_has_its_event_can_be_stored() -> None:
    admitted = AdmittedRequest("req-2", CALLER, False, 0)
    outcome = Outcome(500, "m" * 1000, "p" * 1000, None, "e" * 1000)
    prepared = prepare(admitted.event(outcome, NOW_MS, 1), "gateway/x", NOW_MS, bytes(10), 1)
    assert prepared.free
    assert prepared.event.data.error_code == "e" * NAME_MAX
