"""Draw the rows of every task as dots with their intervals, as plain SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from training.benchmark.headline import headline_metric
from training.release.records import side_of

LETTER, ROW, PANEL, GAP = 7.4, 22, 180, 34
"""Pixels of a bold letter, and of the parts."""
TOP, FOOT = 46, 34
_ABOUT = {"balanced_accuracy": "balanced accuracy of clips", "mae": "mean absolute error, mm", "dice": "Dice"}
INK, FAINT, OURS, NULL = "#1b1f24", "#8a929b", "#0b6bcb", "#c4c9cf"


class Dot(NamedTuple):
    """A value with its interval, and the architecture and input size that it shares with its random weights."""

    value: float
    low: float
    high: float
    like: str = ""


class Panel(NamedTuple):
    """One task of the figure: its name, what is shown, and a dot for each row that was run."""

    task: str
    about: str
    dots: Mapping[str, Dot]


def panel_of(task: str, report: Mapping[str, Any]) -> Panel:
    """The clip balanced accuracy of the linear probe, the mean absolute error or Dice of every row that was run."""
    probe, level, metric = headline_metric(report)
    dots = {}
    for row in report["rows"]:
        if "results" in row:
            told = row["results"][probe][level][metric]
            dots[row["model"]] = Dot(told["value"], told["low"], told["high"], f"{row.get('arch', '')} {side_of(row)}")
    return Panel(task, _ABOUT[metric], dots)


def figure(panels: Sequence[Panel]) -> str:
    """The text of an SVG file; rows by architecture and input size, in the order of appearance, random ones last.

    A dashed line runs from random weights through the other rows of their group: what it leaves behind beats them.
    """
    groups: dict[str, str] = {}
    for panel in panels:
        for model, dot in panel.dots.items():
            groups.setdefault(model, dot.like)  # by its first task: the U-Nets of a later one share an input size
    order = list(dict.fromkeys(groups.values()))
    models = sorted(groups, key=lambda model: (order.index(groups[model]), model.startswith("random:")))
    left = round(24 + LETTER * max((len(model.removeprefix("usbackbones/")) for model in models), default=0))
    width = left + len(panels) * (PANEL + GAP)
    height = TOP + len(models) * ROW + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img">',
        f"<title>{escape(', '.join(panel.task for panel in panels))}: every row with its 95 % interval</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, model in enumerate(models):
        y = TOP + place * ROW + ROW / 2
        name = model.removeprefix("usbackbones/")
        weight = ' font-weight="600"' if name != model else ""
        parts.append(_text(left - 12, y + 4, name, "end", OURS if name != model else INK, weight))
    for place, panel in enumerate(panels):
        parts += _panel(panel, models, left + place * (PANEL + GAP))
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, models: Sequence[str], left: float) -> list[str]:
    low, high = _range(panel)
    bottom = TOP + len(models) * ROW

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * PANEL

    parts = [
        _text(left, 18, panel.task, "start", INK, ' font-weight="600"'),
        _text(left, 34, panel.about, "start", FAINT),
        f'<line x1="{left}" y1="{bottom}" x2="{left + PANEL}" y2="{bottom}" stroke="{NULL}"/>',
    ]
    for tick, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end")):
        parts.append(_text(x(tick), bottom + 16, f"{tick:.2f}" if high <= 1 else f"{tick:.0f}", anchor, FAINT))
    for place, model in enumerate(models):
        if model not in panel.dots:
            continue
        dot, y = panel.dots[model], TOP + place * ROW + ROW / 2
        ink = OURS if model.startswith("usbackbones/") else FAINT
        if model.startswith("random:"):
            group = [models.index(other) for other, one in panel.dots.items() if one.like == dot.like]
            parts.append(
                f'<line x1="{x(dot.value):.1f}" y1="{TOP + min(group) * ROW}" x2="{x(dot.value):.1f}" '
                f'y2="{TOP + (max(group) + 1) * ROW}" stroke="{FAINT}" '
                'stroke-dasharray="3 3"/>'
            )
        parts += [
            *_interval(x, dot, y, ink),
            f'<circle cx="{x(dot.value):.1f}" cy="{y}" r="4" fill="{ink}"/>',
        ]
    return parts


def _interval(x: Callable[[float], float], dot: Dot, y: float, ink: str) -> list[str]:
    """The line of a dot's interval; none where one group gave none."""
    if not (math.isfinite(dot.low) and math.isfinite(dot.high)):
        return []
    ends = f'x1="{x(dot.low):.1f}" y1="{y}" x2="{x(dot.high):.1f}" y2="{y}"'
    return [f'<line {ends} stroke="{ink}" stroke-width="2"/>']


def _range(panel: Panel) -> tuple[float, float]:
    """Ends of the axis: all intervals fit, at tenths for shares and at fives for millimetres."""
    step = 5.0 if panel.about == _ABOUT["mae"] else 0.1
    shown = [x for dot in panel.dots.values() for x in (dot.value, dot.low, dot.high) if math.isfinite(x)]
    low, high = min(shown, default=0.0), max(shown, default=step)
    return low // step * step, (-(-high // step)) * step or step


def _text(x: float, y: float, text: str, anchor: str, ink: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{ink}"{more}>{escape(text)}</text>'
