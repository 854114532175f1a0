"""Lines over a common axis, drawn as SVG: small enough to be kept beside the page that shows it.

Knows coordinates and text. Does not know what the figures mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 200, 70, 28, 34
COLOURS = ("#1f5fa8", "#b5482a", "#3b8a3e", "#7a4fa3")
# More points than these are not seen.
POINTS = 300


@dataclass(frozen=True, slots=True)
class Panel:
    """``series`` by name: pairs of x and y."""

    title: str
    series: dict[str, Sequence[tuple[float, float]]]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return points[:: max(1, len(points) // POINTS)]


def drawn(panels: Sequence[Panel], x_title: str) -> str:
    """One panel below the other, each from nothing to its highest value."""
    height = HEIGHT + TOP + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 20}" height="{height * len(panels)}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({LEFT},{number * height + TOP})">')
        parts += _panel(panel, x_title)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, x_title: str) -> list[str]:
    every = [point for points in panel.series.values() for point in points] or [(0.0, 0.0)]
    right, top = max(x for x, _ in every) or 1.0, (max(y for _, y in every) or 1.0) * 1.1
    parts = [f'<text x="0" y="-10" font-weight="bold">{escape(panel.title)}</text>']
    for quarter in range(5):
        x, y = WIDTH * quarter / 4, HEIGHT * quarter / 4
        parts.append(f'<line x1="0" x2="{WIDTH}" y1="{y:g}" y2="{y:g}" stroke="#ddd"/>')
        parts.append(f'<text x="-6" y="{y + 4:g}" text-anchor="end">{top * (1 - quarter / 4):,.0f}</text>')
        parts.append(f'<text x="{x:g}" y="{HEIGHT + 15}" text-anchor="middle">{right * quarter / 4:,.0f}</text>')
    parts.append(f'<text x="{WIDTH / 2:g}" y="{HEIGHT + 30}" text-anchor="middle">{escape(x_title)}</text>')
    for number, (name, points) in enumerate(panel.series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x / right * WIDTH:.1f},{HEIGHT - y / top * HEIGHT:.1f}" for x, y in _thinned(points))
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.3" points="{path}"/>')
        parts.append(f'<text x="{WIDTH - 6}" y="{14 + 15 * number}" text-anchor="end" fill="{colour}">'
                     f"{escape(name)}</text>")  # fmt: skip
    return parts
