"""A small drawing board: scales, axes and marks as SVG text, coloured by CSS classes only.

Positions are rounded to a tenth of a unit, so that the same figures give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Maps a range of values to a range of positions, linearly or by the logarithm; values beyond are held.

    >>> Scale(0, 10, 0, 100)(2.5), Scale(1, 100, 0, 100, log=True)(10)
    (25.0, 50.0)
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers in a range, about so many.

    >>> linear_ticks(0, 1), linear_ticks(0, 43, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 10.0, 20.0, 30.0, 40.0])
    """
    if not high > low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / wanted))
    for factor in (1, 2, 2.5, 5, 10):
        if (high - low) / (factor * step) <= wanted + 0.5:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [float(round(k * step, 12)) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Powers of ten, with 2 and 5 or 3 in between where there is room.

    >>> log_ticks(.01, 1), log_ticks(.5, 2)
    ([0.01, 0.03, 0.1, 0.3, 1.0], [0.5, 1.0, 2.0])
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        ticks = [round(f * 10.0**e, 12) for e in exponents for f in factors]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(ticks) <= wanted:
            return ticks or [low]
    return ticks[:: math.ceil(len(ticks) / wanted)]


@dataclass
class Plot:
    """A chart that grows mark by mark; :meth:`render` gives the SVG.

    ``title`` and ``description`` are what a screen reader says of it.
    """

    title: str
    description: str
    x: Scale
    y: Scale
    width: float = 480
    height: float = 320
    marks: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        """Position of a pair of values."""
        return self.x(x), self.y(y)

    def grid(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        x_text: Callable[[float], str],
        y_text: Callable[[float], str],
        *,
        x_title: str = "",
        y_title: str = "",
    ) -> None:
        """Horizontal grid lines, ticks along both axes, and the axes' titles (the upright one on top)."""
        left, right = self.x.start, self.x.end
        for tick in y_ticks:
            at = self.y(tick)
            self.line((left, at), (right, at), "grid")
            self.text((left - 8, at + 4.5), y_text(tick), "tick", anchor="end")
        for tick in x_ticks:
            at = self.x(tick)
            self.line((at, self.y.start), (at, self.y.start + 5), "axis")
            self.text((at, self.y.start + 20), x_text(tick), "tick", anchor="middle")
        self.line((left, self.y.start), (right, self.y.start), "axis")
        if x_title:
            self.text(((left + right) / 2, self.y.start + 40), x_title, "axis-title", anchor="middle")
        if y_title:
            self.text((4, 14), y_title, "axis-title")

    def line(self, start: Point, end: Point, kind: str) -> None:
        """A straight line."""
        self.marks.append(
            f'<line class="{kind}" x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"/>'
        )

    def path(self, points: Iterable[Point], kind: str) -> None:
        """A line through positions."""
        places = [f"{_n(x)} {_n(y)}" for x, y in points]
        if places:
            self.marks.append(f'<path class="{kind}" d="M{"L".join(places)}"/>')

    def band(self, x: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str) -> None:
        """An area between two lines, given in values; places without an interval are left out."""
        known = [k for k in range(len(x)) if math.isfinite(low[k]) and math.isfinite(high[k])]
        if len(known) < 2:
            return
        around = [self.at(x[k], high[k]) for k in known] + [self.at(x[k], low[k]) for k in reversed(known)]
        self.marks.append(f'<path class="{kind}" d="M{"L".join(f"{_n(a)} {_n(b)}" for a, b in around)}Z"/>')

    def dot(self, place: Point, kind: str, tip: str = "", radius: float = 4.5) -> None:
        """A dot, with what is shown when it is pointed at."""
        self.marks.append(
            f'<circle class="{kind}" cx="{_n(place[0])}" cy="{_n(place[1])}" r="{radius:g}"{_tip(tip)}/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> None:
        """A rectangle by its upper left corner."""
        self.marks.append(
            f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" '
            f'height="{_n(max(height, 0))}"{_tip(tip)}/>'
        )

    def text(self, place: Point, text: str, kind: str, *, anchor: str = "start") -> None:
        """A label."""
        at = f'x="{_n(place[0])}" y="{_n(place[1])}"'
        self.marks.append(f'<text class="{kind}" {at} text-anchor="{anchor}">{escape(text)}</text>')

    def target(self, place: Point, tip: str) -> None:
        """An invisible place that can be pointed at."""
        self.dot(place, "target", tip, 3)

    def raw(self, mark: str) -> None:
        """A mark that is written out already."""
        self.marks.append(mark)

    def render(self) -> Markup:
        """The SVG element."""
        label = escape(f"{self.title}. {self.description}")
        return Markup(
            f'<svg class="chart" viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{label}">'
            + "".join(self.marks)
            + "</svg>"
        )


def _n(value: float) -> str:
    return f"{round(value, 1) + 0.0:g}"


def _tip(tip: str) -> str:
    return f' data-tip="{escape(tip)}"' if tip else ""
