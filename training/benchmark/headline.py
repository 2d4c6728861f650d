"""The one number that stands for a row of a table, and how it stands beside random weights, SimCLR and ImageNet."""

from collections.abc import Mapping
from typing import Any, Literal

DENSE_PROBE = "unet"
"""What stands where a probe does in a report of masks, see `training.benchmark.dense`."""
BESIDE = {"to_simclr": "SimCLR", "to_imagenet": "ImageNet"}
"""Where a row holds its paired difference to another control than random weights, and how a column calls that."""
_HEADLINES = {
    "classes": ("linear", "clip", "balanced_accuracy"),
    "number": ("ridge", "frame", "mae"),
    "masks": (DENSE_PROBE, "frame", "dice"),
}
_UNITS = {"classes": "", "number": ", mm", "masks": ", Dice"}


def headline_metric(report: Mapping[str, Any]) -> tuple[str, str, str]:
    """Probe, level and metric of the one number that stands for a task."""
    return _HEADLINES[report.get("kind", "classes")]


def task_head(task: str, report: Mapping[str, Any]) -> str:
    """A task as the head of a column, with the unit or metric where it is not balanced accuracy."""
    return f"{task}{_UNITS[report.get('kind', 'classes')]}"


def compared(
    row: Mapping[str, Any], control: str, probe: str, level: str, metric: str
) -> Literal["", "better", "worse"]:
    """Whether a row is better or worse than a control beyond the 95 % interval of their paired difference.

    Args:
        row: of a report.
        control: where the row holds the difference: "difference" to random weights, or one of `BESIDE`.
        probe: of the row, as the next two.
        level: frame or clip.
        metric: by name; of "mae" less is better.

    Returns:
        "" if the interval holds zero, or there is no such difference.
    """
    told = row["results"][probe][level][metric].get(control)
    if not told or not (told["low"] > 0 or told["high"] < 0):  # NaN where there is no interval
        return ""
    return "better" if (told["high"] < 0) == (metric == "mae") else "worse"


def gain(row: Mapping[str, Any], probe: str, level: str, metric: str) -> Literal["", "interval", "spread"]:
    """How surely a row beats random weights of its architecture by the paired difference.

    Returns:
        "" if the interval over groups holds zero or the row is worse, "interval" if it does not, "spread" if besides
        the difference is larger than that between the best and the worst of two random networks or more.
    """
    if compared(row, "difference", probe, level, metric) != "better":
        return ""
    apart = row["results"][probe][level][metric]["difference"]["value"]
    noise = noise_of(row, probe, level, metric)
    return "spread" if noise is not None and abs(apart) > noise else "interval"


def noise_of(row: Mapping[str, Any], probe: str, level: str, metric: str) -> float | None:
    """How far random networks are apart; None where that is not known, as of a single one."""
    found: float | None = row.get("noise", {}).get(probe, {}).get(level, {}).get(metric)
    return found
