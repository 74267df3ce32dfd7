"""Make the documents of outcomes from the types: every error, every reason of a dead letter.

Owns: `docs/errors.md`, and the tables between markers in the other pages of `docs/`.
Called by: `python -m pipeline.contract` writes the files; a test finds them out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.outcomes import DeadLetterReason, RefusalCode

DOCS = Path(__file__).resolve().parent.parent / "docs"
ERRORS_FILE, EVENTS_FILE = "errors.md", "events.md"

_ERRORS = """\
# Errors

Made by `python -m pipeline.contract` from `pipeline/outcomes.py`: change the words there.

## What a caller is told

Every failure of the HTTP API and every refusal of a gateway answers with one JSON envelope:

    {{"error": {{"message", "type", "code", and where it applies "param", "request_id" and more}}}}

Branch on `code`: a code keeps its name and its HTTP status. `message` is for people and may be worded otherwise;
`param` names the field that is wrong. Budgets add `limit_inr`, `spent_inr` and `resets_at`. A 429 of a gateway and a
503 carry `Retry-After` in seconds.

{codes}

## What could not be charged

An event or a command that cannot be carried out goes to `metering.dead-letters` with the bytes as they came. The header
`reason` is one of these, `detail` says what is wrong, `topic`, `partition` and `offset` where it came from. A dead
letter's event was not charged. Of a command, `malformed` says that it is none, and `invalid` that it came to another org's
partition: its sender is at fault, and who waits for the
answer gets `unavailable`.

{reasons}
"""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def code_table() -> str:
    """Return the table of every refusal code, by HTTP status."""
    codes = sorted(RefusalCode, key=lambda code: code.status)
    rows = [(f"`{c}`", str(c.status), f"`{c.type}`", c.when, c.remedy) for c in codes]
    return table(("code", "HTTP", "type", "when", "what to do"), rows)


def reason_table() -> str:
    """Return the table of every reason of a dead letter."""
    rows = [(f"`{reason}`", reason.when, reason.remedy) for reason in DeadLetterReason]
    return table(("reason", "when", "what to do"), rows)


def with_table(page: str, name: str, table: str) -> str:
    """Return a page with a table between its markers of a name. Raises ValueError where it has none."""
    start, end = f"<!-- made by python -m pipeline.contract: {name} -->", f"<!-- end of {name} -->"
    made, count = re.subn(
        rf"{re.escape(start)}\n.*?{re.escape(end)}",
        lambda _: f"{start}\n{table}\n{end}",
        page,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"the page has {count} places for {name}, not one")
    return made


def documents(docs: Path = DOCS) -> dict[str, str]:
    """Return the text of each page of `docs/` that holds a made table, by name."""
    events = (docs / EVENTS_FILE).read_text(encoding="utf-8")
    return {
        ERRORS_FILE: _ERRORS.format(codes=code_table(), reasons=reason_table()),
        EVENTS_FILE: with_table(events, "dead letters", reason_table()),
    }


def write(docs: Path = DOCS) -> None:
    """Bring the pages up to date."""
    for name, text in documents(docs).items():
        (docs / name).write_text(text, encoding="utf-8")
