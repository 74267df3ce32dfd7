"""Where the engine is: what a METERING_CLICKHOUSE_URL says.

Owns: the URL's grammar.
Called by: `clickhouse/client.py`.

    chdb://PATH[?database=NAME]                                   embedded, data in the directory PATH
    http(s)://user:password@host:port/database[?cluster=NAME]     a server, or a replica of a cluster

The database is `metering` where the URL names none. With a cluster, migrations run ON CLUSTER and make
replicated tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_DATABASE = "metering"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_DEFAULT_PORTS = {"http": 8123, "https": 8443}


class LocationError(ValueError):
    """A URL that names no engine. The message never repeats the URL, which may hold a password."""


@dataclass(frozen=True)
class EmbeddedLocation:
    """The engine in this process, its data in a directory. One process owns a directory."""

    path: str
    database: str = DEFAULT_DATABASE
    cluster: None = None


@dataclass(frozen=True)
class ServerLocation:
    """A server over HTTP. `cluster` is the name its configuration gives the replicas, if any."""

    host: str
    port: int
    secure: bool
    user: str
    password: str = field(repr=False)
    database: str = DEFAULT_DATABASE
    cluster: str | None = None


Location = EmbeddedLocation | ServerLocation


def parse_location(url: str) -> Location:
    """Return where a URL points. Raises LocationError where it points nowhere."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "chdb":
        return _embedded(rest)
    if separator and scheme in _DEFAULT_PORTS:
        return _server(url)
    raise LocationError("a ClickHouse URL starts with chdb://, http:// or https://")


def _embedded(rest: str) -> EmbeddedLocation:
    path, _, query = rest.partition("?")
    if not path:
        raise LocationError("a chdb:// URL needs a directory: chdb://PATH")
    options = _options(query, "database")
    return EmbeddedLocation(path, _name(options.get("database", DEFAULT_DATABASE), "database"))


def _server(url: str) -> ServerLocation:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except ValueError:
        raise LocationError("the ClickHouse URL has no valid host and port") from None
    if not parts.hostname:
        raise LocationError("the ClickHouse URL has no host")
    options = _options(parts.query, "cluster")
    cluster = options.get("cluster")
    return ServerLocation(
        host=parts.hostname,
        port=port,
        secure=parts.scheme == "https",
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=_name(unquote(parts.path.strip("/")) or DEFAULT_DATABASE, "database"),
        cluster=None if cluster is None else _name(cluster, "cluster"),
    )


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
