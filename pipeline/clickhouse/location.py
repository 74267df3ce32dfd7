"""Where the engine is: what a METERING_CLICKHOUSE_URL says.

Owns: the URL's grammar.
Called by: `clickhouse/client.py`.

    chdb://PATH[?database=NAME]                                     embedded, data in the directory PATH
    http(s)://user:password@host:port/database                      a server
    http(s)://user:password@HOST,HOST/database?cluster=NAME         a cluster of replicas that have the same rows
    http(s)://user:password@HOST,HOST;HOST,HOST/database?cluster=NAME   shards, each of replicas; their order counts

The database is `metering` where the URL names none. With a cluster, migrations run ON CLUSTER and make
replicated tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.clickhouse.cluster import ONLY_SHARD, Shard

DEFAULT_DATABASE = "metering"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+\Z")
_DEFAULT_PORTS = {"http": 8123, "https": 8443}


class LocationError(ValueError):
    """A URL that names no engine. The message never repeats the URL, which may hold a password."""


class ServerAddress(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return host:port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class EmbeddedLocation:
    """The engine in this process, its data in a directory. One process owns a directory."""

    path: str
    database: str = DEFAULT_DATABASE
    cluster: None = None
    shard: Shard = ONLY_SHARD


@dataclass(frozen=True)
class ServerLocation:
    """Servers over HTTP: replicas that have the same rows. Without a `cluster` there is one.

    `cluster` is the name that the servers' own configuration gives them.
    """

    replicas: tuple[ServerAddress, ...]
    secure: bool
    user: str
    password: str = field(repr=False)
    database: str = DEFAULT_DATABASE
    cluster: str | None = None
    shard: Shard = ONLY_SHARD


Location = EmbeddedLocation | ServerLocation


def parse_location(url: str) -> Location:
    """Return where a URL points. Raises LocationError where it points nowhere, or to several shards."""
    shards = parse_shards(url)
    if len(shards) > 1:
        raise LocationError("the ClickHouse URL names several shards, where one is asked for")
    return shards[0]


def parse_shards(url: str) -> tuple[Location, ...]:
    """Return where a URL points, shard by shard: mostly there is one. Raises LocationError where it points nowhere."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "chdb":
        return (_embedded(rest),)
    if separator and scheme in _DEFAULT_PORTS:
        return _servers(url)
    raise LocationError("a ClickHouse URL starts with chdb://, http:// or https://")


def _embedded(rest: str) -> EmbeddedLocation:
    path, _, query = rest.partition("?")
    if not path:
        raise LocationError("a chdb:// URL needs a directory: chdb://PATH")
    options = _options(query, "database")
    return EmbeddedLocation(path, _name(options.get("database", DEFAULT_DATABASE), "database"))


def _servers(url: str) -> tuple[ServerLocation, ...]:
    try:
        parts = urlsplit(url)
        signed_in, _, hosts = parts.netloc.rpartition("@")
        shards = [
            tuple(_address(parts.scheme, one) for one in replicas.split(",")) for replicas in hosts.split(";")
        ]
    except ValueError as error:
        if isinstance(error, LocationError):
            raise
        raise LocationError("the ClickHouse URL has no valid host and port") from None
    user, _, password = signed_in.partition(":")
    cluster = _options(parts.query, "cluster").get("cluster")
    servers = [server for replicas in shards for server in replicas]
    if len(servers) > len(shards) and cluster is None:
        raise LocationError("several ClickHouse servers are a cluster: name it, ?cluster=NAME")
    if len(servers) > len(set(servers)):
        raise LocationError("the ClickHouse URL names a server twice")
    return tuple(
        ServerLocation(
            replicas=replicas,
            secure=parts.scheme == "https",
            user=unquote(user) or "default",
            password=unquote(password),
            database=_name(unquote(parts.path.strip("/")) or DEFAULT_DATABASE, "database"),
            cluster=None if cluster is None else _name(cluster, "cluster"),
            shard=Shard(number, len(shards)),
        )
        for number, replicas in enumerate(shards, start=1)
    )


def _address(scheme: str, text: str) -> ServerAddress:
    """Return the address that a text names. Raises ValueError where its port is none."""
    parts = urlsplit(f"//{text}")
    if not _HOST.match(parts.hostname or ""):
        raise LocationError("the ClickHouse URL has no host, or none after a comma or semicolon")
    return ServerAddress(parts.hostname or "", parts.port or _DEFAULT_PORTS[scheme])


def _options(query: str, known: str) -> dict[str, str]:
    options = parse_qs(query, keep_blank_values=True)
    for name, values in options.items():
        if name != known or len(values) != 1:
            raise LocationError(f"of a ClickHouse URL of this kind only ?{known}=NAME is known, once")
    return {name: values[0] for name, values in options.items()}


def _name(text: str, what: str) -> str:
    if not _NAME.match(text):
        raise LocationError(
            f"the {what} name must be letters, digits and underscores, not starting with a digit"
        )
    return text
