"""What the worker posts and what it calls invalid is what `problem_of` says: the checks of the hot path are its."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.events import RequestEvent, decode_element, problem_of
from tests.support.builders import DROP, MANY_EXAMPLES, Books, event, packed, reasons

_EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "subject": st.sampled_from(["org_1", "org\x001", "\x1f", " "]),
        "time": st.sampled_from(
            ["2026-06-12T18:29:59.123Z", "2026-06-12 18:29:59.123", "2026-02-30T18:29:59Z"]
        ),
        "sequence": st.sampled_from(["7", "x", "٤٢", None]),
        "data__status": st.sampled_from([100, 200, 399, 400, 599]),
        "data__provider": st.sampled_from(["krutrim", None, DROP]),
        "data__usage": st.sampled_from([None, {"prompt_tokens": 1, "completion_tokens": 2}]),
    },
)


@MANY_EXAMPLES
@given(_EVENTS)
def test_the_worker_takes_what_has_no_problem_and_nothing_else(changes: dict[str, Any]) -> None:
    value = packed(event(**changes))
    decoded = decode_element(value)
    assert isinstance(decoded, RequestEvent)
    problem = problem_of(decoded)
    outcome = Books().publish(value)
    assert reasons(outcome) == ([] if problem is None else ["invalid"])
    if problem is not None:
        detail = dict(outcome.dead_letters[0].headers)["detail"].decode()
        assert detail == f"{problem.field} {problem.text}"
