"""What a METERING_CLICKHOUSE_URL may say."""

from __future__ import annotations

import pytest

from pipeline.clickhouse.cluster import ONLY_SHARD, Shard
from pipeline.clickhouse.location import (
    EmbeddedLocation,
    LocationError,
    ServerAddress,
    ServerLocation,
    parse_location,
    parse_shards,
)


def test_embedded() -> None:
    assert parse_location("chdb:///var/lib/metering") == EmbeddedLocation("/var/lib/metering", "metering")
    assert parse_location("chdb://.metering/clickhouse") == EmbeddedLocation(
        ".metering/clickhouse", "metering"
    )
    assert parse_location("chdb:///a b?database=other") == EmbeddedLocation("/a b", "other")


def test_server() -> None:
    assert parse_location("http://ch") == ServerLocation(
        (ServerAddress("ch", 8123),), False, "default", "", "metering"
    )
    assert parse_location("https://u:p%40ss%2Fword@ch.example:9/books?cluster=main") == ServerLocation(
        (ServerAddress("ch.example", 9),), True, "u", "p@ss/word", "books", "main"
    )
    assert parse_location("https://[::1]") == ServerLocation(
        (ServerAddress("::1", 8443),), True, "default", "", "metering"
    )


def test_replicas_stand_after_commas() -> None:
    found = parse_location("https://u:p@a1,a2:9440,[::1]/db?cluster=main")
    assert isinstance(found, ServerLocation)
    assert found.replicas == (
        ServerAddress("a1", 8443),
        ServerAddress("a2", 9440),
        ServerAddress("::1", 8443),
    )
    assert (found.user, found.password, found.database, found.cluster) == ("u", "p", "db", "main")


def test_shards_stand_after_semicolons() -> None:
    found = parse_shards("https://u:p@a1,a2;b1:9440,[::1]/db?cluster=main")
    assert [(shard.shard, getattr(shard, "replicas", None)) for shard in found] == [
        (Shard(1, 2), (ServerAddress("a1", 8443), ServerAddress("a2", 8443))),
        (Shard(2, 2), (ServerAddress("b1", 9440), ServerAddress("::1", 8443))),
    ]
    assert {(shard.database, shard.cluster) for shard in found} == {("db", "main")}
    assert [shard.shard for shard in parse_shards("http://a;b;c")] == [Shard(n, 3) for n in (1, 2, 3)]
    assert [shard.shard for shard in parse_shards("chdb:///p")] == [ONLY_SHARD]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "metering",
        "mysql://h/db",
        "chdb://",
        "chdb:///p?database=",
        "chdb:///p?database=a`b",
        "chdb:///p?cluster=main",
        "chdb:///p?database=a&database=b",
        "http://",
        "http:///db",
        "http://h:port/db",
        "http://h:99999/db",
        "http://h/da-ta",
        "http://h/a/b",
        "http://h/db?cluster=",
        "http://h/db?password=hunter2",
        "http://a,b/db",
        "http://a,/db?cluster=main",
        "http://a;b/db?cluster=main",
        "http://a,b:x/db?cluster=main",
        "http://a,b,a/db?cluster=main",
        "http://a;b;a/db",
        "http://a;/db",
        "http://;a/db",
        "http://a,b;c/db",
    ],
)
def test_what_points_nowhere(url: str) -> None:
    with pytest.raises(LocationError):
        parse_location(url)


@pytest.mark.parametrize("url", ["http://a;a/db", "http://a;/db", "http://a,b;c/db", "chdb://"])
def test_shards_that_point_nowhere(url: str) -> None:
    with pytest.raises(LocationError):
        parse_shards(url)


def test_a_password_is_never_shown() -> None:
    assert "hunter2" not in repr(parse_location("http://u:hunter2@h/db"))
    with pytest.raises(LocationError) as error:
        parse_location("http://u:hunter2@h:x/db")
    assert "hunter2" not in str(error.value)
