"""The tables of the benchmark as Markdown, rendered from the numbers alone."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from training.benchmark.headline import BESIDE, DENSE_PROBE, headline_metric, noise_of
from usbackbones._files import atomic_write
from usbackbones._words import FEW, plural, with_interval

COLUMNS = ("frame", "clip")
_CLASSES = ("frame bal. acc.", "frame macro-F1", "clip bal. acc.", "clip macro-F1")
_DIFFERENCES = ("frame bal. acc. − random", "clip bal. acc. − random")
PROBE_NAMES = {"knn": "kNN probe", "linear": "linear probe", "ridge": "ridge probe", DENSE_PROBE: "U-Net"}
PARTS = {
    "test": "locked test groups",
    "inner": "inner folds without the locked groups",
    "unseen": "folds of groups that no weight of the table was pretrained on",
}
"""What each part of a protocol evaluates on."""


def markdown(report: Mapping[str, Any]) -> str:
    """The report of one task as a Markdown table with lines about what it stands on."""
    return "\n".join([*table(*_rows(report)), "", *_foot(report)])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; a row with too few cells is filled up."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return lines + [f"| {' | '.join(row)} |" + " |" * (len(header) - len(row)) for row in rows]


def summary(report: Mapping[str, Any]) -> str:
    """All tasks of a leaderboard, one table each."""
    return "\n\n".join(f"### {task}\n\n{markdown(content)}" for task, content in report["tasks"].items())


def evaluated_counts(report: Mapping[str, Any]) -> Mapping[str, int]:
    """How many groups, clips and frames a report evaluates on."""
    counts: Mapping[str, Mapping[str, int]] = report["counts"]
    part = report["protocol"]["part"]
    return counts[part if part in counts else "pretrain"]


def brackets(groups: int) -> str:
    """What the brackets of a table are, and how far they can be relied on."""
    if groups < 2:
        return f"No intervals: {plural(groups, 'group')} to evaluate on, two at least are needed."
    few = f"; over fewer than {FEW} they are too narrow to rely on" * (groups < FEW)
    return f"Brackets: 95 % bootstrap intervals over groups{few}."


def between(text: str, marker: str, content: str) -> str:
    """The text with what stands between a marker and its end replaced.

    Raises:
        ValueError: if the text has no such marker.
    """
    pattern = re.compile(rf"(<!-- {marker}:[^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the text has lost its marker <!-- {marker}: ... -->; put it back where the {marker} belong")
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def write_between(file: Path, marker: str, content: str) -> None:
    """Replace what stands between a marker of a file and its end, see `between`."""
    text = between(file.read_text(encoding="utf-8"), marker, content)
    with atomic_write(file, "w", encoding="utf-8") as stream:
        stream.write(text)


def _rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The header of a task's table, and a row for each probe of each model."""
    overlaps = any("overlap" in row for row in report["rows"])
    heads, cells_of = {
        "classes": (_class_heads, _class_cells),
        "number": (_number_heads, _number_cells),
        "masks": (_mask_heads, _mask_cells),
    }[report.get("kind", "classes")]
    rows = []
    for row in report["rows"]:
        if "not_run" in row:
            rows.append(not_run_cells(row, overlaps))
        for probe in row.get("results", {}):
            cells = cells_of(report, row, probe)
            rows.append([row["model"], *[row.get("overlap", "")] * overlaps, probe, *cells])
    return ["model", *["overlap"] * overlaps, "probe", *heads(report)], rows


def _class_heads(report: Mapping[str, Any]) -> list[str]:
    legacy = any("legacy" in row for row in report["rows"])
    heads = [*_CLASSES, *_DIFFERENCES, *(f"clip bal. acc. − {BESIDE[control]}" for control in _compared(report))]
    heads += ["clip bal. acc. of the divisions"] * _divided(report)
    return heads + [f"{shot} a class" for shot in _shots(report)] + ["legacy; honest"] * legacy


