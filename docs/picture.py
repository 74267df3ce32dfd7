"""Draw docs/architecture.svg: who writes which topic, what one unit of work makes of it, and who reads on.

Owns: the description below and its layout. The names of topics are those of `pipeline/topics.py`.
Called by: a person, after a change here: `python docs/picture.py`; `tests/tidy` checks that the SVG is up to date and
that every topic is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from pipeline import topics

PICTURE = Path(__file__).with_name("architecture.svg")


@dataclass(frozen=True)
class Party:
    """A process or a group of them: what it is called, what it does in a few words, and its topics."""

    name: str
    does: tuple[str, ...]
    topics: tuple[str, ...]


WRITERS = (
    Party("Gateway nodes", ("spool, then publish", "one event a request"), (topics.REQUESTS,)),
    Party(
        "API, command line",
        ("send commands and", "wait for the reply;", "announce rates, codes"),
        (topics.BILLING, topics.CATALOG, topics.PROMOS, topics.GATEWAYS),
    ),
    Party(
        "metering redrive",
        ("dead letters, once more;", "the worker: misplaced", "records"),
        (topics.MOVED, topics.REDRIVE_STATE),
    ),
)
WORKER = Party(
    "Worker",
    (
        "Faust agents: debit, billing",
        "",
        "one unit of work:",
        "1  what was not seen yet",
        "2  decide: pure rooms",
        "    posting, accounts, catalog",
        "3  all outputs, state and",
        "    offsets: one transaction",
        "",
        "one writer per org;",
        "the stale owner is fenced",
    ),
    (),
)
READERS = (
    Party("Gateway nodes", ("admit or refuse", "from memory"), (topics.VERDICTS, topics.KEYS)),
    Party(
        "API",
        ("names of keys, replies,", "orders not yet paid,", "sessions that are over,", "access tokens"),
        (topics.REPLIES, topics.ORDERS, topics.SESSIONS, topics.TOKENS),
    ),
    Party(
        "Sink", ("each row once, into", "ClickHouse and its roll-ups"), (topics.JOURNAL, topics.SINK_STATE)
    ),
    Party(
        "Notary",
        ("hashes each org's rows,", "signs each closed day"),
        (topics.CHECKPOINTS_STATE, topics.NOTARY_STATE),
    ),
    Party("Mailer", ("sent at most once,", "by SMTP"), (topics.MAIL, topics.MAIL_STATE)),
    Party("Webhooks", ("sent at least once,", "signed"), (topics.WEBHOOKS, topics.WEBHOOKS_STATE)),
    Party(
        "Operators", ("alarm, mend, redrive;", "metering verify"), (topics.DEAD_LETTERS, topics.VERIFY_STATE)
    ),
    Party("The next owner", ("restores, then goes on",), (topics.STATE, topics.BESIDE_JOURNAL)),
)
OWN = {
    *(topics.REDRIVE_STATE, topics.SINK_STATE, topics.MAIL_STATE, topics.VERIFY_STATE, topics.WEBHOOKS_STATE),
    *(topics.SESSIONS, topics.TOKENS, topics.CHECKPOINTS_STATE, topics.NOTARY_STATE),
}
"""Topics in which processes other than the worker keep what they know: they write and read them."""
BESIDE = ((topics.KEYS, "API"), (topics.JOURNAL, "Notary"))
"""Topics that somebody reads beside the party they stand with."""

ROW, GAP, PILL_H = 40, 22, 28
LEFT, PILLS_IN, MIDDLE, PILLS_OUT, RIGHT = 24, 244, 468, 728, 952
BOX_W, PILL_W, MIDDLE_W = 188, 192, 216
TOP, WIDTH = 66, 1164

LABEL = (
    "Gateways, API and command line write topics; one worker per org decides and writes all outputs in one "
    "transaction; gateways, API, sink and mailer read them."
)
STYLE = """
.page{fill:#fbfcfb;stroke:#d5ddd9}.box{fill:#fff;stroke:#8fa39b}.core{fill:#e7f3ee;stroke:#0b5d4e}
.pill{fill:#fdf3df;stroke:#d9a441}.own{stroke-dasharray:4 3}.line{stroke:#66776f;fill:none;stroke-width:1.4}
.tip{fill:#66776f}text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#14201c}
.name{font-size:15px;font-weight:650}.does{font-size:12.5px;fill:#4b5a54}.topic{font-size:12.5px;font-weight:500}
.head{font-size:12.5px;fill:#66776f;letter-spacing:.04em}
@media (prefers-color-scheme:dark){
.page{fill:#111816;stroke:#2b3833}.box{fill:#1a2420;stroke:#5d7169}.core{fill:#12332b;stroke:#4fb89f}
.pill{fill:#33290f;stroke:#b98a35}.line{stroke:#8fa39b}.tip{fill:#8fa39b}text{fill:#e6eeea}
.does{fill:#b1c0b9}.head{fill:#9fb0a8}}
""".replace("\n", "")


@dataclass(frozen=True)
class Placed:
    """A party with the top and height of its box, and the middle of each of its topics' rows."""

    party: Party
    top: int
    height: int
    rows: dict[str, int]


def placed(parties: Sequence[Party], top: int = TOP) -> list[Placed]:
    """Return the parties of a column, one below the other, each as high as its topics and words need."""
    column = []
    for party in parties:
        height = max(len(party.topics) * ROW, 36 + 17 * len(party.does))
        first = top + (height - len(party.topics) * ROW) // 2 + ROW // 2
        rows = {topic: first + n * ROW for n, topic in enumerate(party.topics)}
        column.append(Placed(party, top, height, rows))
        top += height + GAP
    return column


def _box(x: int, width: int, at: Placed, kind: str = "box") -> Iterator[str]:
    yield f'<rect class="{kind}" x="{x}" y="{at.top}" width="{width}" height="{at.height}" rx="10"/>'
    words = at.party.does
    line = at.top + (at.height - 17 * len(words) - 18) // 2 + 15
    yield f'<text class="name" x="{x + 14}" y="{line}">{escape(at.party.name)}</text>'
    for n, text in enumerate(words, 1):
        yield (
            f'<text class="does" x="{x + 14}" y="{line + 4 + 17 * n}" xml:space="preserve">{escape(text)}</text>'
        )


def _pill(x: int, middle: int, topic: str) -> Iterator[str]:
    kind = "pill own" if topic in OWN else "pill"
    yield (
        f'<rect class="{kind}" x="{x}" y="{middle - PILL_H // 2}" width="{PILL_W}" height="{PILL_H}" '
        f'rx="{PILL_H // 2}"/>'
        f'<text class="topic" x="{x + PILL_W // 2}" y="{middle + 4}" text-anchor="middle">{topic}</text>'
    )


def _arrow(*points: tuple[int, int]) -> str:
    """Return a line through points that ends in a tip; its last stretch goes to the right or to the left."""
    (before, _), (x, y) = points[-2:]
    back = -8 if before < x else 8
    line = " ".join(f"{px},{py}" for px, py in (*points[:-1], (x + back, y)))
    return f'<polyline class="line" points="{line}"/><path class="tip" d="M{x},{y}l{back},-4.5v9z"/>'


def _writing(column: Sequence[Placed]) -> Iterator[str]:
    for at in column:
        yield from _box(LEFT, BOX_W, at)
        for topic, middle in at.rows.items():
            yield from _pill(PILLS_IN, middle, topic)
            yield _arrow((LEFT + BOX_W, middle), (PILLS_IN, middle))
            if topic not in OWN:
                yield _arrow((PILLS_IN + PILL_W, middle), (MIDDLE, middle))


def _reading(column: Sequence[Placed]) -> Iterator[str]:
    for at in column:
        yield from _box(RIGHT, BOX_W, at)
        for topic, middle in at.rows.items():
            yield from _pill(PILLS_OUT, middle, topic)
            if topic in OWN:
                yield _arrow((RIGHT, middle), (PILLS_OUT + PILL_W, middle))
            else:
                yield _arrow((MIDDLE + MIDDLE_W, middle), (PILLS_OUT, middle))
                yield _arrow((PILLS_OUT + PILL_W, middle), (RIGHT, middle))
    for topic, name in BESIDE:
        [start] = [at.rows[topic] for at in column if topic in at.rows]
        [end] = [at.top + 7 for at in column if at.party.name == name]
        bend = PILLS_OUT + PILL_W + 14
        yield _arrow((PILLS_OUT + PILL_W, start), (bend, start), (bend, end), (RIGHT, end))


def drawn() -> str:
    """Return the picture as SVG; it follows the colours that the reader's system prefers."""
    writers, readers = placed(WRITERS), placed(READERS)
    bottom = max(at.top + at.height for at in (*writers, *readers))
    middle = Placed(WORKER, TOP, bottom - TOP, {})
    spare = (bottom - writers[-1].top - writers[-1].height) // (len(writers) - 1)
    spread = [placed([at.party], at.top + n * spare)[0] for n, at in enumerate(writers)]
    heads = (
        (LEFT, "WRITE"),
        (PILLS_IN, "TOPICS"),
        (MIDDLE, "DECIDE"),
        (PILLS_OUT, "ONE TRANSACTION"),
        (RIGHT, "READ"),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" role="img"',
        f' aria-label="{LABEL}">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" x="1" y="1" width="{WIDTH - 2}" height="{bottom + 28}" rx="14"/>',
        *(f'<text class="head" x="{x}" y="40">{text}</text>' for x, text in heads),
        *_writing(spread),
        *_box(MIDDLE, MIDDLE_W, middle, "core"),
        *_reading(readers),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
