"""Compare the books with the truth, each kind of book by a check with a name.

Owns: the checks. A check says what is wrong in a line, or nothing. Called by: `runs.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from pipeline.accounts import verdicts
from pipeline.accounts.commands import Barrier, ByPayment, View, decode_reply
from pipeline.accounts.keys import decode_key
from pipeline.events import Rejected, decode_element
from pipeline.journal import RequestRow
from pipeline.mail.record import decode as decode_mail
from pipeline.partitioning import partition_of
from pipeline.posting.redriving import start_of
from pipeline.topics import (
    BILLING,
    DEAD_LETTERS,
    INPUTS,
    KEYS,
    MAIL,
    MOVED,
    REDRIVE_STATE,
    REPLIES,
    VERDICTS,
)
from pipeline.topics import REQUESTS as REQUESTS_TOPIC
from tests.simulation.books import Books, Usage
from tests.simulation.clock import month_and_day
from tests.simulation.stored import Difference, rolled_up, stored
from tests.simulation.truth import KeyTruth, OrgTruth
from tests.simulation.world import World

EXACT_NANO = 1_000 * 10**9
CHECKS = (
    "ended unexpectedly",
    "not drained",
    "charged twice",
    "charged though it must not be",
    "not charged",
    "charged wrongly",
    "ids",
    "conservation",
    "dead letters",
    "balances",
    "budgets",
    "ledger",
    "replies",
    "keys",
    "verdicts",
    "offsets",
    "mails",
    "stored rows",
    "roll-ups",
)


def differences(world: World) -> list[Difference]:
    """Return everything in which the books and the truth differ."""
    found = [("ended unexpectedly", text) for text in world.deaths]
    if not world.drained():
        found.append(("not drained", "the workers or the sink never came to an end"))
    books = Books(world)
    for check in (
        _charged,
        _ids,
        _conserved,
        _dead_letters,
        _accounts,
        _ledger,
        _replies,
        _keys,
        _verdicts,
        _offsets,
        _mails,
        stored,
        rolled_up,
    ):
        found += check(books)
    return found


def _charged(books: Books) -> Iterator[Difference]:
    for identity, times in books.charged.items():
        if times > 1:
            yield "charged twice", f"{identity} {times} times"
        if identity not in books.truth.fates:
            yield "charged though it must not be", f"{identity} was never accepted"
    for identity, fate in books.truth.fates.items():
        must = books.truth.must_be_charged(fate, books.world.redriven_ms)
        if must and identity not in books.charged:
            yield "not charged", f"{identity} on {fate.sent.partition}"
        if not must and identity in books.charged:
            yield "charged though it must not be", f"{identity}"
    yield from _charged_as_sent(books)


def _charged_as_sent(books: Books) -> Iterator[Difference]:
    for row in books.requests:
        known = books.truth.fates.get((row.source, row.event_id))
        if known is None:
            continue
        sent = known.sent
        want = (sent.org, sent.at_ms, sent.key, sent.tier, sent.byok, *sent.tokens)
        tokens = (row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.beside_tokens)
        got = (row.org, row.at_ms, row.key_id, row.tier, row.byok, *tokens)
        if want != got or (row.cost_nano, row.rate_from_ms) not in books.prices[known.sent.identity]:
            yield "charged wrongly", f"{row}, not {want}"
        if row.model not in books.truth.model_names(sent):
            yield "charged wrongly", f"{row}, not of {books.truth.model_names(sent)}"


def _ids(books: Books) -> Iterator[Difference]:
    expected = Counter[int]()
    for p, row in books.journal:
        expected[p] += 1
        if row.id != expected[p] * 1024 + p:
            yield "ids", f"partition {p}: {row.id} stands where position {expected[p]} should"
            break
    for p, first, surplus in books.declared:
        if surplus:
            yield "ids", f"partition {p}: the record of {first} declares {surplus} rows too many"
    posted_ms: dict[int, int] = {}
    for p, row in books.journal:
        if row.posted_ms < posted_ms.get(p, 0):
            yield "ids", f"partition {p}: posted at {row.posted_ms}, before the row before it"
        posted_ms[p] = row.posted_ms


def _conserved(books: Books) -> Iterator[Difference]:
    counts = Counter[str]()
    for transaction in books.world.broker.decided:
        counts.update(transaction.note)
    logs = books.world.broker
    moved = sum(len(logs.log(MOVED, p).all_committed()) for p in books.partitions)
    dead = sum(_came_by(h) != BILLING for h in _dead_headers(books))
    accepted, posted = books.truth.accepted, len(books.requests)
    read, read_moved = counts[f"events of {REQUESTS_TOPIC}"], counts[f"events of {MOVED}"]
    if read != accepted:
        yield "conservation", f"{accepted} elements were accepted, but {read} were worked on"
    marks = (entry.key or b"" for entry in logs.log(REDRIVE_STATE, 0).all_committed())
    redriven = sum(start_of(key) is None for key in marks)
    if counts["moved"] + redriven != moved or read_moved != moved:
        told = f"{counts['moved']} were moved and {redriven} redriven"
        yield "conservation", f"{told}, {moved} are there, {read_moved} were read"
    duplicates = counts["duplicates"]
    if accepted + redriven != posted + duplicates + dead:
        came = f"{accepted} accepted and {redriven} redriven"
        yield "conservation", f"{came}, but {posted} posted + {duplicates} duplicates + {dead} dead"


def _dead_headers(books: Books) -> Iterator[dict[str, bytes]]:
    for p in books.partitions:
        for entry in books.world.broker.log(DEAD_LETTERS, p).all_committed():
            yield dict(entry.headers)


def _came_by(headers: dict[str, bytes]) -> str:
    return headers["topic"].decode()


def _dead_letters(books: Books) -> Iterator[Difference]:
    bad = books.truth.bad + Counter(books.truth.bad_commands)
    got_bad = Counter[tuple[bytes, str]]()
    got: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for p in books.partitions:
        for entry in books.world.broker.log(DEAD_LETTERS, p).all_committed():
            reason, value = dict(entry.headers)["reason"].decode(), entry.value or b""
            event = decode_element(value)
            identity = None if isinstance(event, Rejected) else (event.source, event.id)
            if identity in books.truth.fates:
                assert identity is not None
                got[identity][reason] += 1
            else:
                got_bad[value, reason] += 1
    if bad != got_bad:
        yield "dead letters", f"missing {bad - got_bad}, too many {got_bad - bad}"
    for identity, fate in books.truth.fates.items():
        unpriced = got[identity].pop("unpriced", 0)
        if not fate.sent.valid:
            # From the future, redriven when its time had come, and found invalid then.
            again = got[identity]["invalid"] - fate.dead["invalid"]
            got[identity]["invalid"] -= max(0, min(again, fate.dead["from_the_future"]))
        if got[identity] != fate.dead:
            yield "dead letters", f"{identity}: {dict(got[identity])}, not {dict(fate.dead)}"
        if unpriced and None not in books.prices[identity]:
            yield "dead letters", f"{identity} is called unpriced"
        if not unpriced and not fate.dead and identity not in books.charged:
            yield "dead letters", f"{identity} is neither charged nor a dead letter"


def _accounts(books: Books) -> Iterator[Difference]:
    usage = books.usage
    spent = dict.fromkeys(books.orgs, 0) | books.spent
    found: dict[str, int] = {}
    for state in books.states:
        for org in sorted(state.orgs()):
            account = state.account(org)
            if org in found or partition_of(org, books.plan.partitions) != state.partition:
                yield "balances", f"{org} has an account on partition {state.partition}"
            found[org] = account.spending.balance_nano
            for key, used in sorted(account.spending.keys.items()):
                months, days = usage.get((org, key), ({}, {}))
                if used.months != _newest(months, 4) or used.days != _newest(days, 3):
                    yield "budgets", f"{key}: {used.months} {used.days}, not {months} {days}"
    for org, spent_nano in spent.items():
        credited = books.orgs[org].credited_nano if org in books.orgs else 0
        if found.get(org, 0) != credited - spent_nano:
            yield "balances", f"{org}: {found.get(org)}, not {credited} - {spent_nano}"
    for org, balance_nano in found.items():
        # An org of which only dead letters came has an account too, at zero.
        if org not in spent and balance_nano != 0:
            yield "balances", f"{org}: {balance_nano}, but nothing was posted to it"


def _newest(counts: dict[int, int], kept: int) -> dict[int, int]:
    return {key: counts[key] for key in sorted(counts)[-kept:]}


def _ledger(books: Books) -> Iterator[Difference]:
    running: dict[str, int] = {}
    entries: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for _, row in books.journal:
        org = row.org
        if isinstance(row, RequestRow):
            running[org] = running.get(org, 0) - row.cost_nano
            continue
        running[org] = running.get(org, 0) + row.amount_nano
        entries[org].append((row.kind, row.amount_nano))
        if running[org] != row.balance_after_nano:
            yield (
                "ledger",
                f"{org}: the balance after {row.id} is {running[org]}, not {row.balance_after_nano}",
            )
    for org, commands in books.orgs.items():
        if entries.pop(org, []) != commands.entries:
            yield "ledger", f"{org}: the entries are not the commands'"
    if entries:
        yield "ledger", f"entries of {sorted(entries)} without a command"


def _replies(books: Books) -> Iterator[Difference]:
    sent = Counter(command.id for _, command in books.truth.commands)
    asking = {c.id for _, c in books.truth.commands if isinstance(c, View | Barrier | ByPayment)}
    got = Counter[str]()
    answers: defaultdict[str, set[bytes]] = defaultdict(set)
    for p in books.partitions:
        for entry in books.world.broker.log(REPLIES, p).all_committed():
            reply = decode_reply(entry.value or b"")
            got[reply.id] += 1
            if reply.refusal is None and reply.id not in asking:
                answers[reply.id].add(bytes(reply.result))
    if sent != got:
        yield "replies", f"missing {sent - got}, too many {got - sent}"
    for command_id, various in answers.items():
        if len(various) > 1:
            yield "replies", f"{command_id} was answered differently: {sorted(various)}"


def _keys(books: Books) -> Iterator[Difference]:
    newest = {}
    for p in books.partitions:
        for entry in books.world.broker.log(KEYS, p).all_committed():
            key = decode_key(entry.value or b"")
            newest[key.key_id] = KeyTruth(key.tier, key.budget_nano, key.daily_limit, key.revoked)
    want = {key_id: key for org in books.orgs.values() for key_id, key in org.keys.items()}
    for key_id in sorted(want.keys() | newest.keys()):
        if want.get(key_id) != newest.get(key_id):
            yield "keys", f"{key_id}: {newest.get(key_id)}, not {want.get(key_id)}"


def _verdicts(books: Books) -> Iterator[Difference]:
    spent, usage = books.spent, books.usage
    for state in books.states:
        told: dict[str, verdicts.Verdict] = {}
        counted = 0
        for entry in books.world.broker.log(VERDICTS, state.partition).all_committed():
            verdict = verdicts.decode_record(entry.key or b"", entry.value or b"")
            if isinstance(verdict, verdicts.Verdict):
                told[verdict.org] = verdict
            else:
                counted = verdict.requests_offset
        if counted != state.meta.offsets.get(REQUESTS_TOPIC, 0):
            yield "verdicts", f"progress of {state.partition} is told as {counted}"
        this_month, today = month_and_day(state.meta.posted_ms)
        for org in sorted(state.orgs()):
            truth = books.orgs.get(org, OrgTruth())
            balance = truth.credited_nano - spent.get(org, 0)
            wanted = _refused(truth, org, usage, this_month, today)
            verdict = told.get(org, verdicts.Verdict(org, 10**30, ()))
            if not _near(verdict.balance_nano, balance):
                yield "verdicts", f"{org}: told {verdict.balance_nano}, has {balance}"
            got = {(r.key_id, r.code) for r in verdict.refused if r.until_ms > state.meta.posted_ms}
            if got != wanted:
                yield "verdicts", f"{org}: told {sorted(got)}, not {sorted(wanted)}"


def _near(told: int, balance: int) -> bool:
    return told == balance or (balance > EXACT_NANO and told - told // 16 <= balance <= told)


def _refused(truth: OrgTruth, org: str, usage: Usage, this_month: int, today: int) -> set[tuple[str, str]]:
    """Return which keys of an org gateways must refuse, now or from a later day or month on, and why."""
    found: set[tuple[str, str]] = set()
    for key_id, key in truth.keys.items():
        if key.budget_nano == 0:
            found.add((key_id, "budget_exceeded"))
    for (of_org, key_id), (months, days) in usage.items():
        if of_org != org:
            continue
        registered = truth.keys.get(key_id)
        budget = registered.budget_nano if registered else None
        if budget and any(m >= this_month and n >= budget for m, n in months.items()):
            found.add((key_id, "budget_exceeded"))
        limit = registered.daily_limit if registered else None
        if key_id.endswith("_3"):
            limit = min(limit or 200, 200)
        if limit is not None and any(d >= today and n >= limit for d, n in days.items()):
            found.add((key_id, "daily_limit_reached"))
    return found


def _offsets(books: Books) -> Iterator[Difference]:
    """The states' marks are at the ends of the inputs. Markers at the end of one are nobody's to read."""
    for state in books.states:
        for topic in INPUTS:
            entries = books.world.broker.log(topic, state.partition).all_committed()
            end = entries[-1].offset + 1 if entries else 0
            if state.meta.offsets.get(topic, 0) != end:
                yield "offsets", f"{topic}/{state.partition}: {state.meta.offsets.get(topic)}, not {end}"


def _mails(books: Books) -> Iterator[Difference]:
    """No mail is sent twice, and none is lost but those that a process had in hand when it ended."""
    server = books.world.mail_server
    for p in books.partitions:
        for entry in books.world.broker.log(MAIL, p).all_committed():
            mail_id = decode_mail(entry.value).id
            if server.taken[mail_id] > 1:
                yield "mails", f"{mail_id} was sent {server.taken[mail_id]} times"
            ended = server.ended[mail_id]
            if ended > 1 or (not ended and mail_id not in server.lost_in_hand):
                yield "mails", f"{mail_id} has come to an end {ended} times"