def _class_cells(report: Mapping[str, Any], row: Mapping[str, Any], probe: str) -> list[str]:
    levels = row["results"][probe]
    cells = [interval_cell(levels[level][m]) for level in COLUMNS for m in ("balanced_accuracy", "macro_f1")]
    cells += [_difference(row, probe, level, "balanced_accuracy") for level in COLUMNS]
    cells += [interval_cell(levels["clip"]["balanced_accuracy"].get(control)) for control in _compared(report)]
    if _divided(report):
        cells.append(_spread(levels["clip"]["balanced_accuracy"]["members"], report))
    few = row.get("few_shot", {}).get(probe, {})
    for shot in _shots(report):
        cells.append(_few_cell(few.get(shot)))
    if any("legacy" in row for row in report["rows"]):
        told = row.get("legacy") if probe == "linear" else None
        cells.append(f"{told['legacy']:.3f}; {told['honest']:.3f}" if told else "")
    return cells


def _few_cell(few: Mapping[str, Any] | None) -> str:
    """Mean ± deviation; a single draw of a single network has no deviation."""
    if few is None:
        return ""
    return f"{few['value']:.3f} ± {few['sd']:.3f}" if len(few["members"]) > 1 else f"{few['value']:.3f}"


def _shots(report: Mapping[str, Any]) -> list[str]:
    return list(report["protocol"].get("shots", ()))


def _divided(report: Mapping[str, Any]) -> bool:
    """Whether a report is of repeated folds, whose spread is told."""
    return bool(report["protocol"]["part"] == "unseen")


def _spread(members: Sequence[float], report: Mapping[str, Any]) -> str:
    """The lowest and the highest of the divisions, each the mean over the networks of a row."""
    repeats = report["protocol"]["repeats"]
    means = [sum(members[repeat::repeats]) / len(members[repeat::repeats]) for repeat in range(repeats)]
    return f"{min(means):.3f} to {max(means):.3f}"


def _number_heads(report: Mapping[str, Any]) -> list[str]:
    error = "mean abs. error"
    beside = (f"{error} − {BESIDE[control]}, mm" for control in _compared(report))
    return [f"{error}, mm", "R²", f"{error} − random, mm", *beside]


def _number_cells(report: Mapping[str, Any], row: Mapping[str, Any], probe: str) -> list[str]:
    found = row["results"][probe]["frame"]
    beside = (interval_cell(found["mae"].get(control), 1) for control in _compared(report))
    cells = [interval_cell(found["mae"], 1), interval_cell(found["r2"]), _difference(row, probe, "frame", "mae", 1)]
    return [*cells, *beside]


