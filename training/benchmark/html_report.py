"""The report of a leaderboard: models beside each other, with intervals, as one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.benchmark.headline import headline_metric
from training.benchmark.markdown import evaluated_counts
from training.benchmark.models import Entry
from training.benchmark.task import Task
from usbackbones._words import intervals_over, plural, with_interval
from usbackbones.features.extract import embed
from usbackbones.report import Features, Section, table_section, write_report
from usbackbones.report.features import maps_section
from usbackbones.report.markup import element, joined
from usbackbones.report.plots import Axes, curves, whiskers
from usbackbones.report.runs import NAMES

_CURVES = 8
"""Of a plot; there are so many colors."""


def write_comparison(
    file: Path, found: Mapping[str, Any], tasks: Sequence[Task], rows: Sequence[Entry], cache: Path | None, bf16: bool
) -> None:
    """Write the report of a leaderboard.

    `found` is what it writes as JSON, and `tasks` are in the same order. Frames and names of clips are left out. The
    maps are of the part that probes are fitted on: the locked part is evaluated once, and not looked at.
    """
    sections: list[Section] = []
    for task, (name, report) in zip(tasks, found["tasks"].items(), strict=True):
        sections += _of_task(name, report)
        for entry in rows:
            if entry.members and len(task.pretrain.frames):
                sections.append(_map(task, entry, cache, bf16))
    facts = {"tasks": ", ".join(found["tasks"]), "models": str(len(rows)), "command": found["command"]}
    write_report(file, "Models beside each other", facts=facts, sections=sections)


def _of_task(name: str, report: Mapping[str, Any]) -> list[Section]:
    measured = [row for row in report["rows"] if "results" in row]
    _, level, metric = headline_metric(report)
    lines = {
        f"{row['model']}, {probe}": values[level][metric]
        for row in measured
        for probe, values in row["results"].items()
    }
    title = f"{NAMES.get(metric, metric)} by {level}"
    over = intervals_over(evaluated_counts(report)["groups"], "group")
    note = f"{over[0].upper()}{over[1:]}; a line of the plot draws them. {_random(report)}"
    sections = [
        Section(f"{name}: {title}", whiskers(lines, title), note),
        table_section(f"{name}: all numbers", *_numbers(report), note=report.get("about") or ""),
    ]
    if shots := _few_shot(measured):
        most = max(x for points in shots.values() for x, _ in points)
        axes = Axes((0, most), (0, 1), "labelled groups of each class", "balanced accuracy by clip")
        named = list(shots.items())
        plots = [
            element("figure", curves(dict(named[place : place + _CURVES]), f"{name}: few labelled groups", axes))
            for place in range(0, len(named), _CURVES)
        ]
        note = f"Means over {plural(report['protocol']['draws'], 'draw')} of the groups; intervals are not drawn."
        sections.append(Section(f"{name}: few labelled groups", joined(plots), note))
    return sections


def _random(report: Mapping[str, Any]) -> str:
    """What the random rows are, and which rows were not run."""
    networks = max((row["networks"] for row in report["rows"] if row["model"].startswith("random:")), default=0)
    of = (
        f"are the mean of {networks} networks" if networks > 1 else "are one network, so that their spread is not known"
    )
    told = f"Random rows {of}: a row that is not above them shows no gain of pretraining here." * bool(networks)
    missing = [
        f"{row['model']} was not run: {row['not_run'].split('. ')[0]}." for row in report["rows"] if "not_run" in row
    ]
    return " ".join([told, *missing])


def _numbers(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of every metric, and of what was not run."""
    metrics: dict[str, None] = {}
    for row in report["rows"]:
        for levels in row.get("results", {}).values():
            for values in levels.values():
                metrics |= dict.fromkeys(values)
    rows = []
    for row in report["rows"]:
        if "not_run" in row:
            rows.append([row["model"], "not run", *[""] * len(metrics), row.get("overlap", "")])
        for probe, levels in row.get("results", {}).items():
            for level, values in levels.items():
                cells = [with_interval(values[metric]) if metric in values else "" for metric in metrics]
                rows.append([row["model"], f"{probe}, {level}", *cells, row.get("overlap", "")])
    return ["model", "probe, level", *(NAMES.get(metric, metric) for metric in metrics), "overlap"], rows


def _few_shot(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """{model and probe: (labelled groups, mean)}, the probe that is told first, of the counts that are numbers."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for probe, by_shots in list(row.get("few_shot", {}).items())[:1]:
            points = [(float(shot), float(few["value"])) for shot, few in by_shots.items() if shot.isdigit()]
            if points:
                found[f"{row['model']}, {probe}"] = sorted(points)
    return found


def _map(task: Task, entry: Entry, cache: Path | None, bf16: bool) -> Section:
    part = task.pretrain
    label = [task.classes[y] for y in part.label] if task.classes else [""] * len(part.label)
    given = Features(embed(entry.members[0], part.frames, bf16=bf16, cache=cache), label, part.clip, part.group)
    return maps_section(given, False, f"{task.name}: features of {entry.name}")
