"""All weights as one table of contents: zoo.json, the records beside the cards, and the control rows, joined.

A control (random weights, SimCLR, ImageNet) stands once, in model_cards/controls.json, whichever weights were evaluated
beside it. What a task is (classes, protocol, counts) stands there too, since every row of a table has it in common.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.benchmark.cues import CUE
from training.benchmark.headline import headline_metric
from training.data.errors import CorpusError
from training.data.records import CARDS, RECORD, ZOO, patients_of, read_json, readable, write_all

CONTROLS = "controls.json"
_IDENTITY = ("arch", "tag", "method", "tier", "hub_id", "revision")
LOADING = (*_IDENTITY, "sha256", "bytes", "num_features", "model_args", "input", "licences")
"""The fields of an entry of zoo.json; what else is known of a weight is in its record."""
OWNER = "usbackbones/"
_COMMON = ("task", "kind", "classes", "about", "protocol", "counts")
_FIXED = ("kind", "classes", "protocol", "counts")
"""What may not differ between the rows of a table."""


def read_weights(zoo: Path = ZOO, cards: Path = CARDS, ahead: Mapping[Path, str] | None = None) -> dict[str, Any]:
    """The zoo with the whole entry of every weight: what loading needs, its record, and `metrics` with all rows.

    Files of `ahead` are not written yet and are read from there, see `files_of`.

    Raises:
        CorpusError: if a record is missing, or names a control that is not in controls.json.
    """
    ahead = ahead or {}

    def read(file: Path) -> Any:
        return json.loads(ahead[file]) if file in ahead else read_json(file)

    content = read(zoo)
    controls = read(cards / CONTROLS) if cards / CONTROLS in ahead else read_controls(cards)
    whole = {
        name: _joined(name, entry, read(cards / name / RECORD), controls) for name, entry in content["weights"].items()
    }
    return content | {"weights": whole}


def read_controls(cards: Path = CARDS) -> dict[str, Any]:
    """{task: what it is, and its control rows by `row_key`}; empty where nothing was evaluated yet."""
    return read_json(cards / CONTROLS) if (cards / CONTROLS).is_file() else {}


def write_weights(content: Mapping[str, Any], zoo: Path = ZOO, cards: Path = CARDS) -> None:
    """Write what `read_weights` returned, see `files_of`."""
    write_all(files_of(content, zoo, cards))


def files_of(content: Mapping[str, Any], zoo: Path = ZOO, cards: Path = CARDS) -> dict[Path, str]:
    """The files of what `read_weights` returned: zoo.json first, then controls and records, which it stands on.

    Raises:
        CorpusError: if two weights were evaluated on different tasks of one name.
    """
    controls: dict[str, Any] = {}
    records, entries = {}, {}
    for name, entry in content["weights"].items():
        kept = {key: value for key, value in entry.items() if key not in (*LOADING, "metrics", "headline")}
        metrics = {task: _parted(report, controls) for task, report in (entry["metrics"] or {}).items()}
        records[name] = kept | {"metrics": metrics or None}
        entries[name] = {key: entry[key] for key in LOADING} | {"headline": headline(entry["metrics"] or {})}
    files: dict[Path, Any] = {zoo: {**content, "weights": entries}} | ({cards / CONTROLS: controls} if controls else {})
    files |= {cards / name / RECORD: record for name, record in records.items()}
    return {file: readable(told) + "\n" for file, told in files.items()}


def entry_of(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The entry of a weight in what `read_weights` returned.

    Raises:
        CorpusError: if there is no such weight.
    """
    if name not in content["weights"]:
        raise CorpusError(f"{name} is not in the zoo; there is: {', '.join(content['weights']) or 'nothing yet'}")
    entry: dict[str, Any] = content["weights"][name]
    return entry


def shown_order(content: Mapping[str, Any]) -> list[str]:
    """Names of the weights as pages list them: the default first."""
    return sorted(content["weights"], key=lambda name: name != content["default"])