def _mask_metrics(report: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """How the table of masks calls each of its metrics, and the digits."""
    found = next((row["results"][DENSE_PROBE]["frame"] for row in report["rows"] if "results" in row), {"dice": None})
    unit = "mm" if "circumference_error" in found else "pixels"
    told = {"dice": ("Dice", 3), "hd95": (f"HD95, {unit}", 1), "circumference_error": ("circumference error, mm", 1)}
    return {metric: told.get(metric, (metric.replace("dice ", "Dice, "), 3)) for metric in found}


def _mask_heads(report: Mapping[str, Any]) -> list[str]:
    names = [name for name, _ in _mask_metrics(report).values()]
    beside = [f"{name} − {BESIDE[control]}" for control in _compared(report) for name, _ in _paired(report).values()]
    return [*names, *(f"{name} − random" for name, _ in _paired(report).values()), *beside]


def _mask_cells(report: Mapping[str, Any], row: Mapping[str, Any], probe: str) -> list[str]:
    found, paired = row["results"][probe]["frame"], _paired(report).items()
    cells = [interval_cell(found[metric], digits) for metric, (_, digits) in _mask_metrics(report).items()]
    cells += [_difference(row, probe, "frame", metric, digits) for metric, (_, digits) in paired]
    return cells + [
        interval_cell(found[metric].get(control), digits)
        for control in _compared(report)
        for metric, (_, digits) in paired
    ]


def _paired(report: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """The metrics of masks whose differences to other rows are shown: all but those of single structures."""
    return {metric: told for metric, told in _mask_metrics(report).items() if not told[0].startswith("Dice, ")}


def not_run_cells(row: Mapping[str, Any], overlaps: bool) -> list[str]:
    """The cells of a row whose weights could not be loaded: why, and the command that gets them."""
    why = shorten(row["not_run"], 100, placeholder=" ...")
    return [row["model"], *[row.get("overlap", "")] * overlaps, f"not run ({why}): `{row['command']}`"]


def _difference(row: Mapping[str, Any], probe: str, level: str, metric: str, digits: int = 3) -> str:
    """The paired difference to random networks; in italics where random networks differ as much among themselves."""
    told = row["results"][probe][level][metric].get("difference")
    cell = interval_cell(told, digits)
    noise = noise_of(row, probe, level, metric)
    return f"*{cell}*" if told and noise is not None and abs(told["value"]) <= noise else cell


def _compared(report: Mapping[str, Any]) -> list[str]:
    """The controls of `BESIDE` that a row of the report has a paired difference to."""
    probe, level, metric = headline_metric(report)
    results = [row["results"][probe][level][metric] for row in report["rows"] if "results" in row]
    return [control for control in BESIDE if any(control in told for told in results)]


def interval_cell(numbers: Mapping[str, float] | None, digits: int = 3) -> str:
    """A value with its interval, as 0.712 [0.601, 0.803]; empty without numbers; a missing interval is said."""
    if numbers is None:
        return ""
    if not all(math.isfinite(numbers[name]) for name in ("value", "low", "high")):
        return with_interval(numbers, digits)
    value, low, high = (f"{numbers[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _foot(report: Mapping[str, Any]) -> list[str]:
    lines = [f"{report['task']}: {_evaluated_on(report)}. {brackets(evaluated_counts(report)['groups'])}"]
    if any("noise" in row for row in report["rows"]):
        lines.append("*Italics*: the difference does not exceed the spread of random networks (best less worst).")
    if report["protocol"].get("shots") and any("few_shot" in row for row in report["rows"]):
        draws = report["protocol"]["draws"]
        lines.append(
            "N a class: balanced accuracy of clips with N labelled groups a class, mean ± standard deviation over "
            f"{plural(draws, 'draw')} for each network of the row{'; of one network it has none' * (draws < 2)}."
        )
    if any("legacy" in row for row in report["rows"]):
        lines.append(
            "Legacy: frame accuracy of a linear head on frozen features under the original papers' protocol, which "
            "pools frames over patients and reports the best test epoch. Honest: folds by group, the epoch chosen "
            "inside the training part. Both use the pretraining part alone."
        )
    if report.get("about"):
        lines.append(report["about"])
    commands = report.get("commands", [report["command"]])  # of a merged report, those that made its rows
    return [*lines, "", "\n\n".join(f"`{command}`" for command in commands)]


def _evaluated_on(report: Mapping[str, Any]) -> str:
    protocol, masks = report["protocol"], report.get("kind") == "masks"
    counts = {
        side: f"{plural(n['clips'], 'picture' if masks else 'clip')} of {plural(n['groups'], 'group')}"
        + f" ({plural(n['frames'], 'frame')})" * (not masks)
        for side, n in report["counts"].items()
    }
    if masks:
        told = counts[protocol["part"]]
        where = f"the locked {told}" if protocol["part"] == "test" else f"an inner {told}, no locked one opened"
        return (
            f"fitted on {counts['pretrain']}, evaluated on {where}. Mean of "
            f"{plural(protocol['seeds'], 'U-Net')}, encoder {protocol['encoder']}, "
            f"{plural(protocol['epochs'], 'epoch')} at {protocol['size']} pixels"
        )
    return {
        "test": f"fitted on {counts['pretrain']}, evaluated on the locked {counts.get('test')}",
        "inner": f"cross-validated on {counts['pretrain']}, no test clip opened",
        "unseen": f"{protocol.get('repeats')} times {protocol.get('folds')} folds of all that no weight of the table "
        f"was pretrained on, locked groups among them: {counts['pretrain']}",
    }[protocol["part"]]
