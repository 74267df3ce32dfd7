"""The runbooks as somebody reads them who was paged: each alert's section, and the commands that it gives.

Owns: what counts as a command in docs/runbooks.md. Called by: tests/runbooks, tests/deploy/test_runbooks.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.deploy import ROOT

FILE = ROOT / "docs" / "runbooks.md"
PROGRAMS = ("docker", "curl", "kubectl", "status", "metering")
"""Whose words are commands, where they stand by themselves in code; Kafka's scripts are too."""
STATEMENTS = ("SELECT", "ALTER", "SYSTEM")
"""What statements for ClickHouse begin with."""
_PART = re.compile(r"\*\*(Look|Do|Over)\*\*(.*?)(?=\n- \*\*|\n\n|\Z)", re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Command:
    """A command of a runbook: under which alert and in which part of its section (Look, Do or Over) it stands."""

    alert: str
    part: str
    text: str


def commands() -> tuple[Command, ...]:
    """Return every command of the runbooks, in their order."""
    _, *sections = re.split(r"^### ", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return tuple(
        Command(section.split("\n", 1)[0], part, text)
        for section in sections
        for part, body in _PART.findall(section)
        for text in _CODE.findall(body)
        if is_command(text)
    )


def is_command(text: str) -> bool:
    """Return whether code in a runbook is something to run."""
    first, _, more = text.partition(" ")
    return bool(more) and (
        first in (*PROGRAMS, *STATEMENTS) or re.fullmatch(r"kafka-[a-z-]+\.sh", first) is not None
    )
