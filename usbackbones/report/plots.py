"""Plots as SVG inside the page: they follow its colors, light or dark, and need no script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from usbackbones._evenly import evenly
from usbackbones._words import with_interval
from usbackbones.report.markup import Markup, element, joined
from usbackbones.report.style import CATEGORIES

WIDTH, HEIGHT = 380, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
MOST_MARKS = 24
"""On a curve, spread evenly over its points, so that marks do not hide it."""


@dataclass(frozen=True)
class Axes:
    """A rectangle of values on the page.

    Attributes:
        x, y: lowest and highest value.
        x_name, y_name: what is told along the edges.
        ticks: write the values; a map of features has none, since its units mean nothing.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_name: str = ""
    y_name: str = ""
    ticks: bool = True

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies, in units of the drawing."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def draw(self, label: str, *inside: str) -> Markup:
        """The plot; `label` is what it tells, for those who cannot see it."""
        (left, bottom), (right, top) = self.at(self.x[0], self.y[0]), self.at(self.x[1], self.y[1])
        frame = [element("path", class_="axis", d=f"M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}")]
        if self.ticks:
            for value in _round_values(*self.x):
                x, _ = self.at(value, self.y[0])
                frame.append(_text(f"{value:g}", x, bottom + 16, "middle"))
            for value in _round_values(*self.y):
                _, y = self.at(self.x[0], value)
                frame.append(_text(f"{value:g}", left - 6, y + 4, "end"))
                frame.append(element("path", class_="axis", d=f"M{left:.1f} {y:.1f}H{right:.1f}", opacity="0.5"))
        names = [_text(self.x_name, (left + right) / 2, HEIGHT - 6, "middle")]
        turned = f"rotate(-90 11 {(top + bottom) / 2:.1f})"
        names.append(_text(self.y_name, 11, (top + bottom) / 2, "middle", transform=turned))
        return element("svg", *frame, *inside, *names, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def scatter(
    points: np.ndarray, kinds: Sequence[str], titles: Sequence[str], label: str, names: tuple[str, str]
) -> Markup:
    """Points of several kinds, each with a color and a shape, with a legend.

    Args:
        points: float [N, 2].
        kinds: [N]; the most frequent get colors of their own, the others share the last one.
        titles: [N], told when a point is pointed at.
        label: what the plot tells.
        names: of the two axes.
    """
    number = numbered(kinds)
    low, high = points.min(0), points.max(0)
    room = np.maximum((high - low) * 0.04, 1e-9)
    axes = Axes((low[0] - room[0], high[0] + room[0]), (low[1] - room[1], high[1] + room[1]), *names, ticks=False)
    marks = [
        _mark(number.get(kind, CATEGORIES - 1), *axes.at(*point), 3.4, title)
        for point, kind, title in zip(points.tolist(), kinds, titles, strict=True)
    ]
    return joined([axes.draw(label, *marks), legend(list(number), more=len(set(kinds)) > len(number))])


def curves(series: Mapping[str, Sequence[tuple[float, float]]], label: str, axes: Axes, guide: bool = False) -> Markup:
    """Lines through points (x, y), by name, with a legend where there are several, at most as many as there are colors.

    `label` is what the plot tells; `guide` draws a dashed diagonal, where y should be x.
    """
    drawn = []
    if guide:
        (x0, y0), (x1, y1) = axes.at(axes.x[0], axes.y[0]), axes.at(axes.x[1], axes.y[1])
        drawn.append(element("path", class_="guide", d=f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"))
    for number, (name, points) in enumerate(series.items()):
        places = [axes.at(x, y) for x, y in points]
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn.append(element("path", class_=f"curve s{number}", d=f"M{way}"))
        told = [f"{name}: {x:.3g}, {y:.3g}" for x, y in points]
        for place in evenly(len(places), MOST_MARKS):
            x, y = places[place]
            drawn.append(_mark(number, x, y, 2.8, told[place]))
    return joined([axes.draw(label, *drawn), legend(list(series)) if len(series) > 1 else ""])


def points(places: np.ndarray, axes: Axes, label: str, diagonal: bool = False, levels: Sequence[float] = ()) -> Markup:
    """Points [N, 2] on axes with ticks, with a dashed diagonal or dashed horizontal lines."""
    (x0, x1), (y0, y1) = axes.x, axes.y
    ends = [((x0, y0), (x1, y1))] * diagonal + [((x0, level), (x1, level)) for level in levels]
    drawn = []
    for first, last in ends:
        (a, b), (c, d) = axes.at(*first), axes.at(*last)
        drawn.append(element("path", class_="guide", d=f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}"))
    drawn += [_mark(0, *axes.at(x, y), 2.8, f"{x:.4g}, {y:.4g}") for x, y in places.tolist()]
    return axes.draw(label, *drawn)


def whiskers(lines: Mapping[str, Mapping[str, float]], label: str) -> Markup:
    """Values with their intervals, {name: {"value", "low", "high"}}, one below the other on one scale."""
    ends = [line[key] for line in lines.values() for key in ("low", "value", "high")]
    known = [end for end in ends if np.isfinite(end)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    low, high = min(low, 0.0), 1.0 if high <= 1 else high
    rows = []
    for name, line in lines.items():
        left, middle, right = (4 + 292 * (line[key] - low) / ((high - low) or 1) for key in ("low", "value", "high"))
        drawn = [element("path", class_="axis", d="M4 8H296")]
        if np.isfinite(right - left):
            drawn.append(element("path", class_="curve s0", d=f"M{left:.1f} 8H{right:.1f}"))
        if np.isfinite(middle):
            drawn.append(_mark(0, middle, 8, 4))
        told = with_interval(line)
        plot = element("svg", *drawn, viewBox="0 0 300 16", role="img", aria_label=told)
        rows.append(element("li", element("span", name), plot, element("span", told, class_="soft")))
    scale = element("p", f"The lines run from {low:g} to {high:g}.", class_="note")
    return joined([element("ul", *rows, class_="whiskers", aria_label=label), scale])


def numbered(kinds: Sequence[str]) -> dict[str, int]:
    """The most frequent kinds, each with the number of its color, in alphabetical order.

    Where there are more kinds than colors the last color is left to all others.
    """
    names, counts = np.unique(np.asarray(kinds, dtype=str), return_counts=True)
    if len(names) > CATEGORIES:
        names = np.sort(names[np.argsort(-counts, kind="stable")[: CATEGORIES - 1]])
    return {str(name): number for number, name in enumerate(names)}


def legend(names: Sequence[str], more: bool = False) -> Markup:
    """Which color and shape is what; `more` adds a line for all others."""
    told = [*enumerate(names), *([(CATEGORIES - 1, "others")] if more else [])]
    rows = []
    for number, name in told:
        key = element("svg", _mark(number, 7, 7, 5), viewBox="0 0 14 14", aria_hidden="true")
        rows.append(element("li", key, name))
    return element("ul", *rows, class_="legend")


def _mark(number: int, x: float, y: float, size: float, title: str = "") -> Markup:
    """A mark by number: its color, and one of four shapes, so that color is not all there is to see."""
    s = size
    shape = (
        f"M{x - s:.1f} {y:.1f}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0z",  # circle
        f"M{x - s:.1f} {y - s:.1f}h{2 * s}v{2 * s}h{-2 * s}z",  # square
        f"M{x:.1f} {y - 1.3 * s:.1f}l{1.3 * s:.1f} {2.3 * s:.1f}h{-2.6 * s:.1f}z",  # triangle
        f"M{x:.1f} {y - 1.4 * s:.1f}l{1.4 * s:.1f} {1.4 * s:.1f}l{-1.4 * s:.1f} {1.4 * s:.1f}"
        f"l{-1.4 * s:.1f} {-1.4 * s:.1f}z",  # diamond
    )[number % 4]
    inner = [element("title", title)] if title else []
    return element("path", *inner, class_=f"f{number % CATEGORIES}", d=shape, fill_opacity="0.85")


def _text(text: str, x: float, y: float, anchor: str, transform: str | None = None) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, transform=transform)


def _round_values(low: float, high: float, about: int = 5) -> list[float]:
    """A few round numbers from low to high."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    count = int(np.floor(high / step + 1e-9)) - int(np.ceil(low / step - 1e-9)) + 1
    return [float(np.round((np.ceil(low / step - 1e-9) + i) * step, 10)) for i in range(count)]
