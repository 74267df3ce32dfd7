"""`/me/activity/latency` against a sorted list of every request."""

from __future__ import annotations

from collections import defaultdict

import pytest

from pipeline import ist
from pipeline.clickhouse.client import Engine
from pipeline.journal import public_id
from tests.support.api.client import api
from tests.support.builders import NOW_MS
from tests.support.journal_rows import MODELS, insert, random_requests, request

PATH = "/me/activity/latency"


def quantiles(values: list[int]) -> dict[str, int]:
    """Return the lower median, and the smallest value that more than 95 in 100 do not exceed."""
    ordered, count = sorted(values), len(values)
    return {"p50_ms": ordered[(count - 1) // 2], "p95_ms": ordered[count * 95 // 100]}


@pytest.mark.parametrize("filters", [{}, {"model": MODELS[2]}, {"key_id": "org_a_key_3", "provider": "e2e"}])
def test_the_median_and_the_95th_percentile_of_the_served_requests(
    engine: Engine, filters: dict[str, str]
) -> None:
    rows = random_requests(seed=71, count=4_000, days=40)
    insert(engine, rows)
    served_ms: defaultdict[str, list[int]] = defaultdict(list)
    for r in rows:
        is_kept = all(getattr(r, name) == value for name, value in filters.items())
        if is_kept and r.org == "org_a" and not r.failed and "2026-05-20" <= r.day <= "2026-06-09":
            served_ms[r.model].append(r.latency_ms)
    with api(engine) as served:
        answer = served.get(PATH, "org_a", from_="2026-05-20", to="2026-06-09", **filters)
    assert answer == {
        "from": "2026-05-20",
        "to": "2026-06-09",
        "as_of": ist.isoformat(NOW_MS),
        "models": [
            {"model": model, "requests": len(took), **quantiles(took)}
            for model, took in sorted(served_ms.items())
        ],
    }


@pytest.mark.parametrize(
    ("took", "p50_ms", "p95_ms"),
    [
        ([7], 7, 7),
        ([3, 9], 3, 9),
        ([1, 2, 3], 2, 3),
        (list(range(1, 101)), 50, 96),
        ([0, 4_294_967_295], 0, 4_294_967_295),
    ],
)
def test_a_quantile_is_a_latency_that_a_request_had(
    engine: Engine, took: list[int], p50_ms: int, p95_ms: int
) -> None:
    rows = [request(public_id(0, n), "org_a", NOW_MS, latency_ms=ms) for n, ms in enumerate(took)]
    insert(engine, rows)
    with api(engine) as served:
        [model] = served.get(PATH, "org_a")["models"]
    assert (model["p50_ms"], model["p95_ms"]) == (p50_ms, p95_ms)


def test_an_org_with_nothing_but_failures_has_no_latencies(engine: Engine) -> None:
    insert(engine, [request(public_id(0, 0), "org_a", NOW_MS, status=500, cost_nano=0)])
    with api(engine) as served:
        assert served.get(PATH, "org_a")["models"] == []
        assert served.refused(PATH, "org_a", from_="2025-01-01", to="2026-02-05")[2] == "from"
