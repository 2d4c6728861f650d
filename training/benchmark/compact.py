"""One table of all tasks with one number each, as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from training.benchmark.headline import gain, headline_metric, task_head
from training.benchmark.markdown import table

FEW = "5"
"""Labelled groups of each class in the few-shot column of the table of all tasks."""


def compact(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """One table of all tasks, one number each: the linear probe on clips, the error of the ridge probe, or Dice.

    In bold what beats random weights of the same architecture beyond the interval of the paired difference and by more
    than random networks differ among themselves, in italics what does the first alone.
    """
    heads = [task_head(task, report) for task, report in reports.items()]
    models = list(dict.fromkeys(row["model"] for report in reports.values() for row in report["rows"]))
    models.sort(key=lambda model: not model.startswith("usbackbones/"))
    asked = {task: report for task, report in reports.items() if report.get("kind", "classes") == "classes"}
    common = {task: report for task, report in asked.items() if _all_of_ours(report, models)}
    gains = {model: few_shot_gain(model, common.values()) for model in models}
    if any(gains.values()):
        heads.append(f"{FEW} groups a class, less random" + f" ({', '.join(common)})" * (len(common) < len(asked)))
    rows = []
    for model in models:
        found = [next((row for row in report["rows"] if row["model"] == model), None) for report in reports.values()]
        cells = [headline_cell(row, report) for row, report in zip(found, reports.values(), strict=True)]
        cells += [gains[model]] * any(gains.values())
        rows.append([model, *cells])
    return "\n".join(table(["model", *heads], rows))


def _all_of_ours(report: Mapping[str, Any], models: Iterable[str]) -> bool:
    """Whether a report has few-shot numbers of every weight of ours, so that a mean over tasks is one for all."""
    found = {row["model"] for row in report["rows"] if FEW in row.get("few_shot", {}).get("linear", {})}
    return all(model in found for model in models if model.startswith("usbackbones/"))


def few_shot_gain(model: str, reports: Iterable[Mapping[str, Any]]) -> str:
    """Points of balanced accuracy over random weights of the architecture with few labelled groups of each class.

    The mean over the reports, of the linear probe on clips; empty where one was not run.
    """
    gains = []
    for report in reports:
        rows = [row for row in report["rows"] if FEW in row.get("few_shot", {}).get("linear", {})]
        own = next((row for row in rows if row["model"] == model), None)
        null = next((row for row in rows if own and is_null_of(row, own)), None)
        if own is None or null is None or null is own:
            return ""
        mine, theirs = (row["few_shot"]["linear"][FEW]["value"] for row in (own, null))
        gains.append(100 * (mine - theirs))
    return f"{sum(gains) / len(gains):+.1f}" if gains else ""


def is_null_of(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a row is that of random weights of another's architecture, at the other's input size."""
    sides = {one.get("input", {}).get("input_size", [0])[-1] for one in (row, other)}
    return row["model"].startswith("random:") and row["arch"] == other["arch"] and len(sides) == 1


def headline_cell(row: Mapping[str, Any] | None, report: Mapping[str, Any]) -> str:
    """The one number of a row on a task, in bold or italics where it beats random weights."""
    if row is None or "not_run" in row:
        return "not run"
    probe, level, metric = headline_metric(report)
    text = f"{row['results'][probe][level][metric]['value']:.{1 if metric == 'mae' else 2}f}"
    mark = {"": "", "interval": "*", "spread": "**"}[gain(row, probe, level, metric)]
    return f"{mark}{text}{mark}"
