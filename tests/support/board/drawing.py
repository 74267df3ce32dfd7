"""Draw the panels of a row with their data as an SVG, side by side as Grafana places them.

Owns: sizes, colours, axes and legends. It draws what the queries returned and judges nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.support.board.panels import Panel

COLUMN, UNIT_HEIGHT, GAP = 60, 32, 8
WIDTH = 24 * COLUMN
HEADING = 30
_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP = 62, 12, 34
_LEGEND_LINE, _LEGEND_LINES = 15, 3
_AXIS = 18
_LETTER = 6.1
"""How wide a letter of the legend is, more or less."""
_IST_S = 19_800
_LINES = 4
_TIMES = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))
COLOURS = (
    *("#3f9e4d", "#d9a200", "#3b8fd9", "#e0752d", "#d64545", "#2b7dbd"),
    *("#a352cc", "#7a6fb5", "#1f9e9e", "#b36b00", "#c2578f", "#6b8e23"),
)


@dataclass(frozen=True)
class Scheme:
    """The colours of a picture."""

    page: str
    panel: str
    border: str
    text: str
    faint: str
    grid: str


SCHEMES = {
    "light": Scheme("#f4f5f5", "#ffffff", "#d8d9da", "#24292e", "#6e7277", "#e9eaeb"),
    "dark": Scheme("#111217", "#181b1f", "#2c3235", "#d8d9da", "#8e9297", "#25292e"),
}


@dataclass(frozen=True)
class Line:
    """One line of a panel: what it is called, and its values by time."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Shown:
    """A panel with its lines."""

    panel: Panel
    lines: Sequence[Line]


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float


def drawn(title: str, row: Sequence[Shown], start_s: float, end_s: float, scheme: Scheme) -> str:
    """Return a row of the board as SVG, over a time."""
    top = min(each.panel.place.y for each in row)
    bottom = max(each.panel.place.y + each.panel.place.height for each in row)
    height = HEADING + (bottom - top) * UNIT_HEIGHT + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="DejaVu Sans, sans-serif" font-size="11">',
        f'<rect width="100%" height="100%" fill="{scheme.page}"/>',
        _text(GAP, 20, title, scheme.text, size=15),
    ]
    for shown in row:
        place = shown.panel.place
        box = _Box(
            place.x * COLUMN + GAP / 2,
            HEADING + (place.y - top) * UNIT_HEIGHT + GAP / 2,
            place.width * COLUMN - GAP,
            place.height * UNIT_HEIGHT - GAP,
        )
        parts += _panel(shown, box, start_s, end_s, scheme)
    return "\n".join([*parts, "</svg>"])


def _panel(shown: Shown, box: _Box, start_s: float, end_s: float, scheme: Scheme) -> Iterator[str]:
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="3" fill="{scheme.panel}"'
        f' stroke="{scheme.border}"/>'
    )
    yield _text(box.x + 10, box.y + 20, shown.panel.title, scheme.text, size=13)
    legend = list(_legend(shown, box.width - 20))
    plot = _Box(
        box.x + _MARGIN_LEFT,
        box.y + _MARGIN_TOP,
        box.width - _MARGIN_LEFT - _MARGIN_RIGHT,
        box.height - _MARGIN_TOP - _AXIS - 8 - _LEGEND_LINE * len(legend),
    )
    values = [value for line in shown.lines for _, value in line.points]
    if not values:
        yield _text(box.x + box.width / 2 - 24, box.y + box.height / 2, "No data", scheme.faint, size=13)
        return
    step = _round_step(max(values) / _LINES)
    most = step * _LINES
    for number in range(_LINES + 1):
        y = plot.y + plot.height * (1 - number / _LINES)
        yield f'<line x1="{plot.x}" x2="{plot.x + plot.width}" y1="{y}" y2="{y}" stroke="{scheme.grid}"/>'
        yield _text(
            plot.x - 6, y + 4, value_text(step * number, shown.panel.unit), scheme.faint, anchor="end"
        )
    for limit in shown.panel.thresholds:
        # As on the board: above what is shown, it is not in sight.
        if limit <= most:
            y = plot.y + plot.height * (1 - limit / most)
            yield (
                f'<line x1="{plot.x}" x2="{plot.x + plot.width}" y1="{y}" y2="{y}" stroke="#e02f44" stroke-dasharray="6 4"/>'
            )
    yield from _times(plot, start_s, end_s, scheme)
    for number, line in enumerate(shown.lines):
        yield _path(line, plot, (start_s, end_s), most, COLOURS[number % len(COLOURS)])
    for number, pieces in enumerate(legend):
        y = plot.y + plot.height + _AXIS + 12 + number * _LEGEND_LINE
        for x, words, colour in pieces:
            if colour:
                yield f'<rect x="{box.x + 10 + x}" y="{y - 5}" width="12" height="3" fill="{colour}"/>'
            yield _text(box.x + 26 + x, y, words, scheme.text)


