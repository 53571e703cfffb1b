"""The picture of `bench/FAIRNESS.md`, as an SVG: for each policy, how long each class waited, how equal service was."""

from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass
from html import escape
from math import log10

LEFT, TOP, ROW, PANEL, GAP, FOOT = 180, 76, 34, 180, 44, 50
"""Pixels: the names' column, the titles, a policy's row, a panel's width, between two panels, the axes."""
BAR = PANEL - 36
"""Of the longest bar; its figure stands beside it."""

_STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1b2430 }
    .small { font-size: 11px; fill: #55606e }
    .title { font-weight: 600 }
    .paper { fill: #ffffff }
    .grid { stroke: #d9dfe6 }
    .range { stroke: #27467f; stroke-width: 4; stroke-linecap: round; opacity: .45 }
    .mark { fill: #27467f }
    .bar { fill: #1d6b3a; opacity: .8 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6ebf1 } .small { fill: #a7b1bd } .paper { fill: #12171d } .grid { stroke: #36404b }
      .range { stroke: #8fb0f0 } .mark { fill: #b5ccf7 } .bar { fill: #5fc389 }
    }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One policy."""

    name: str
    waits_s: Many[tuple[float, float, float]]
    """p50, p95 and p99 of each class, in the order of the classes."""
    evenness: float
    """Jain's index, 0 to 1."""


def picture(classes: Many[str], lines: Many[Line], *, title: str, description: str, evenness: str) -> str:
    """`evenness` is the last panel's title."""
    return "\n".join(_parts(classes, lines, title, description, evenness)) + "\n"


def _parts(classes: Many[str], lines: Many[Line], title: str, description: str, evenness: str) -> Iterator[str]:
    panels = len(classes) + 1
    width, bottom = LEFT + panels * (PANEL + GAP), TOP + len(lines) * ROW
    height = bottom + FOOT
    scale = _LogScale.around([wait for line in lines for triple in line.waits_s for wait in triple])
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="title description">'
    )
    yield f'  <title id="title">{escape(title)}</title>\n  <desc id="description">{escape(description)}</desc>'
    yield f'  <style>{_STYLE}  </style>\n  <rect class="paper" width="{width}" height="{height}" rx="12"/>'
    yield f'  <text class="title" x="16" y="28">{escape(title)}</text>'
    for row, line in enumerate(lines):
        yield f'  <text x="16" y="{_middle(row) + 4}">{escape(line.name)}</text>'
    for place, name in enumerate(classes):
        yield from _waits(_left(place), name, [line.waits_s[place] for line in lines], scale, bottom)
    yield from _bars(_left(len(classes)), evenness, [line.evenness for line in lines], bottom)
    yield "</svg>"


def _waits(
    left: int, name: str, waits: Many[tuple[float, float, float]], scale: "_LogScale", bottom: int
) -> Iterator[str]:
    """A range from p50 (disc) over p95 (tick) to p99 (end)."""
    yield f'  <text class="title" x="{left}" y="58">{escape(name)}</text>'
    for power in range(scale.low, scale.high + 1):
        x = left + scale.place(10.0**power)
        yield f'  <path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>'
        yield f'  <text class="small" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_number(10.0**power)}</text>'
    yield _axis(left + PANEL // 2, bottom, "time to first token, seconds")
    for row, triple in enumerate(waits):
        y = _middle(row)
        p50, p95, p99 = (left + scale.place(wait) for wait in triple)
        said = f"p50 {triple[0]:.1f} s, p95 {triple[1]:.1f} s, p99 {triple[2]:.1f} s"
        yield f'  <g><title>{said}</title><path class="range" d="M{p50:.1f} {y}H{p99:.1f}"/>'
        yield f'    <circle class="mark" cx="{p50:.1f}" cy="{y}" r="5"/>'
        yield f'    <rect class="mark" x="{p95 - 1.5:.1f}" y="{y - 7}" width="3" height="14"/></g>'


def _bars(left: int, name: str, values: Many[float], bottom: int) -> Iterator[str]:
    yield f'  <text class="title" x="{left}" y="58">{escape(name)}</text>'
    for value in (0.0, 0.5, 1.0):
        x = left + value * BAR
        yield f'  <path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>'
        yield f'  <text class="small" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
    yield _axis(left + BAR // 2, bottom, "Jain index, 1 is equal")
    for row, value in enumerate(values):
        y = _middle(row)
        yield f'  <rect class="bar" x="{left}" y="{y - 7}" width="{value * BAR:.1f}" height="14" rx="2"/>'
        yield f'  <text class="small" x="{left + value * BAR + 6:.1f}" y="{y + 4}">{value:.2f}</text>'


def _axis(middle: int, bottom: int, name: str) -> str:
    return f'  <text class="small" x="{middle}" y="{bottom + 34}" text-anchor="middle">{name}</text>'


@dataclass(frozen=True, slots=True)
class _LogScale:
    """Powers of ten from `10 ** low` to `10 ** high`, over a panel's width."""

    low: int
    high: int

    @classmethod
    def around(cls, values: Many[float]) -> "_LogScale":
        low = int(log10(max(min(values), 0.001)) // 1)
        return cls(low, max(low + 1, -int(-log10(max(values)) // 1)))

    def place(self, value: float) -> float:
        share = (log10(max(value, 10.0**self.low)) - self.low) / (self.high - self.low)
        return share * PANEL


def _left(place: int) -> int:
    return LEFT + place * (PANEL + GAP)


def _middle(row: int) -> int:
    return TOP + row * ROW + ROW // 2


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
