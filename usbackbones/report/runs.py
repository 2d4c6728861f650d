"""Sections about a run as a whole: its metrics, its curves, and what the network looked at."""

from collections.abc import Mapping, Sequence

from usbackbones._words import FEW, with_interval
from usbackbones.report.images import figure, overlay
from usbackbones.report.kinds import Heat, Section
from usbackbones.report.markup import element, table
from usbackbones.report.plots import Axes, curves

NAMES = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "auroc": "AUROC", "ece": "calibration error"}


def resampled(unit: str) -> str:
    """What the brackets of a report are, by what a group is: "patient", "group" or "file"."""
    own = ", each taken for a patient of its own" if unit == "file" else ""
    return f"In brackets: 95 % intervals, from resampling whole {unit}s{own}."


def metrics_section(metrics: Mapping[str, Mapping[str, Mapping[str, float]]], unit: str = "group") -> Section:
    """The metrics of each level with their intervals; `unit` is what a group is."""
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    rows = [
        [level, *(with_interval(values[name]) if name in values else "" for name in names)]
        for level, values in metrics.items()
    ]
    return Section(
        "Results",
        table(["by", *(NAMES.get(name, name.replace("_", " ")) for name in names)], rows, "Results"),
        f"{resampled(unit)} With fewer than {FEW} {unit}s they are too narrow to rely on, and they say nothing about "
        "another hospital.",
    )


def history_section(history: Sequence[Mapping[str, object]]) -> Section:
    """One plot for each number that is told of the epochs."""
    names = dict.fromkeys(key for record in history for key in record if key != "epoch")
    plots = []
    for name in names:
        points = [
            (float(epoch), float(record[name]))  # type: ignore[arg-type]
            for number, record in enumerate(history)
            if isinstance(epoch := record.get("epoch", number), int | float)
            and isinstance(record.get(name), int | float)
        ]
        if not points:
            continue
        across, up = zip(*points, strict=True)
        axes = Axes((min(across), max(max(across), min(across) + 1)), _room_for(up), "epoch", name)
        label = f"{name} from {up[0]:.3g} at first to {up[-1]:.3g} at the end"
        plots.append(element("figure", element("h3", name), curves({name: points}, label, axes)))
    return Section("Learning", element("div", *plots, class_="row"))


def _room_for(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis that holds all values: from zero where none is negative, else around them."""
    low, high = min(values), max(values)
    if low >= 0:
        return 0.0, high * 1.05 or 1.0
    room = (high - low) * 0.05 or abs(low) * 0.05
    return low - room, high + room


def heat_section(heat: Sequence[Heat]) -> Section:
    """Frames beside what the network looked at in them."""
    pairs = []
    for one in heat:
        sides = figure(one.caption, one.frame), figure(one.how, overlay(one.frame, one.heat))
        pairs.append(element("div", *sides, class_="pair"))
    return Section(
        "What the network looked at",
        element("div", *pairs, class_="pairs"),
        "The more orange, the more a region mattered. It tells where the network looked, not whether it is right, and "
        "a map that looks sensible is no evidence that the network reasons so.",
        shows_patients=True,
    )