def _times(plot: _Box, start_s: float, end_s: float, scheme: Scheme) -> Iterator[str]:
    for number in range(4):
        at_s = start_s + (end_s - start_s) * number / 3
        words = time.strftime("%H:%M:%S", time.gmtime(at_s + _IST_S))
        anchor = {0: "start", 3: "end"}.get(number, "middle")
        yield _text(
            plot.x + plot.width * number / 3, plot.y + plot.height + 15, words, scheme.faint, anchor=anchor
        )


def _path(line: Line, plot: _Box, times: tuple[float, float], most: float, colour: str) -> str:
    start_s, end_s = times
    gap_s = _gap_s(line)
    moves = []
    before_s: float | None = None
    for at_s, value in line.points:
        x = plot.x + plot.width * (at_s - start_s) / (end_s - start_s)
        y = plot.y + plot.height * (1 - value / most)
        joined = before_s is not None and at_s - before_s <= gap_s
        moves.append(f"{'L' if joined else 'M'}{x:.1f} {y:.1f}")
        before_s = at_s
    # A point between two gaps is a dot.
    return (
        f'<path d="{" ".join(moves)}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linecap="round"'
        ' stroke-linejoin="round"/>'
    )


def _gap_s(line: Line) -> float:
    """Return the longest time between points that are joined: one and a half steps."""
    steps = [after[0] - before[0] for before, after in zip(line.points, line.points[1:], strict=False)]
    return 1.5 * min(steps, default=0.0)


def _legend(shown: Shown, width: float) -> Iterator[list[tuple[float, str, str]]]:
    """Yield the lines of the legend: where each name is, its words and its colour; the last value beside each name."""
    pieces: list[tuple[float, str, str]] = []
    lines, x = 1, 0.0
    for number, line in enumerate(shown.lines):
        last = value_text(line.points[-1][1], shown.panel.unit) if line.points else "no data"
        words = f"{line.name}  {last}"
        needed = 16 + _LETTER * len(words) + 14
        left = len(shown.lines) - number
        room = width - (_LETTER * 14 if lines == _LEGEND_LINES and left > 1 else 0)
        if pieces and x + needed > room:
            if lines == _LEGEND_LINES:
                pieces.append((x - 14, f"and {left} more", ""))
                break
            yield pieces
            pieces, x, lines = [], 0.0, lines + 1
        pieces.append((x, words, COLOURS[number % len(COLOURS)]))
        x += needed
    if pieces:
        yield pieces


def _round_step(step: float) -> float:
    """Return the next 1, 2, 2.5 or 5 times a power of ten; 0.25 where everything is 0."""
    if step <= 0:
        return 0.25
    power = 10.0 ** len(str(int(step))) / 10 if step >= 1 else 1.0
    while power > step:
        power /= 10
    return next(power * times for times in (1, 2, 2.5, 5, 10, 20) if power * times >= step * (1 - 1e-9))


def value_text(value: float, unit: str) -> str:
    """Return a value as Grafana shows it in a unit, three digits or so."""
    match unit:
        case "s":
            factor, name = next((each for each in _TIMES if value >= each[0]), (1.0, "s"))
            return f"{_digits(value / factor)} {name}"
        case "bytes":
            return _scaled(value, ("B", "KiB", "MiB", "GiB"), 1024)
        case "percentunit":
            return f"{_digits(value * 100)}%"
        case "currencyINR":
            return f"\N{INDIAN RUPEE SIGN}{_digits(value)}"
        case _:
            return _scaled(value, ("", "K", "Mil", "Bil"), 1000)


def _scaled(value: float, names: Sequence[str], times: int) -> str:
    for name in names[:-1]:
        if abs(value) < times:
            return f"{_digits(value)} {name}".strip()
        value /= times
    return f"{_digits(value)} {names[-1]}"


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _text(x: float, y: float, words: str, colour: str, *, size: int = 11, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'