def corpus_told(corpus: Mapping[str, Any]) -> str:
    """How many clips, frames and groups a corpus holds, as "1,234 clips (5,678 frames) of 90 groups"."""
    # A record without "patients" names its groups alone: of those that two sources call alike it counts one.
    groups = len(patients_of(corpus) if corpus.get("patients") else corpus["groups"])
    clips, frames = f"{_many(len(corpus['clips']), 'clip')}", f"{_many(corpus['frames'], 'frame')}"
    return f"{clips} ({frames}) of {_many(groups, 'group')}"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def own_row(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The row of a weight of ours in the report of a task."""
    return next(row for row in report["rows"] if row["model"] == f"{OWNER}{name}")


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """One number a task: {task: {metric, value, low, high, random, simclr, imagenet}}, null for what was not run."""
    found: dict[str, Any] = {}
    for task, report in metrics.items():
        probe, level, metric = headline_metric(report)
        digits = 1 if metric == "mae" else 3
        numbers: dict[str, Any] = {"metric": metric}
        for row in report["rows"]:
            told: Any = row["results"][probe][level][metric] if "results" in row else None
            if row["model"].startswith(OWNER):
                numbers |= {key: round(told[key], digits) for key in ("value", "low", "high")}
            elif not row["model"].startswith(CUE) and (told or kind_of(row["model"]) not in numbers):
                numbers[kind_of(row["model"])] = round(told["value"], digits) if told else None
        found[task] = numbers
    return found


def kind_of(model: str) -> str:
    """Which control a row is, by its name: "random", "simclr", "imagenet", or the name of a cue."""
    if model.startswith(CUE):
        return model.removeprefix(CUE)
    if model.startswith("random:"):
        return "random"
    return "simclr" if model.startswith(("run:", "SimCLR")) else "imagenet"


def row_key(row: Mapping[str, Any]) -> str:
    """What tells one control from another: its name, and its input size, which random weights take from others."""
    return f"{row['model']}, {side_of(row)} px" if "input" in row else row["model"]


def side_of(row: Mapping[str, Any]) -> int:
    """Side of a row's input in pixels; 0 for a row that was not run."""
    return row["input"]["input_size"][-1] if "input" in row else 0


def put_report(content: Mapping[str, Any], name: str, report: Mapping[str, Any]) -> list[str]:
    """Put the report of a task into a weight's entry, without the rows of other weights of ours.

    Controls that it has in common with other weights are replaced there too, so that each stands once. `content`,
    from `read_weights`, is changed.

    Returns:
        The keys of the controls whose numbers are others now.

    Raises:
        CorpusError: if the weight has no row in the report.
    """
    models = [row["model"] for row in report["rows"]]
    if f"{OWNER}{name}" not in models:
        raise CorpusError(f"{report['task']} has no row {OWNER}{name}, only {', '.join(models)}")
    rows = [row for row in report["rows"] if row["model"] == f"{OWNER}{name}" or not row["model"].startswith(OWNER)]
    rows = [row for row in rows if row.get("method", "simclr") == "simclr"]  # a run of another method is no control
    entry, task, changed = content["weights"][name], report["task"], set()
    entry["metrics"] = (entry["metrics"] or {}) | {task: {**report, "rows": rows}}
    controls = {row_key(row): row for row in rows if "results" in row and not row["model"].startswith(OWNER)}
    for other in content["weights"].values():
        beside = (other["metrics"] or {}).get(task, {"rows": []})["rows"]
        for place, row in enumerate(beside):
            new = controls.get(row_key(row), row)
            changed |= {row_key(row)} if new.get("results") != row.get("results") else set()
            beside[place] = new
    return sorted(changed)


def all_reports(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The reports of all weights, {task: report}, with every row once: ours first, then those that they share.

    Rows whose frozen features stand there at several input sizes get the size into their name, on every task (U-Nets
    of a table share one, whatever the weights are evaluated at); a row that was not run gives way to one that was.
    """
    merged: dict[str, dict[str, Any]] = {}
    for entry in content["weights"].values():
        for task, report in (entry["metrics"] or {}).items():
            whole = merged.setdefault(task, report | {"rows": [], "commands": []})
            whole["commands"] += [] if report["command"] in whole["commands"] else [report["command"]]
            known = {row_key(row) for row in whole["rows"]}
            whole["rows"] += [row for row in report["rows"] if row_key(row) not in known]
    sides: dict[str, set[int]] = {}
    frozen = [report for report in merged.values() if report.get("kind") != "masks"]
    for row in (row for report in frozen for row in report["rows"] if "results" in row):
        sides.setdefault(row["model"], set()).add(side_of(row))
    for report in merged.values():
        rows = sorted(report["rows"], key=lambda row: not row["model"].startswith(OWNER))
        run = {row["model"] for row in rows if "results" in row}
        report["rows"] = [
            {**row, "model": f"{row['model']} at {side_of(row)} px"} if len(sides.get(row["model"], ())) > 1 else row
            for row in rows
            if "results" in row or row["model"] not in run
        ]
    return merged


def _joined(name: str, entry: Mapping[str, Any], record: dict[str, Any], controls: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {}
    for task, told in (record["metrics"] or {}).items():
        shared = controls.get(task, {"rows": {}})
        missing = [key for key in told["controls"] if key not in shared["rows"]]
        if missing:
            raise CorpusError(f"{name}: {CONTROLS} has no row {missing[0]!r} of {task}: restore it from git")
        rows = [told["row"], *(shared["rows"][key] for key in told["controls"])]
        about = {key: shared[key] for key in _COMMON}
        metrics[task] = about | {"rows": rows} | {key: told[key] for key in ("reference", "versions", "command")}
    return {**entry, **record, "metrics": metrics or None}


def _parted(report: Mapping[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
    """A weight's part of a report; the rest goes into the controls."""
    task = report["task"]
    shared = controls.setdefault(task, {key: report[key] for key in _COMMON} | {"rows": {}})
    for key in _FIXED:
        if shared[key] != report[key]:
            raise CorpusError(
                f"{task}: {key} is {report[key]} in one report and {shared[key]} in another, so that their rows are no "
                "table: evaluate every weight of the zoo again on this task, in one command"
            )
    own, *others = sorted(report["rows"], key=lambda row: not row["model"].startswith(OWNER))
    for row in others:
        shared["rows"].setdefault(row_key(row), row)
    told = {key: report[key] for key in ("reference", "versions", "command")}
    return {"row": own, "controls": [row_key(row) for row in others], **told}
