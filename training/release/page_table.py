"""The numbers of a weight on the page: beside random weights and SimCLR, with intervals."""

from collections.abc import Mapping
from typing import Any

from training.benchmark.markdown import gain
from training.release.records import OWNER, kind_of
from usbackbones.report.markup import Markup, element, joined, table
from usbackbones.report.runs import NAMES, told

PROBES = {"knn": "kNN"}
"""Names of probes that are not written as in the zoo."""
DIGITS = {"mae": 1}
"""Of a metric that has a unit."""
_SHOWN = ("balanced_accuracy", "mae")
"""The metric of the short table, the first that is there."""


def headline(name: str, metrics: Mapping[str, Any] | None) -> Markup:
    """One short table a task: one metric per clip, of the weight, of random weights and of SimCLR."""
    if not metrics:
        return element("p", "Not measured yet.")
    parts = []
    for report in metrics.values():
        rows, classes, probes = [], [], list(_first_measured(report))
        for row in report["rows"]:
            rows.append([_row_name(row["model"], name), *_headline_cells(row, probes)])
            classes.append("ours" if _is_ours(row["model"], name) else "")
        level, metric = _headline_metric(report)
        label = f"{report['task']}: {NAMES.get(metric, metric)} by {level}, on the {_part(report)}"
        header = ["", *(f"{PROBES.get(probe, probe)} probe" for probe in probes)]
        parts += [element("p", label, class_="note"), table(header, rows, label, classes), _verdict(name, report)]
    return joined(parts)


def all_numbers(name: str, metrics: Mapping[str, Any]) -> Markup:
    """Every probe, level and metric, with the paired difference to random weights."""
    parts = []
    for report in metrics.values():
        rows, classes, names = [], [], list[str]()
        for row in report["rows"]:
            for probe, levels in row.get("results", {}).items():
                for level, values in levels.items():
                    names = names or list(values)
                    shown = [
                        told(values[metric], DIGITS.get(metric, 3)) if metric in values else "" for metric in names
                    ]
                    probed = f"{PROBES.get(probe, probe)}, {level}"
                    rows.append([_row_name(row["model"], name), probed, *shown, _difference(values)])
                    classes.append("ours" if _is_ours(row["model"], name) else "")
        header = ["", "probe, level", *(NAMES.get(metric, metric) for metric in names), "less random"]
        parts += [
            table(header, rows, f"{report['task']}: all numbers", classes),
            element("p", _foot(report), class_="note"),
        ]
        if command := report.get("command"):
            parts.append(element("pre", element("code", command), class_="wide", tabindex="0"))
    return joined(parts)


_SAID = {
    "spread": "beats random weights beyond the interval",
    "interval": "beats random weights beyond the interval, but by less than random networks differ",
    "": "does not beat random weights beyond the interval",
}


def _verdict(name: str, report: Mapping[str, Any]) -> Markup:
    """Whether the interval of the paired difference to random weights leaves out zero."""
    said = []
    for row in report["rows"]:
        if not _is_ours(row["model"], name):
            continue
        for probe, levels in row.get("results", {}).items():
            level, metric = _headline_metric(report)
            apart = levels[level][metric].get("difference")
            if apart is None:
                continue
            by = told(apart, DIGITS.get(metric, 3))
            said.append(f"{PROBES.get(probe, probe)} probe: {_SAID[gain(row, probe, level, metric)]} ({by}).")
    return element("p", " ".join(said) or "Not compared with random weights.", class_="note")


def _headline_metric(report: Mapping[str, Any]) -> tuple[str, str]:
    levels = next(iter(_first_measured(report).values()))
    level = "clip" if "clip" in levels else next(iter(levels))
    return level, next((metric for metric in _SHOWN if metric in levels[level]), next(iter(levels[level])))


def _headline_cells(row: Mapping[str, Any], probes: list[str]) -> list[str]:
    """A value with its interval on a line below it, for each probe: two probes fit on a phone."""
    if "results" not in row:
        return ["not run"] * len(probes)
    level, metric = _headline_metric({"rows": [row]})
    cells: list[str] = []
    for probe in probes:
        levels = row["results"][probe]
        value, _, interval = told(levels[level][metric], DIGITS.get(metric, 3)).partition(" ")
        cells.append(joined([value, element("small", interval)], " "))
    return cells


def _first_measured(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(row["results"] for row in report["rows"] if "results" in row)


def _difference(values: Mapping[str, Any]) -> str:
    metric = next((metric for metric in _SHOWN if metric in values), next(iter(values)))
    gain = values[metric].get("difference")
    return told(gain, DIGITS.get(metric, 3)) if gain else ""


def _is_ours(model: str, name: str) -> bool:
    return model == f"{OWNER}{name}"


def _row_name(model: str, name: str) -> str:
    """A row as a reader understands it: the weight, random weights, or the control."""
    if _is_ours(model, name):
        return "this weight"
    kind = kind_of(model)
    if kind == "random":
        return f"random {model.removeprefix('random:')}"
    return "SimCLR, equal budget" if kind == "simclr" else model


def _part(report: Mapping[str, Any]) -> str:
    return "locked test part" if report["protocol"]["part"] == "test" else "inner folds"


def _foot(report: Mapping[str, Any]) -> str:
    parts = [f"{part}: {n['clips']} clips of {n['groups']} groups" for part, n in report["counts"].items()]
    missing = "".join(f" {row['model']} was not run: {row['not_run']}." for row in report["rows"] if "not_run" in row)
    return f"{report['task']}; {'; '.join(parts)}. In brackets: 95 % intervals over groups.{missing}"
