"""The price list: every route in force, its tiers and what is announced, with the API's exact values beside."""

from __future__ import annotations

from pipeline import ist
from pipeline.api.pages.price_list import NEW_DAYS, PriceLine, price_list
from pipeline.catalog.rates import Tier
from tests.support.builders import NOW_MS, rate, rate_table


def _values(line: PriceLine) -> list[tuple[str, str]]:
    return [(price.value, price.shown) for price in (line.input, line.cached_input, line.output)]


def test_models_stand_by_name_and_their_providers_by_price() -> None:
    table = rate_table(
        rate(provider="dear", input_nano=20_000),
        rate(provider="cheap", input_nano=10_000, cached_nano=0),
        rate(model="airavata-7b", provider="e2e"),
    )
    listed = price_list(table.current_and_announced(NOW_MS), NOW_MS)
    assert [(route.model, route.provider) for route in listed] == [
        ("airavata-7b", "e2e"),
        ("krutrim-2", "cheap"),
        ("krutrim-2", "dear"),
    ]
    assert _values(listed[1].prices) == [("10", "₹10.00"), ("0", "free"), ("50", "₹50.00")]
    assert listed[1].prices.input.field == "input_inr_per_mtok"
    assert (listed[1].since, listed[1].tiers, listed[1].announced) == ("", (), ())


def test_a_price_that_is_new_says_since_when() -> None:
    for age_days, is_new in ((NEW_DAYS - 1, True), (NEW_DAYS, False)):
        from_ms = NOW_MS - age_days * ist.DAY_MS
        [route] = price_list([rate(from_ms=from_ms)], NOW_MS)
        at = ist.datetime_of(from_ms)
        assert route.since == (f"{at.day} {at:%b %Y}" if is_new else "")


def test_tiers_and_other_classes_are_listed_where_they_differ() -> None:
    rated = rate(
        input_nano=1_234_567_8,
        others_nano=(15_625, 1_234_567_8, 200_000),
        request_nano=50_000_000,
        tiers=(Tier(1_000_000, 3, 3, 3), Tier(200_000, 25_000, 3_125, 75_000)),
    )
    [route] = price_list([rated], NOW_MS)
    assert route.prices.input.shown == "₹12,345.678"
    assert [(word, price.field, price.value) for word, price in route.prices.others] == [
        ("cache write", "cache_write_inr_per_mtok", "15.625"),
        ("audio out", "audio_output_inr_per_mtok", "200"),
        ("each request", "request_inr", "0.05"),
    ]
    assert [(above, line.input.value, line.others) for above, line in route.tiers] == [
        ("2,00,000", "25", ()),
        ("10,00,000", "0.003", ()),
    ]


def test_what_is_announced_stands_under_what_is_in_force() -> None:
    start_ms = ist.day_start_ms(ist.day_of(NOW_MS) + 3) + 9 * 3_600_000
    table = rate_table(
        rate(), rate(from_ms=start_ms, input_nano=9_000), rate(provider="e2e", from_ms=NOW_MS + 1)
    )
    [route] = price_list(table.current_and_announced(NOW_MS), NOW_MS)
    at = ist.datetime_of(start_ms)
    assert [(since, line.input.value) for since, line in route.announced] == [
        (f"{at.day} {at:%b %Y}, 09:00 IST", "9")
    ]
    assert len(price_list(table.current_and_announced(NOW_MS), NOW_MS + 1)) == 2
