"""Proofs of statements: an org's rows from the database, its paths from the notary's trees, in one file.

Owns: which rows and which days are in a proof, and that no more than a piece of it is in memory.
Called by: `api/routes/proofs.py`. Next: `notary/proof.py` writes the file, `api/services/checkpoints.py` knows the days.

Nothing here is checked: where the database's rows are not those that were signed, the proof does not hold, and who
checks it learns that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from aiokafka.errors import KafkaError
from msgspec import Struct

from pipeline import ist
from pipeline.api.http.errors import not_found, unavailable
from pipeline.api.http.parameters import BEFORE_MAX
from pipeline.api.services.checkpoints import CheckpointBook
from pipeline.api.services.exports import Exports
from pipeline.api.services.history import ONE_THREAD, History
from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import is_free
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.identity import DeploymentIdentity
from pipeline.journal import LedgerRow, RequestRow, Row
from pipeline.notary import kept
from pipeline.notary.chain import (
    NOTHING,
    OrgState,
    RateKey,
    UnknownRateError,
    after_all,
    hash_of_rates,
    rate_line,
)
from pipeline.notary.kept import DayChunk, path_in
from pipeline.notary.proof import FORMAT, MonthProof, ProofHead, SignedDay
from pipeline.notary.tree import Placed, chunk_of, place_of
from pipeline.statements import text_of

log = logging.getLogger(__name__)

ROWS_A_PIECE = 5_000


class _Charged(Struct, array_like=True, frozen=True):
    """By which rate requests were charged, and what says whether they were free."""

    model: str
    provider: str
    rate_from_ms: int
    byok: bool
    status: int
    tier: str


@dataclass(frozen=True)
class _Span:
    """Which rows are looked for: posted between two instants, both included, and below an id."""

    scope: OrgScope
    from_ms: int
    to_ms: int
    below: int


@dataclass
class Proving:
    """Makes proofs of one server's orgs."""

    history: History
    rates: RateTable
    book: CheckpointBook
    exports: Exports
    deployment: str

    async def pieces(self, scope: OrgScope, month: int) -> AsyncGenerator[bytes]:
        """Yield the file of a month YYYYMM, a piece at a time. Raises ApiError before the first piece where there is no proof."""
        posted_ms, below, _ = await self.history.begun(scope, month)
        start_ms, end_ms = ist.month_start_ms(month), ist.month_end_ms(month)
        span = _Span(scope, start_ms, min(end_ms - 1, posted_ms), below)
        first = ist.day_of(start_ms)
        try:
            days, opening = await self._signed_days(scope, first - 1, ist.day_of(end_ms) - 1)
            opening = opening if opening is not None else await self._folded(scope, start_ms, below)
            rates = await self._rates_of(span)
            proof = MonthProof(self._head(scope, month, opening), rates)
            begun = proof.begin()
            async for rows in self._rows(span):
                if rows:
                    # Thousands of hashes: in a thread, so that other answers have their turn.
                    yield begun + await asyncio.to_thread(proof.rows, rows)
                    begun = b""
        except (KafkaError, KeyError, TimeoutError, UnknownRateError) as error:
            log.exception("the proof %s of %s cannot be made", text_of(month), scope.org)
            raise unavailable() from error
        if begun and not opening.rows:
            raise not_found(
                f"nothing was posted up to the end of {text_of(month)}: there is nothing to prove"
            )
        yield begun + proof.finish(days)

    def _head(self, scope: OrgScope, month: int, opening: OrgState) -> ProofHead:
        checkpoints = self.book.checkpoints
        deployment = checkpoints[0].deployment if checkpoints else str(DeploymentIdentity(self.deployment))
        return ProofHead(
            *(FORMAT, deployment, scope.org, text_of(month), self.book.public_key, self.book.handovers),
            *(opening.rows, opening.balance_nano, opening.hash.hex()),
        )

    async def _signed_days(
        self, scope: OrgScope, before: int, last: int
    ) -> tuple[list[SignedDay], OrgState | None]:
        """Return the signed days of a month, and what was so at the end of the day before it; None where nobody signed that."""
        days = self.book.whole_days(before, last)
        if not days:
            return [], None
        placed = await self._placed(scope.org, days)
        found = []
        for day in days:
            checkpoint, index = self.book.of(day)
            org, chunk = placed[day]
            path = None
            if org is not None:
                path = org.state, await asyncio.to_thread(path_in, checkpoint.secret, org, chunk, index)
            found.append(SignedDay(checkpoint.checkpoint, path))
        # Before the first day that was ever signed nobody had a row.
        of_before = placed[before][0] if days[0] == before else None
        return found, NOTHING if of_before is None else of_before.state

    async def _placed(self, org: str, days: list[int]) -> dict[int, tuple[Placed | None, DayChunk]]:
        """Return the org in the trees of some days, with the chunk that it is in; None for it where it had no rows yet."""
        found: dict[int, tuple[Placed | None, DayChunk]] = {}
        attempt, wanted = 0, days
        while wanted:
            places = {day: place_of(self.book.of(day)[0].secret, org, attempt) for day in wanted}
            offsets = []
            for day, place in places.items():
                index = self.book.of(day)[1]
                offsets.append(index.offsets[chunk_of(place, index.bits)])
            for day, value in zip(wanted, await self.book.read_chunks(offsets), strict=True):
                chunk = kept.decode_chunk(value)
                there = chunk.at(places[day])
                if there is None or there.org == org:
                    found[day] = there, chunk
            wanted = [day for day in wanted if day not in found]
            attempt += 1
        return found

    async def _folded(self, scope: OrgScope, start_ms: int, below: int) -> OrgState:
        """Return what was so before an instant, folded of all rows before it, as nobody has signed it."""
        span = _Span(scope, 0, start_ms - 1, below)
        hash_of_rate, state = hash_of_rates(await self._rates_of(span)), NOTHING
        async for rows in self._rows(span):
            state = await asyncio.to_thread(after_all, state, rows, hash_of_rate)
        return state

    async def _rates_of(self, span: _Span) -> dict[RateKey, bytes]:
        """Return the lines of the rates that requests were charged by. Raises KeyError for one that is not in the catalog."""
        bound = query("proof_rates").of_org(
            span.scope, from_ms=span.from_ms, to_ms=span.to_ms, below=span.below
        )
        found = await self.history.engine_of(span.scope).async_query(
            bound.sql, bound.parameters, row=_Charged
        )
        lines: dict[RateKey, bytes] = {}
        for each in found:
            if not is_free(each):
                rate = self.rates.starting((each.model, each.provider), each.rate_from_ms)
                if rate is None:
                    raise KeyError(f"the rate of {each} is not in the catalog")
                lines[each.model, each.provider, each.rate_from_ms] = rate_line(rate)
        return lines

    async def _rows(self, span: _Span) -> AsyncGenerator[list[Row]]:
        """Yield the rows of both kinds in the order of their ids, some at a time, and at the end maybe none."""
        entries = iter(await self.history.entries(span.scope, span.from_ms, span.to_ms, span.below))
        entry = next(entries, None)
        # `rid` is 2^53 - 1 less the id, and BEFORE_MAX is 2^53: ids below one, then ids above another.
        from_rid, to_rid = BEFORE_MAX - span.below, BEFORE_MAX
        while True:
            bound = query("proof_requests").of_org(
                span.scope,
                from_ms=span.from_ms,
                to_ms=span.to_ms,
                from_rid=from_rid,
                to_rid=to_rid,
                rows=ROWS_A_PIECE,
            )
            async with self.exports.reading:
                requests = await self.history.engine_of(span.scope).async_query(
                    bound.sql, bound.parameters, row=RequestRow, settings=ONE_THREAD
                )
            is_last = len(requests) < ROWS_A_PIECE
            merged: list[Row] = []
            for request in requests:
                while entry is not None and entry.id < request.id:
                    merged.append(entry)
                    entry = next(entries, None)
                merged.append(request)
            if is_last:
                merged += _rest(entry, entries)
            yield merged
            if is_last:
                return
            to_rid = BEFORE_MAX - 2 - requests[-1].id


def _rest(entry: LedgerRow | None, entries: Iterator[LedgerRow]) -> list[Row]:
    return [] if entry is None else [entry, *entries]
