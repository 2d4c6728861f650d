"""The numbers of a weight on the page: beside random weights and SimCLR, with intervals."""

from collections.abc import Mapping
from typing import Any

from training.benchmark.headline import gain, headline_metric
from training.benchmark.markdown import PARTS, PROBE_NAMES, brackets, evaluated_counts
from training.release.records import OWNER, kind_of, own_row
from usbackbones._words import plural, with_interval
from usbackbones.report.markup import Markup, element, joined, table
from usbackbones.report.runs import NAMES

DIGITS = {"mae": 1, "hd95": 1, "circumference_error": 1}
"""Of a metric that has a unit."""


def headline(name: str, metrics: Mapping[str, Any] | None) -> Markup:
    """One short table a task: one metric per clip, of the weight, of random weights and of SimCLR."""
    if not metrics:
        return element("p", "Not measured yet.")
    parts = []
    for report in metrics.values():
        rows, classes = [], []
        probes = list(next(row["results"] for row in report["rows"] if "results" in row))
        _, level, metric = headline_metric(report)
        for row in report["rows"]:
            rows.append([_row_name(row["model"], name), *_headline_cells(row, probes, level, metric)])
            classes.append("ours" if _is_ours(row["model"], name) else "")
        label = f"{report['task']}: {NAMES.get(metric, metric)} by {level}, on {PARTS[report['protocol']['part']]}"
        header = ["", *(PROBE_NAMES[probe] for probe in probes)]
        parts += [element("p", label, class_="note"), table(header, rows, label, classes), _verdict(name, report)]
    return joined(parts)


def all_numbers(name: str, metrics: Mapping[str, Any]) -> Markup:
    """Every probe, level and metric, with the paired difference to random weights."""
    parts = []
    for report in metrics.values():
        rows, classes, names = [], [], list[str]()
        metric = headline_metric(report)[2]
        for row in report["rows"]:
            for probe, levels in row.get("results", {}).items():
                for level, values in levels.items():
                    names = names or list(values)
                    shown = [with_interval(values[key], DIGITS.get(key, 3)) if key in values else "" for key in names]
                    probed = f"{PROBE_NAMES[probe]}, {level}"
                    apart = values[metric].get("difference")
                    less = with_interval(apart, DIGITS.get(metric, 3)) if apart else ""
                    rows.append([_row_name(row["model"], name), probed, *shown, less])
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
    said, row = [], own_row(report, name)
    _, level, metric = headline_metric(report)
    for probe, levels in row["results"].items():
        if apart := levels[level][metric].get("difference"):
            by = with_interval(apart, DIGITS.get(metric, 3))
            said.append(f"{PROBE_NAMES[probe]}: {_SAID[gain(row, probe, level, metric)]} ({by}).")
    return element("p", " ".join(said) or "Not compared with random weights.", class_="note")


def _headline_cells(row: Mapping[str, Any], probes: list[str], level: str, metric: str) -> list[str]:
    """A value with its interval on a line below it, for each probe: two probes fit on a phone."""
    if "results" not in row:
        return ["not run"] * len(probes)
    cells: list[str] = []
    for probe in probes:
        levels = row["results"][probe]
        value, _, interval = with_interval(levels[level][metric], DIGITS.get(metric, 3)).partition(" ")
        cells.append(joined([value, element("small", interval)], " "))
    return cells


def _is_ours(model: str, name: str) -> bool:
    return model == f"{OWNER}{name}"


def _row_name(model: str, name: str) -> str:
    """A row as a reader understands it: the weight, random weights, or the control."""
    if _is_ours(model, name):
        return "this weight"
    kind = kind_of(model)
    if kind == "random":
        return f"random {model.removeprefix('random:')}"
    return "SimCLR" if kind == "simclr" else model


def _foot(report: Mapping[str, Any]) -> str:
    counts = report["counts"].items()
    parts = [f"{part}: {plural(n['clips'], 'clip')} of {plural(n['groups'], 'group')}" for part, n in counts]
    missing = "".join(f" {row['model']} was not run: {row['not_run']}." for row in report["rows"] if "not_run" in row)
    return f"{report['task']}; {'; '.join(parts)}. {brackets(evaluated_counts(report)['groups'])}{missing}"
