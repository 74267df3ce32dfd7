"""The broker's AOT cache: found by what it was made for, used where it is, and older ones known as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.local import aot_cache, jars
from pipeline.local.broker import java

OPTIONS = ("-XX:+UseParallelGC",)


@pytest.fixture(autouse=True)
def _kept_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jars, "directory", lambda: tmp_path)


def test_another_class_path_or_other_options_have_a_cache_of_their_own() -> None:
    places = [
        aot_cache.path("a.jar:b.jar", OPTIONS),
        aot_cache.path("a.jar", OPTIONS),
        aot_cache.path("a.jar", ()),
    ]
    assert len(set(places)) == 3
    assert aot_cache.path("a.jar", OPTIONS) == places[1]


def test_it_is_used_where_it_is_there_and_a_broker_starts_without_it() -> None:
    cache = aot_cache.path("a.jar", OPTIONS)
    assert aot_cache.use("a.jar", OPTIONS) == []
    assert not [option for option in java("a.jar", "kafka.Kafka") if "AOT" in option]
    cache.touch()
    assert aot_cache.use("a.jar", OPTIONS) == [f"-XX:AOTCache={cache}"]
    assert aot_cache.use("b.jar", OPTIONS) == []


def test_those_of_former_releases_are_named() -> None:
    cache, former = aot_cache.path("new.jar", OPTIONS), aot_cache.path("old.jar", OPTIONS)
    for each in (cache, former):
        each.touch()
    assert aot_cache.others(cache) == [former]
