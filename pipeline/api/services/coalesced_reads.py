"""Answer those who ask the same question of their own orgs at the same moment from one read.

Owns: who waits for which read, and that each gets the lines that name their org and no others.
Called by: the routers of usage and activity. Next: the queries of scope `orgs` in `sql/queries/`.

The engine spends more on planning a query than on reading an org's roll-up. So while reads are under way,
those who come gather, and the next read is for all of them. Nothing is kept: a read begins after everyone
it answers has asked, so an answer is never older than its question.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

import msgspec

from pipeline.clickhouse.client import Engine, EngineError
from pipeline.clickhouse.queries import OrgScope, Query
from pipeline.clickhouse.shards import Database

READS_AT_ONCE = 2
ORGS_A_READ = 16
THREADS_ALONE = 2
"""With nobody else asking, one org's year is read by several threads; else each read keeps to its own."""

Lines = list[bytes]
"""What a query says of one org: a JSON object each, without the org, in the query's order."""

_Values = tuple[tuple[str, object], ...]
_Question = tuple[str, _Values]
_Waiting = dict[OrgScope, "asyncio.Future[Lines]"]

_ORG = re.compile(rb'\{"org":("(?:[^"\\]|\\.)*"),')
_decode_org = msgspec.json.Decoder(str).decode


class CoalescedReads:
    """Reads of a database that several may share, of each shard by themselves. Belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        """Start with nobody waiting."""
        self._database = database
        self._reads: dict[Engine, _ReadsOfShard] = {}

    async def ask(self, query: Query, scope: OrgScope, **values: object) -> Lines:
        """Return what a query of scope `orgs` says of one org.

        Raises TypeError for a query or values that do not fit, and what the engine raises.
        """
        engine = self._database.of_org(scope.org)
        if engine not in self._reads:
            self._reads[engine] = _ReadsOfShard(engine)
        return await self._reads[engine].ask(query, scope, **values)


class _ReadsOfShard:
    """Reads of an engine that several may share."""

    def __init__(self, engine: Engine) -> None:
        """Start with nobody waiting."""
        self._engine = engine
        self._waiting: dict[_Question, tuple[Query, _Waiting]] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def ask(self, query: Query, scope: OrgScope, **values: object) -> Lines:
        """Return what `CoalescedReads.ask` returns, of an org of this shard."""
        query.of_orgs([scope], **values)
        question: _Question = (query.name, tuple(sorted(values.items())))
        _, waiting = self._waiting.setdefault(question, (query, {}))
        if scope not in waiting:
            waiting[scope] = asyncio.get_running_loop().create_future()
        future = waiting[scope]
        if len(self._readers) < READS_AT_ONCE:
            reader = asyncio.create_task(self._read_on())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        # An asker that leaves must not take the answer from the others.
        return await asyncio.shield(future)

    async def _read_on(self) -> None:
        """Read until nobody waits."""
        while self._waiting:
            question = next(iter(self._waiting))
            query, waiting = self._waiting.pop(question)
            now = dict(list(waiting.items())[:ORGS_A_READ])
            later = {scope: future for scope, future in waiting.items() if scope not in now}
            if later:
                self._waiting[question] = query, later
            outcome, *_ = await asyncio.gather(
                self._read(query, dict(question[1]), now), return_exceptions=True
            )
            if isinstance(outcome, BaseException):
                _fail(now.values(), outcome)

    async def _read(self, query: Query, values: dict[str, object], waiting: _Waiting) -> None:
        bound = query.of_orgs(list(waiting), **values)
        alone = len(waiting) == 1 and len(self._readers) == 1
        settings = {"max_threads": THREADS_ALONE if alone else 1}
        found = await self._engine.async_bytes(
            bound.sql, bound.parameters, output="JSONEachRow", settings=settings
        )
        lines = lines_by_org(found)
        for scope, future in waiting.items():
            future.set_result(lines.get(scope.org, []))


def lines_by_org(found: bytes) -> dict[str, Lines]:
    """Return the lines of a query of scope `orgs`, without the org that each of them opens with.

    JSON text has no bare line feed and no bare quote, whatever the org is called.
    """
    by_org: dict[str, Lines] = {}
    opening, lines = b"\n", Lines()
    for line in found.splitlines():
        if not line.startswith(opening):
            match = _ORG.match(line)
            if match is None:
                raise EngineError("the engine answered a line that names no org")
            opening, lines = match[0], by_org.setdefault(_decode_org(match[1]), [])
        lines.append(b"{" + line[len(opening) :])
    return by_org


def _fail(futures: Iterable[asyncio.Future[Lines]], error: BaseException) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
            # Those who asked may all have left.
            future.exception()
