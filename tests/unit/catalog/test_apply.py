"""Catalog files: read exactly, with errors one can act on, and never changing what was charged."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.apply import ANNOUNCED_MS, CatalogError, parse_file, parse_start, plan, withdraw
from pipeline.catalog.rates import Rate, RateTable, Tier
from pipeline.catalog.stored import decode_rate, encode_rate
from tests.support.builders import EXAMPLES, NOW_MS, rate, rate_table

ENTRY = {
    "model": "krutrim-2",
    "provider": "krutrim",
    "effective_from": "2026-04-01T00:00:00+05:30",
    "input_inr_per_mtok": "12.5",
    "cached_input_inr_per_mtok": "3.125",
    "output_inr_per_mtok": "50",
}
TIER = {"above_prompt_tokens": 200_000, "input_inr_per_mtok": "25", "output_inr_per_mtok": "75"}
FULL = {
    **ENTRY,
    "cache_write_inr_per_mtok": "15.625",
    "audio_input_inr_per_mtok": "100",
    "audio_output_inr_per_mtok": "200",
    "request_inr": "0.05",
    "tiers": [TIER],
}
FROM_MS = 1_774_981_800_000
EXAMPLE = Path(__file__).parents[3] / "deploy" / "catalog.yaml"


def file_of(*entries: dict[str, Any]) -> str:
    """Return the JSON text of a catalog file."""
    return json.dumps({"rates": list(entries)})


class TestReading:
    def test_yaml_and_json_read_alike(self) -> None:
        quoted = "rates:\n" + "".join(
            f'  {"-" if k == "model" else " "} {k}: "{v}"\n' for k, v in ENTRY.items()
        )
        bare = quoted.replace('"', "")
        expected = [rate(from_ms=FROM_MS)]
        assert parse_file(quoted, "c.yaml") == expected
        assert parse_file(bare, "c.yml") == expected
        assert parse_file(file_of(ENTRY), "c.JSON") == expected
        assert parse_file(file_of(ENTRY), "c.yaml") == expected
        numbers = {
            **ENTRY,
            "input_inr_per_mtok": 12.5,
            "cached_input_inr_per_mtok": 3.125,
            "output_inr_per_mtok": 50,
        }
        assert parse_file(file_of(numbers), "c.json") == expected

    @pytest.mark.parametrize("text", ["0.001", "99999.999", "100000", "8.165", "0.29", "1.1", "2.675", "0"])
    def test_a_bare_number_is_read_from_its_text(self, text: str) -> None:
        yaml = f"rates: [{{model: m, provider: p, effective_from: 2026-04-01T00:00:00Z, input_inr_per_mtok: {text}, output_inr_per_mtok: 0}}]"
        [found] = parse_file(yaml, "c.yaml")
        whole, _, fraction = text.partition(".")
        assert found.input_nano == int(whole) * 1000 + int(fraction.ljust(3, "0"))

    @pytest.mark.parametrize("cached", [None, "absent"])
    def test_cached_tokens_cost_the_input_rate_where_none_is_given(self, cached: str | None) -> None:
        entry = {**ENTRY, "cached_input_inr_per_mtok": None}
        if cached == "absent":
            del entry["cached_input_inr_per_mtok"]
        for name in ("c.json", "c.yaml"):
            assert parse_file(file_of(entry), name)[0].cached_nano == 12_500

    def test_every_class_the_fee_and_tiers_are_read(self) -> None:
        [found] = parse_file(file_of(FULL), "c.json")
        assert found == rate(
            from_ms=FROM_MS,
            others_nano=(15_625, 100_000, 200_000),
            request_nano=50_000_000,
            tiers=(Tier(200_000, 25_000, 3_125, 75_000, (15_625, 100_000, 200_000)),),
        )
        assert parse_file(yaml.safe_dump({"rates": [FULL]}), "c.yaml") == [found]

    def test_what_a_tier_leaves_out_is_as_the_rate_has_it_or_has_not(self) -> None:
        bare = {k: v for k, v in ENTRY.items() if k != "cached_input_inr_per_mtok"}
        [found] = parse_file(file_of({**bare, "audio_output_inr_per_mtok": "80", "tiers": [TIER]}), "c.json")
        assert found.tiers == (Tier(200_000, 25_000, 25_000, 75_000, (25_000, 25_000, 80_000)),)
        half = {"above_prompt_tokens": 5, "output_inr_per_mtok": "60"}
        [found] = parse_file(file_of({**ENTRY, "tiers": [half]}), "c.json")
        assert found.tiers == (Tier(5, 12_500, 3_125, 60_000, (12_500, 12_500, 60_000)),)

    def test_tiers_may_come_in_any_order(self) -> None:
        low = {**TIER, "above_prompt_tokens": 5}
        found = [parse_file(file_of({**ENTRY, "tiers": t}), "c.json") for t in ([low, TIER], [TIER, low])]
        assert found[0] == found[1]
        assert [tier.above_prompt_tokens for tier in found[0][0].tiers] == [200_000, 5]

    def test_a_number_as_name_stays_text(self) -> None:
        assert parse_file(file_of(ENTRY).replace('"krutrim-2"', "7"), "c.yaml")[0].model == "7"

    @pytest.mark.parametrize(
        ("changes", "names"),
        [
            ({"model": None}, ["entry 2", "model"]),
            ({"provider": ""}, ["entry 2", "krutrim-2", "provider"]),
            ({"provider": " p"}, ["entry 2", "provider"]),
            ({"model": "m" * 257}, ["entry 2", "model"]),
            ({"model": ["m"]}, ["entry 2", "model", "list"]),
            ({"effective_from": None}, ["entry 2", "effective_from", "missing"]),
            ({"effective_from": "2026-04-01"}, ["entry 2", "effective_from", "offset"]),
            ({"effective_from": "2026-04-01T00:00:00"}, ["entry 2", "effective_from"]),
            ({"effective_from": "1969-12-31T23:59:59Z"}, ["entry 2", "effective_from"]),
            ({"effective_from": "9999-12-31T23:59:59Z"}, ["entry 2", "effective_from"]),
            ({"input_inr_per_mtok": "12.0005"}, ["entry 2", "input_inr_per_mtok", "3 decimals"]),
            ({"input_inr_per_mtok": "-1"}, ["entry 2", "input_inr_per_mtok", "negative"]),
            ({"output_inr_per_mtok": "100000.001"}, ["entry 2", "output_inr_per_mtok", "100000"]),
            ({"output_inr_per_mtok": "NaN"}, ["entry 2", "output_inr_per_mtok"]),
            ({"output_inr_per_mtok": True}, ["entry 2", "output_inr_per_mtok"]),
            ({"output_inr_per_mtok": "fifty"}, ["entry 2", "output_inr_per_mtok", "fifty"]),
            ({"cached_input_inr_per_mtok": {}}, ["entry 2", "cached_input_inr_per_mtok"]),
            ({"cached_inr_per_mtok": "1"}, ["entry 2", "cached_inr_per_mtok", "not known"]),
            ({"cache_write_inr_per_mtok": "1.0001"}, ["entry 2", "cache_write_inr_per_mtok", "3 decimals"]),
            ({"audio_input_inr_per_mtok": "-1"}, ["entry 2", "audio_input_inr_per_mtok", "negative"]),
            ({"audio_output_inr_per_mtok": "loud"}, ["entry 2", "audio_output_inr_per_mtok", "loud"]),
            ({"request_inr": "0.0000000001"}, ["entry 2", "request_inr", "9 decimals"]),
            ({"request_inr": "-0.05"}, ["entry 2", "request_inr"]),
            ({"request_inr": "100001"}, ["entry 2", "request_inr", "100000"]),
            ({"tiers": {}}, ["entry 2", "tiers", "list"]),
            ({"tiers": ["x"]}, ["entry 2", "tier 1", "mapping"]),
            ({"tiers": [{}]}, ["entry 2", "tier 1", "above_prompt_tokens", "missing"]),
            ({"tiers": [{"above_prompt_tokens": "0"}]}, ["entry 2", "tier 1", "above_prompt_tokens"]),
            ({"tiers": [{"above_prompt_tokens": "2e5"}]}, ["entry 2", "tier 1", "above_prompt_tokens"]),
            ({"tiers": [{"above_prompt_tokens": 10**9}]}, ["entry 2", "tier 1", "above_prompt_tokens"]),
            ({"tiers": [{"above_prompt_tokens": 5}]}, ["entry 2", "tier 1", "price"]),
            ({"tiers": [TIER, TIER]}, ["entry 2", "tier 2", "200000"]),
            ({"tiers": [{**TIER, "request_inr": "1"}]}, ["entry 2", "tier 1", "request_inr", "not known"]),
            ({"tiers": [{**TIER, "input_inr_per_mtok": "x"}]}, ["entry 2", "tier 1", "input_inr_per_mtok"]),
        ],
        ids=lambda value: str(value)[:50],
    )
    def test_an_error_names_the_entry_and_the_field(self, changes: dict[str, Any], names: list[str]) -> None:
        text = file_of({**ENTRY, "provider": "another"}, {**ENTRY, **changes})
        with pytest.raises(CatalogError) as error:
            parse_file(text, "c.json")
        for name in names:
            assert name in str(error.value)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "rates",
            "rates: 5",
            "rates: {}",
            "[]",
            "rates: []\nprices: []",
            "rates: [5]",
            "rates: [",
            "\x00",
            "rates: !!python/object/apply:os.getcwd []",
            "rates: []\n---\nrates: []",
            "rates: []\nrates: []",
            "rates: " + "[" * 5000,
            "? [a]\n: 1",
            "? {a: 1}\n: 1",
        ],
        ids=lambda text: repr(text)[:30],
    )
    def test_a_file_that_is_no_catalog_is_refused(self, text: str) -> None:
        with pytest.raises(CatalogError):
            parse_file(text, "c.yaml")

    @pytest.mark.parametrize(
        "text", ["", "{", '{"rates": NaN}', "[" * 100_000, '{"rates": [], "rates": []}', '{"rates": [] } x']
    )
    def test_json_that_is_no_catalog_is_refused(self, text: str) -> None:
        with pytest.raises(CatalogError):
            parse_file(text, "c.json")

    def test_a_key_given_twice_is_an_error_even_within_an_entry(self) -> None:
        text = file_of(ENTRY).replace(
            '"output_inr_per_mtok"', '"input_inr_per_mtok": "1", "output_inr_per_mtok"'
        )
        for name in ("c.json", "c.yaml"):
            with pytest.raises(CatalogError, match="twice"):
                parse_file(text, name)

    def test_the_same_start_twice_is_an_error(self) -> None:
        same = {**ENTRY, "effective_from": "2026-03-31T18:30:00Z", "input_inr_per_mtok": "1"}
        with pytest.raises(CatalogError, match=r"entry 2.*entry 1"):
            parse_file(file_of(ENTRY, same), "c.json")

    def test_yaml_anchors_share_what_entries_have_in_common(self) -> None:
        text = """
