"""Small charts as inline SVG for pages that stand alone: bars of shares, and a line over spans. No script, no font.

Colours are classes, which the page's style sheet fills in for light and dark.
"""

from collections.abc import Sequence

import markupsafe

_WIDTH, _HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 8, 8, 22

_escape = markupsafe.escape


def number(value: float) -> str:
    """A number as a reader reads it."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _frame(title: str, body: list[str]) -> markupsafe.Markup:
    return markupsafe.Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_escape(title)}">'
        f"<title>{_escape(title)}</title>{''.join(body)}</svg>"
    )


def _height(value: float, top: float) -> float:
    return (_HEIGHT - _TOP - _BOTTOM) * min(1.0, value / top if top > 0 else 0.0)


def _y_axis(top: float, label: str) -> list[str]:
    base = _HEIGHT - _BOTTOM
    return [
        f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}"/>',
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{_escape(label)}</text>',
        f'<text x="{_LEFT - 4}" y="{base}" text-anchor="end">0</text>',
    ]


def bars(
    shares: Sequence[float], names: Sequence[str], ticks: Sequence[str], top: float, side: str, title: str
) -> markupsafe.Markup:
    """Bars of shares, from 0 to `top`.

    Args:
      shares: a bar each.
      names: what each bar is, shown where it is pointed at.
      ticks: texts below the axis, spread evenly from its left end to its right.
      top: the share at the upper end, so that two charts can be compared by eye.
      side: CSS class of the bars.
      title: what the chart shows, for those who do not see it.
    """
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(shares))
    body = _y_axis(top, f"{100 * top:.0f}%")
    for place, (share, name) in enumerate(zip(shares, names, strict=True)):
        high = _height(share, top)
        if share > 0:
            high = max(high, 1.0)  # a single image shows
        body.append(
            f'<rect class="{side}" x="{_LEFT + place * step + step * 0.06:.1f}" y="{_HEIGHT - _BOTTOM - high:.1f}" '
            f'width="{step * 0.88:.1f}" height="{high:.1f}"><title>{_escape(name)}: {100 * share:.1f}%</title></rect>'
        )
    return _frame(title, body + _ticks(ticks))


def _ticks(ticks: Sequence[str]) -> list[str]:
    found = []
    for place, text in enumerate(ticks):
        at = place / (len(ticks) - 1) if len(ticks) > 1 else 0.5
        anchor = "middle" if 0 < at < 1 else ("start" if at == 0 else "end")
        x = _LEFT + at * (_WIDTH - _LEFT - _RIGHT)
        found.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{_escape(text)}</text>')
    return found


def line(points: Sequence[tuple[int, float, float, bool]], title: str) -> markupsafe.Markup:
    """Distances over spans, each with its threshold, a dash above or below it.

    Args:
      points: (span, distance, threshold, whether it drifted), ascending by span.
      title: what the chart shows, for those who do not see it.
    """
    top = max(max(distance, threshold) for _, distance, threshold, _ in points) * 1.1 or 1.0
    step = (_WIDTH - _LEFT - _RIGHT) / len(points)
    places = [_LEFT + (place + 0.5) * step for place in range(len(points))]
    heights = [_HEIGHT - _BOTTOM - _height(distance, top) for _, distance, _, _ in points]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True))
    body = [*_y_axis(top, number(top)), f'<polyline class="line" points="{joined}"/>']
    every = -(-len(points) // 8)  # more spans than fit are not all named
    for place, (x, y, point) in enumerate(zip(places, heights, points, strict=True)):
        span, distance, threshold, drifted = point
        at = _HEIGHT - _BOTTOM - _height(threshold, top)
        half = min(step * 0.45, 20)
        body.append(f'<line class="threshold" x1="{x - half:.1f}" y1="{at:.1f}" x2="{x + half:.1f}" y2="{at:.1f}"/>')
        said = f"span {span}: {number(distance)}, threshold {number(threshold)}{', drifted' if drifted else ''}"
        body.append(f"{_mark(x, y, drifted)}<title>{_escape(said)}</title></path>")
        if place % every == 0:
            body.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{span}</text>')
    return _frame(title, body)


def _mark(x: float, y: float, drifted: bool) -> str:
    """A cross where it drifted, else a dot: told apart without colours."""
    if drifted:
        return f'<path class="bad" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10">'
    return f'<path class="good" d="M{x - 3.5:.1f} {y:.1f}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0">'
