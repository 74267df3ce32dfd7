"""The queries of `sql/queries/`: loaded once, checked, and bound to their parameters.

Owns: the head of a query's file, and the rule that a query about an org cannot run without its scope.
Called by: the API, the sink, `operations/`. Next: `clickhouse/client.py`.

Words in double braces stand for what the core defines: `{{tokens}}` for the tokens of a row, or of a group of a
roll-up, `{{failed}}` for whether a row is of a request that failed, `{{request_columns}}` for the columns of a row,
`{{posted_day}}` for the IST day that a row was posted on.

A file opens with its name, its caller, its scope and its parameters, then says what it is for. The scope is
`org`, `orgs` (several at once, where each line of the answer names the org it is about) or `platform`. What the head says is checked against the text when the files are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.clickhouse.sql_files import sql_files
from pipeline.events import FAILED_FROM
from pipeline.journal import REQUEST_COLUMNS, TOKEN_COLUMNS
from pipeline.usage import OTHER_CLASSES

_PLACEHOLDER = re.compile(r"\{(\w+):([^}]+)\}")
_PARAMETER = re.compile(r"(\w+) ([A-Za-z]\w*(?:\(\w+\))?)\Z")
_WORD = re.compile(r"\{\{\s*(\w+)\s*\}\}")
WORDS = {
    "tokens": f"({' + '.join(TOKEN_COLUMNS)})",
    "failed": f"(status >= {FAILED_FROM})",
    "other_sums": f"[{', '.join(f'sum({each.name}_tokens)' for each in OTHER_CLASSES)}]",
    "request_columns": ", ".join(REQUEST_COLUMNS),
    "posted_day": "toDate(fromUnixTimestamp64Milli(posted_ms, 'Asia/Kolkata'))",
    # What a member chose; an empty text filters nothing.
    "filtered": "((empty({model:String}) OR model = {model:String}) AND "
    "(empty({key_id:String}) OR key_id = {key_id:String}) AND "
    "(empty({provider:String}) OR provider = {provider:String}))",
}
_HEAD = ("name", "caller", "scope", "parameters")
_CONDITIONS = {"org": "org = {org:String}", "orgs": "org IN {orgs:Array(String)}"}
"""What a query's text has for its scope, and no query of another scope has."""


class QueryFileError(Exception):
    """A query's file that is not what its head says. The message names the file."""


@dataclass(frozen=True)
class OrgScope:
    """The org that an answer is for. Made from a verified session, and from nothing else in the API."""

    org: str


@dataclass(frozen=True)
class Bound:
    """A query and the values of its parameters, ready to run."""

    sql: str
    parameters: dict[str, object]


@dataclass(frozen=True)
class Query:
    """A query as its file has it. `parameters` are names and the engine's types, `org` aside."""

    name: str
    caller: str
    scope: str
    parameters: dict[str, str]
    sql: str

    def of_orgs(self, scopes: Sequence[OrgScope], **values: object) -> Bound:
        """Bind a query about several orgs. Raises TypeError for another scope or other parameters."""
        if self.scope != "orgs":
            raise TypeError(f"{self.name} is not about several orgs")
        return Bound(self.sql, {**self._checked(values), "orgs": [scope.org for scope in scopes]})

    def of_org(self, scope: OrgScope, **values: object) -> Bound:
        """Bind a query about one org. Raises TypeError for another scope or other parameters."""
        if self.scope != "org":
            raise TypeError(f"{self.name} is not about one org")
        return Bound(self.sql, {**self._checked(values), "org": scope.org})

    def of_platform(self, **values: object) -> Bound:
        """Bind a query about the whole platform. Raises TypeError for another scope or other parameters."""
        if self.scope != "platform":
            raise TypeError(f"{self.name} is about orgs and needs their scope")
        return Bound(self.sql, self._checked(values))

    def _checked(self, values: dict[str, object]) -> dict[str, object]:
        if values.keys() != self.parameters.keys():
            raise TypeError(f"{self.name} takes {', '.join(self.parameters) or 'no parameters'}")
        return values


def query(name: str) -> Query:
    """Return a query by its name. Raises KeyError where no file has it."""
    return _all()[name]


def queries() -> list[Query]:
    """Return all queries."""
    return list(_all().values())


def parse_query(path: Path, text: str) -> Query:
    """Return the query of a file's text. Raises QueryFileError where head and text disagree."""
    lines = text.splitlines()
    head = dict(_head_line(path, line, field) for line, field in zip(lines, _HEAD, strict=False))
    sql = _filled(path, "\n".join(line for line in lines if not line.startswith("--")).strip())
    parameters = dict(_parameter(path, part) for part in head.get("parameters", "").split(", ") if part)
    scope = head.get("scope", "")
    found = [name for name, condition in _CONDITIONS.items() if condition in sql]
    if scope not in (*_CONDITIONS, "platform") or found != [name for name in _CONDITIONS if name == scope]:
        raise QueryFileError(
            f"{path.name}: the scope is `platform`, or one of {_CONDITIONS}, with that in it"
        )
    used = dict(_PLACEHOLDER.findall(sql))
    if used != {**parameters, **dict(_PLACEHOLDER.findall(_CONDITIONS.get(scope, "")))}:
        raise QueryFileError(f"{path.name}: the head has {parameters}, the text uses {used}")
    if head["name"] != path.stem:
        raise QueryFileError(f"{path.name}: the head has the name {head['name']}")
    return Query(head["name"], head["caller"], head["scope"], parameters, sql)


def _filled(path: Path, text: str) -> str:
    """Return a query's text with its words filled in. Raises QueryFileError for an unknown one."""

    def fill(match: re.Match[str]) -> str:
        if match[1] not in WORDS:
            raise QueryFileError(f"{path.name}: unknown word {match[0]}")
        return WORDS[match[1]]

    return _WORD.sub(fill, text)


def _head_line(path: Path, line: str, field: str) -> tuple[str, str]:
    prefix = f"-- {field}:"
    if not line.startswith(prefix):
        raise QueryFileError(f"{path.name}: it opens with {', '.join(_HEAD)}, a line each, in this order")
    return field, line.removeprefix(prefix).strip()


def _parameter(path: Path, text: str) -> tuple[str, str]:
    match = _PARAMETER.match(text.strip())
    if match is None:
        raise QueryFileError(f"{path.name}: a parameter has a name and a type, not {text!r}")
    return match[1], match[2]


@cache
def _all() -> dict[str, Query]:
    loaded = [parse_query(path, path.read_text(encoding="utf-8")) for path in sql_files("queries")]
    return {query.name: query for query in loaded}