rates:
  - &one {model: m, provider: p, effective_from: 2026-04-01T00:00:00Z, input_inr_per_mtok: 1, output_inr_per_mtok: 2}
  - {<<: *one, provider: q}
"""
        assert [r.provider for r in parse_file(text, "c.yaml")] == ["p", "q"]

    @EXAMPLES
    @given(st.text(max_size=200))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        for name in ("c.yaml", "c.json"):
            with suppress(CatalogError):
                parse_file(text, name)


class TestPlanning:
    def test_a_new_route_may_start_in_the_past_with_its_history(self) -> None:
        wanted = [rate(from_ms=1), rate(from_ms=5, input_nano=7), rate(from_ms=NOW_MS + 1)]
        assert [r.from_ms for r in plan(RateTable(), wanted, NOW_MS)] == [NOW_MS + 1, 5, 1]

    def test_the_same_again_changes_nothing(self) -> None:
        wanted = [rate(from_ms=1), rate(from_ms=NOW_MS + ANNOUNCED_MS), rate(model="other")]
        table = rate_table(*plan(RateTable(), wanted, NOW_MS))
        assert plan(table, wanted, NOW_MS) == []
        assert plan(table, wanted, NOW_MS + 10 * ANNOUNCED_MS) == []

    @pytest.mark.parametrize("from_ms", [5, NOW_MS - 1, NOW_MS, NOW_MS + ANNOUNCED_MS - 1, 0])
    def test_a_later_rate_of_a_known_route_starts_ahead_of_what_any_event_may_be(self, from_ms: int) -> None:
        with pytest.raises(CatalogError, match=r"entry 1 .*effective_from"):
            plan(rate_table(rate(from_ms=3)), [rate(from_ms=from_ms, input_nano=9)], NOW_MS)

    def test_that_far_ahead_is_enough(self) -> None:
        later = rate(from_ms=NOW_MS + ANNOUNCED_MS, input_nano=9)
        assert plan(rate_table(rate(from_ms=3)), [rate(from_ms=3), later], NOW_MS) == [later]

    @pytest.mark.parametrize("from_ms", [3, NOW_MS, NOW_MS + ANNOUNCED_MS - 1])
    def test_a_rate_in_force_or_about_to_be_never_changes(self, from_ms: int) -> None:
        with pytest.raises(CatalogError, match="never change"):
            plan(rate_table(rate(from_ms=from_ms)), [rate(from_ms=from_ms, output_nano=9)], NOW_MS)

    def test_a_fee_or_a_tier_is_a_change_too_and_the_error_shows_what_is_in_force(self) -> None:
        table = rate_table(rate(from_ms=3, request_nano=5, tiers=(Tier(9, 1_000, 1_000, 2_000),)))
        with pytest.raises(CatalogError) as error:
            plan(table, [rate(from_ms=3)], NOW_MS)
        for part in ("input 12.5", "cached_input 3.125", "request 0.000000005", "above 9 tokens", "output 2"):
            assert part in str(error.value)

    def test_an_announced_rate_may_be_replaced(self) -> None:
        announced = rate(from_ms=NOW_MS + ANNOUNCED_MS, input_nano=1)
        instead = rate(from_ms=NOW_MS + ANNOUNCED_MS, input_nano=2)
        assert plan(rate_table(rate(), announced), [rate(), instead], NOW_MS) == [instead]

    def test_one_bad_entry_publishes_nothing(self) -> None:
        with pytest.raises(CatalogError, match="entry 2"):
            plan(rate_table(), [rate(model="new"), rate(input_nano=1)], NOW_MS)

    def test_an_announced_rate_may_be_withdrawn_and_no_other(self) -> None:
        announced = rate(from_ms=NOW_MS + ANNOUNCED_MS, input_nano=1)
        soon = rate(from_ms=NOW_MS + ANNOUNCED_MS - 1, input_nano=2)
        table = rate_table(rate(from_ms=3), soon, announced)
        assert withdraw(table, announced.route, announced.from_ms, NOW_MS) == announced
        for from_ms in (3, soon.from_ms):
            with pytest.raises(CatalogError, match="in force or about to be, so it cannot be withdrawn"):
                withdraw(table, announced.route, from_ms, NOW_MS)
        with pytest.raises(CatalogError, match=r"has no rate from .* its rates start at: 1970-01-01T05:30"):
            withdraw(table, announced.route, 4, NOW_MS)
        with pytest.raises(CatalogError, match="its rates start at: none"):
            withdraw(table, ("krutrim-2", "nobody"), 4, NOW_MS)

    @pytest.mark.parametrize("text", ["", "tomorrow", "2026-04-01T00:00:00", "1969-01-01T00:00:00Z"])
    def test_a_start_is_an_instant_with_an_offset(self, text: str) -> None:
        assert parse_start("1970-01-01T05:30:01+05:30") == 1000
        with pytest.raises(CatalogError, match="effective_from: must be a time such as"):
            parse_start(text)

    @EXAMPLES
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 3 * ANNOUNCED_MS),
                st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), max_size=4),
            ),
            max_size=6,
        )
    )
    def test_what_was_charged_never_changes(self, applied: list[tuple[int, list[tuple[int, int]]]]) -> None:
        """Whatever is applied when: the rate of each past instant, once there was one, stays."""
        table, now_ms = RateTable(), NOW_MS
        for wait_ms, entries in applied:
            now_ms += wait_ms
            wanted = [
                rate(from_ms=NOW_MS + 30_000 * start, input_nano=nano)
                for start, nano in dict(entries).items()
            ]
            instants = range(NOW_MS - 30_000, now_ms + ANNOUNCED_MS, 10_000)
            before = {at: table.in_force("krutrim-2", "krutrim", at) for at in instants}
            try:
                published = plan(table, wanted, now_ms)
            except CatalogError:
                continue
            for each in published:
                table.add(decode_rate(encode_rate(each)[1]))
            for at, known in before.items():
                assert known is None or table.in_force("krutrim-2", "krutrim", at) == known


def test_the_example_catalog_is_one() -> None:
    rates = parse_file(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE.name)
    providers: dict[str, set[str]] = {}
    for each in rates:
        providers.setdefault(each.model, set()).add(each.provider)
        assert each.cached_nano <= each.input_nano
    assert len({each.route for each in rates}) >= 15
    assert sum(len(names) >= 2 for names in providers.values()) >= 4
    assert Rate("krutrim-2", "krutrim", 1_767_205_800_000, 12_500, 3_125, 50_000) in rates
