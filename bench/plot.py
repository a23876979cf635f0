"""Plots, drawn as SVG by hand: nothing is to be installed for a few dots."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 760, 24, 24, 56, 84, 44
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by the colour-blind too
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def strips(title: str, series: Mapping[str, Sequence[float]], unit: str) -> str:
    """Draw each series as a strip of dots over a logarithmic axis, with median and worst.

    Args:
        title: of the plot.
        series: label → values; what is beyond the axis is drawn at its end.
        unit: of the values.

    Returns:
        An SVG document.
    """
    shown = {label: list(values) for label, values in series.items() if values}
    everything = [value for values in shown.values() for value in values] or [1.0]
    low = max((tick for tick in TICKS if tick <= min(everything)), default=TICKS[0])
    high = min((tick for tick in TICKS if tick >= max(everything)), default=TICKS[-1])
    if low == high:
        high = low * 10
    height = TOP + ROW * len(shown) + BOTTOM

    def x(value: float) -> float:
        value = min(max(value, low), high)
        part = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="26" font-size="16">{escape(title)}</text>',
    ]
    base = TOP + ROW * len(shown)
    for tick in (tick for tick in TICKS if low <= tick <= high):
        parts.append(f'<path d="M{x(tick):.1f} {TOP - 12}V{base}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{x(tick):.1f}" y="{base + 18}" text-anchor="middle" fill="#444">{tick:g} {escape(unit)}</text>'
        )
    for number, (label, values) in enumerate(shown.items()):
        colour, middle = COLOURS[number % len(COLOURS)], TOP + ROW * number + ROW // 2
        median, worst = statistics.median(values), max(values)
        said = f"{label}: median {median:.1f} {unit}, worst {worst:.1f} {unit} ({len(values)} times)"
        parts.append(f'<text x="{LEFT}" y="{middle - 20}" fill="{colour}">{escape(said)}</text>')
        for at, value in enumerate(sorted(values)):
            y = middle + 4 + (at % 3) * 8  # equal values beside each other, not on top
            parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="4" fill="{colour}" fill-opacity="0.55"/>')
        parts.append(f'<path d="M{x(median):.1f} {middle - 6}v36" stroke="{colour}" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
