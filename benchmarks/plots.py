"""Plots as SVG, written by hand: bars with whiskers and marks, and spans on a logarithmic axis.

Knows shapes, colours for light and dark, and how wide a letter is, about. Does not know what is measured. Text is large
enough to be read when a phone shows the whole width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, SHOWN_WIDTH = 440, 560
LEFT, RIGHT = 12, 14
BAR, GAP, HEADING = 11, 3, 17
# A letter of the small size, on the average.
LETTER = 6.4

STYLE = """
text { font: 11px system-ui, sans-serif; fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 3px }
.title { font-size: 14px; font-weight: 600 }
.soft { fill: var(--soft) }
.card { fill: var(--card) }
.grid { stroke: var(--grid); stroke-width: 1 }
.base { stroke: var(--soft); stroke-width: 1.5 }
.whisker { stroke: var(--ink); stroke-width: 1.2; fill: none }
.line { stroke: var(--line); stroke-width: 2.5 }
.reach { stroke: var(--line); stroke-width: 2; stroke-dasharray: 2.5 2 }
svg { --ink: #1f2328; --soft: #59636e; --card: #ffffff; --grid: #e1e5ea; --line: #b3261e;
      --a: #0f766e; --b: #6fb8b0; --c: #6e7781; --d: #b6bdc5; --e: #b45309; --f: #e0a458; --g: #4263eb;
      --h: #0b3b66; --i: #7fa8cf }
@media (prefers-color-scheme: dark) {
svg { --ink: #e6edf3; --soft: #9da7b3; --card: #0d1117; --grid: #2a313a; --line: #ff7b72;
      --a: #2dd4bf; --b: #17877c; --c: #8b949e; --d: #545d68; --e: #f0a13c; --f: #996515; --g: #91a7ff;
      --h: #79b8ff; --i: #2f6299 }
}
"""


@dataclass(frozen=True)
class Bar:
    """``colour`` is a letter of the style. ``low`` and ``high`` are the ends of a whisker, or of a span; ``line`` and
    ``reach`` are marks."""

    name: str
    colour: str
    value: float
    low: float | None = None
    high: float | None = None
    line: float | None = None
    reach: float | None = None
    told: str = ""


Groups = Sequence[tuple[str, Sequence[Bar]]]


class Canvas:
    def __init__(self, title: str, description: str) -> None:
        self._title, self._description = title, description
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, css: str = "", anchor: str = "start") -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>')

    def rule(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>')

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" rx="1.5" '
            f'style="fill: var(--{colour})"/>'
        )

    def dot(self, x: float, y: float, colour: str, hollow: bool = False) -> None:
        fill = "var(--card)" if hollow else f"var(--{colour})"
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" stroke-width="2" '
            f'style="fill: {fill}; stroke: var(--{colour})"/>'
        )

    def legend(self, y: float, entries: Sequence[tuple[str, str]]) -> float:
        """Entries are kinds (a colour, ``line`` or ``reach``) and words; returns where the next may begin."""
        x = float(LEFT)
        for kind, words in entries:
            width = 16 + LETTER * len(words) + 12
            if x > LEFT and x + width > WIDTH:
                x, y = LEFT, y + 16
            if len(kind) == 1:
                self.box(x, y - 9, 11, 10, kind)
            else:
                self.rule(x + 5, y - 10, x + 5, y + 2, kind)
            self.text(x + 16, y, words, "soft")
            x += width
        return y + 10

    def svg(self, height: float) -> str:
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{SHOWN_WIDTH}" '
                f'height="{height * SHOWN_WIDTH / WIDTH:.0f}" role="img" aria-labelledby="title description">',
                f'<title id="title">{escape(self._title)}</title>',
                f'<desc id="description">{escape(self._description)}</desc>',
                f"<style>{STYLE}</style>",
                f'<rect class="card" width="{WIDTH}" height="{height:.0f}" rx="8"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )


def steps(highest: float) -> list[float]:
    """Where the grid of a linear axis is drawn: 0 and four to eight more, the last not below ``highest``."""
    raw = max(highest, 1e-9) / 5
    unit = 10 ** math.floor(math.log10(raw))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw)
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten around both."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def _names(groups: Groups) -> list[tuple[str, str]]:
    return list(dict.fromkeys((bar.colour, bar.name) for _, bars in groups for bar in bars))


def _height(groups: Groups, top: float) -> float:
    return top + sum(HEADING + 6 + len(bars) * (BAR + GAP) for _, bars in groups)


def bars(title: str, description: str, groups: Groups, *, base: float | None = None) -> str:
    """Each group has a heading of its own above its bars; ``base``: a value that all are compared with."""
    canvas = Canvas(title, description)
    canvas.text(LEFT, 22, title, "title")
    marks = [bar for _, some in groups for bar in some]
    entries = _names(groups)
    entries += [("line", "promised")] if any(bar.line for bar in marks) else []
    entries += [("reach", "hoped for")] if any(bar.reach for bar in marks) else []
    top = canvas.legend(41, entries) + 18
    grid = steps(max(max(bar.value, bar.high or 0, bar.line or 0, bar.reach or 0) for bar in marks))
    room = WIDTH - LEFT - RIGHT - 34
    scale = room / grid[-1]
    bottom = _height(groups, top)
    for value in grid:
        x = LEFT + value * scale
        canvas.rule(x, top - 8, x, bottom, "grid")
        canvas.text(x, top - 12, f"{value:g}", "soft", "middle" if value else "start")
    if base is not None:
        canvas.rule(LEFT + base * scale, top - 8, LEFT + base * scale, bottom, "base")
    y = top
    for heading, some in groups:
        canvas.text(LEFT, y + 11, heading)
        y += HEADING
        for bar in some:
            _bar(canvas, bar, y, scale)
            y += BAR + GAP
        y += 6
    return canvas.svg(bottom + 8)


def _bar(canvas: Canvas, bar: Bar, y: float, scale: float) -> None:
    middle, end = y + BAR / 2, LEFT + bar.value * scale
    canvas.box(LEFT, y, bar.value * scale, BAR, bar.colour)
    if bar.low is not None and bar.high is not None:
        low, high = LEFT + bar.low * scale, LEFT + bar.high * scale
        canvas.rule(low, middle, high, middle, "whisker")
        for x in (low, high):
            canvas.rule(x, middle - 3, x, middle + 3, "whisker")
        end = max(end, high)
    for kind, value in (("line", bar.line), ("reach", bar.reach)):
        if value is not None:
            x = LEFT + value * scale
            canvas.rule(x, y - 1.5, x, y + BAR + 1.5, kind)
            # What is told must not be written over a mark that is near.
            if -2 <= x - end <= 8 + LETTER * len(bar.told):
                end = x
    canvas.text(end + 5, y + BAR - 1.5, bar.told)


def spans(title: str, description: str, groups: Groups, *, unit: str, ends: tuple[str, str]) -> str:
    """From ``low`` to ``high`` of each bar, on a logarithmic axis."""
    canvas = Canvas(title, description)
    canvas.text(LEFT, 22, title, "title")
    top = canvas.legend(41, _names(groups)) + 34
    canvas.dot(LEFT + 5, top - 33, "c")
    canvas.text(LEFT + 16, top - 29, ends[0], "soft")
    canvas.dot(LEFT + 116, top - 33, "c", hollow=True)
    canvas.text(LEFT + 127, top - 29, ends[1], "soft")
    values = [value for _, some in groups for bar in some for value in (bar.low, bar.high) if value]
    grid = decades(min(values), max(values))
    left, room = LEFT + 4, WIDTH - LEFT - RIGHT - 60
    scale = room / math.log10(grid[-1] / grid[0])

    def place(value: float) -> float:
        return left + math.log10(value / grid[0]) * scale

    bottom = _height(groups, top)
    for value in grid:
        canvas.rule(place(value), top - 4, place(value), bottom, "grid")
        canvas.text(place(value), top - 9, f"{value:g}", "soft", "middle")
    canvas.text(WIDTH - RIGHT, top - 9, unit, "soft", "end")
    y = top
    for heading, some in groups:
        canvas.text(LEFT, y + 11, heading)
        y += HEADING
        for bar in some:
            if bar.low and bar.high:
                middle = y + BAR / 2
                canvas.box(place(bar.low), middle - 2, place(bar.high) - place(bar.low), 4, bar.colour)
                canvas.dot(place(bar.low), middle, bar.colour)
                canvas.dot(place(bar.high), middle, bar.colour, hollow=True)
                canvas.text(place(bar.high) + 8, y + BAR - 1.5, bar.told)
            y += BAR + GAP
        y += 6
    return canvas.svg(bottom + 8)
