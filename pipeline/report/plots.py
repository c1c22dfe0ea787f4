"""Curves over two axes as inline SVG for pages that stand alone, each line told apart by its dashes and its name.

Colours are classes, which the page's style sheet fills in for light and dark.
"""

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence

import markupsafe

from longtail.pipeline.report import charts

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 40
SERIES = ("first", "second", "third")  # CSS classes, in the order of the lines

_escape = markupsafe.escape


@dataclasses.dataclass(frozen=True)
class Axis:
    """One of the two axes.

    Attributes:
      label: what it counts, with its unit.
      low: its lower end.
      high: its upper end.
      logarithmic: steps are factors.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        scale: Callable[[float], float] = math.log10 if self.logarithmic else float
        low, high = scale(self.low), scale(self.high)
        value = scale(max(value, self.low)) if self.logarithmic else value
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Values to write at the axis."""
        if self.logarithmic:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers][:: max(1, len(powers) // 5)] or [self.low, self.high]
        rough = (self.high - self.low) / 4
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(part * size for part in (1, 2, 2.5, 5, 10) if part * size >= rough * 0.99)
        first = math.ceil(self.low / step - 1e-9)
        return [round(number * step, 12) for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve, named below the chart."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Mark:
    """A point to look at, named beside it; without `y` it is a line from bottom to top."""

    name: str
    x: float
    y: float | None = None


def around(label: str, values: Sequence[float], zero: bool = False) -> Axis:
    """An axis as long as some values need it; `zero`: from 0 on."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(0.0, low) if zero else low
    return Axis(label, low, high if high > low else low + 1.0)


def curves(lines: Sequence[Line], x: Axis, y: Axis, title: str, marks: Sequence[Mark] = ()) -> markupsafe.Markup:
    """Up to three lines.

    Args:
      lines: those without points are left out.
      x: horizontal.
      y: vertical.
      title: what the chart shows, for those who do not see it.
      marks: points to look at.
    """
    lines = [line for line in lines if line.points]
    body = [*_axes(x, y), *(_polyline(line, SERIES[place], x, y) for place, line in enumerate(lines))]
    for place, mark in enumerate(marks):
        body.append(_mark(mark, place, x, y))
    names = "".join(_key(kind, line.name) for kind, line in zip(SERIES, lines, strict=False) if len(lines) > 1)
    return markupsafe.Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_escape(title)}">'
        f'<title>{_escape(title)}</title>{"".join(body)}</svg><p class="keys">{names}</p>'
    )


def _key(kind: str, name: str) -> str:
    sample = f'<svg class="sample" viewBox="0 0 30 8" aria-hidden="true"><path class="{kind}" d="M0 4h30"/></svg>'
    return f'<span class="key">{sample}{_escape(name)}</span>'


def _place(axis_x: Axis, axis_y: Axis, x: float, y: float) -> tuple[float, float]:
    across, up = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return _LEFT + axis_x.at(x) * across, _HEIGHT - _BOTTOM - axis_y.at(y) * up


def _polyline(line: Line, kind: str, x: Axis, y: Axis) -> str:
    places = " ".join("{:.1f},{:.1f}".format(*_place(x, y, *point)) for point in line.points)
    return f'<polyline class="{kind}" points="{places}"/>'


def _axes(x: Axis, y: Axis) -> list[str]:
    left, bottom, right, top = _LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _TOP
    found = [f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>']
    for value in x.ticks():
        at, _ = _place(x, y, value, y.low)
        anchor = "end" if at > right - 12 else "middle"
        found.append(f'<text x="{at:.1f}" y="{bottom + 14}" text-anchor="{anchor}">{charts.number(value)}</text>')
    for value in y.ticks():
        _, at = _place(x, y, x.low, value)
        found.append(f'<text x="{left - 5}" y="{at + 4:.1f}" text-anchor="end">{charts.number(value)}</text>')
        found.append(f'<path class="grid" d="M{left} {at:.1f}H{right}"/>')
    found.append(
        f'<text x="{(left + right) / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{_escape(x.label)}</text>'
        f'<text x="2" y="12">{_escape(y.label)}</text>'
    )
    return found


def _mark(mark: Mark, place: int, x: Axis, y: Axis) -> str:
    """A cross, or a dashed line, and its name: to the left of what lies at the right end."""
    across, up = _place(x, y, mark.x, y.high if mark.y is None else mark.y)
    right = across > _WIDTH * 0.65
    name = f'<text class="named" x="{across + (-7 if right else 7):.1f}" '
    anchor = ' text-anchor="end"' if right else ""
    if mark.y is None:
        height = up + 10 + 13 * (place % 4)
        line = f'<path class="threshold" d="M{across:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
        return f'{line}{name}y="{height:.1f}"{anchor}>{_escape(mark.name)}</text>'
    cross = f'<path class="threshold plain" d="M{across - 4:.1f} {up - 4:.1f}l8 8m0 -8l-8 8"/>'
    height = up + 13 if up + 13 < _HEIGHT - _BOTTOM else up - 6  # above what lies on the axis
    return f'{cross}{name}y="{height:.1f}"{anchor}>{_escape(mark.name)}</text>'
