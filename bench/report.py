"""A benchmark's figures as a table for people and as JSON, with the facts of the machine.

Owns: what the answer of a benchmark looks like, and which facts belong to it.
Called by: `bench/__main__.py` and every benchmark.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import msgspec

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("aiokafka", "faust-streaming", "msgspec", "chdb", "clickhouse-connect", "uvloop")

Cell = str | int | float | None


@dataclass
class Report:
    """What one benchmark found: a table, and notes that a reader of the table needs."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Add a row. Raises ValueError where it does not fit the columns."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells, {len(self.columns)} columns")
        self.rows.append(list(cells))

    def markdown(self) -> str:
        """Return the table and the notes."""
        lines = [f"### {self.name}: {self.title}", "", _line(self.columns)]
        lines.append(_line(["---", *["---:"] * (len(self.columns) - 1)]))
        lines += [_line([_text(cell) for cell in row]) for row in self.rows]
        return "\n".join([*lines, "", *self.notes, ""])

    def save(self) -> Path:
        """Write table and machine as JSON and return the file."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        content = {
            "name": self.name,
            "title": self.title,
            "machine": machine(),
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "notes": self.notes,
        }
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        return path


def machine() -> dict[str, Cell]:
    """Return what the figures depend on: processor, cores, how busy they were, and versions."""
    facts: dict[str, Cell] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    return facts | {name: version(name) for name in _PACKAGES}


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.2f}" if cell < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell
