"""Render a weight's model card from its entry in zoo.json; the card says nothing that the entry does not."""

import re
from typing import Any

from training.benchmark.markdown import compact, gain, markdown
from training.data.fingerprints import Overlap
from training.release.card_metadata import metadata
from training.release.figure import figure, panel_of


def render_card(name: str, entry: dict[str, Any]) -> str:
    """README.md of a weight's folder: the Hub's metadata block, then the card."""
    return f"---\n{metadata(name, entry).to_yaml()}\n---\n\n{_body(name, entry)}"


def render_readme(text: str, zoo: dict[str, Any]) -> str:
    """The project's README with its list of weights and its table made anew between their markers."""
    entries = zoo["weights"]
    weights = ["| name | method | input | features | weights' licence | MB |", "|---|---|---|---|---|---|"]
    for name, entry in entries.items():
        given = entry["input"]
        weights.append(
            f"| [`{name}`](model_cards/{name}/README.md) | {entry['paper']['title']} | {given['size']} px, mean "
            f"{given['mean']}, std {given['std']} | {entry['num_features']} | {entry['licences']['weights']} "
            f"| {entry['bytes'] / 1e6:.1f} |"
        )
    text = between(text, "weights", "\n".join(weights))
    default = zoo["default"]
    verdicts = [f"**{default}**: {_verdict(entries[default]['metrics'], default)}"] if default else []
    return between(text, "table", "\n\n".join([*verdicts, compact(all_reports(zoo))]))


def render_results(zoo: dict[str, Any]) -> str:
    """docs/results.md: the whole table of every task."""
    tables = [f"## {task}\n\n{markdown(report)}" for task, report in all_reports(zoo).items()]
    return "\n\n".join(["# All results", "Rendered from usbackbones/zoo.json; never edited by hand.", *tables, ""])


def render_figure(zoo: dict[str, Any]) -> str:
    """docs/results.svg: the same as a picture."""
    return figure([panel_of(task, report) for task, report in all_reports(zoo).items()])


def all_reports(zoo: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The reports of all weights, {task: report}, with every row once: ours first, then those that they share."""
    merged: dict[str, dict[str, Any]] = {}
    for entry in zoo["weights"].values():
        for task, report in (entry["metrics"] or {}).items():
            whole = merged.setdefault(task, report | {"rows": [], "commands": []})
            whole["commands"] += [] if report["command"] in whole["commands"] else [report["command"]]
            known = {row["model"] for row in whole["rows"]}
            whole["rows"] += [row for row in report["rows"] if row["model"] not in known]
    for report in merged.values():
        report["rows"].sort(key=lambda row: not row["model"].startswith("usbackbones/"))
    return merged


def own_rows(name: str, report: dict[str, Any]) -> dict[str, Any]:
    """The report of a task without the rows of other weights of ours."""
    mine = f"usbackbones/{name}"
    rows = [row for row in report["rows"] if row["model"] == mine or not row["model"].startswith("usbackbones/")]
    return report | {"rows": rows}


def between(text: str, marker: str, content: str) -> str:
    """The text with what stands between a marker and its end replaced."""
    pattern = re.compile(rf"(<!-- {marker}:[^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the text has lost its marker <!-- {marker}: ... -->; put it back where the {marker} belong")
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def _body(name: str, entry: dict[str, Any]) -> str:
    training, corpus, given = entry["training"], entry["corpus"], entry["input"]
    recipe, licences = training["recipe"], entry["licences"]
    lines = [
        f"# {name}",
        "",
        f"A {entry['arch']} pretrained on ultrasound clips with {entry['paper']['title']}. "
        "**Not a medical device**: for research, never for diagnosis.",
        "",
        _verdict(entry["metrics"], name),
        "",
        "```python",
        "import timm, usbackbones",
        f'model = timm.create_model("usbackbones/{name}", pretrained=True, in_chans=1, num_classes=0)',
        "```",
        "",
        "Without the package, from a checkout: "
        f'`timm.create_model("local-dir:model_cards/{name}", pretrained=True, num_classes=0)`.',
        "",
        "## Input",
        "",
        f"Gray, or gray in three equal channels, {given['size']} x {given['size']} px ({given['crop_mode']} resize, "
        f"{given['interpolation']}), values 0..1 less mean {given['mean']}, divided by {given['std']}, the same for "
        "every channel. `usbackbones.transforms(model)` does this. Output: "
        f"{entry['num_features']} features. `model.safetensors` has {entry['bytes']:,} bytes, "
        f"sha256 `{entry['sha256']}`.",
        "",
        "## Training",
        "",
        f"{training['steps']:,} steps of {training['batch']} clips ({training['views']:,} views) at "
        f"{recipe['augment']['size']} px, {recipe['optimiser']}, peak learning rate {recipe['lr']:g}, "
        f"from {recipe.get('init') or 'random weights'}, "
        f"seed {recipe['seed']}, mean loss of the last 50 steps {training['loss']:.3f}. {training['labels']}",
        "",
        training["choice"],
        *_pyramid(training.get("pyramid")),
        "",
        "```",
        training["command"],
        "```",
        "",
        "## Data",
        "",
        f"{len(corpus['clips'])} clips ({corpus['frames']:,} frames) of {len(corpus['groups'])} groups from "
        f"{', '.join(corpus['sources'])}; organ: {', '.join(corpus['organs'])}. "
        f"{_meta(corpus)}Groups of a locked test part that were trained on: {entry['overlap']['locked_test_groups']}.",
        *_overlaps(entry["overlap"].get("benchmarks", {})),
        "",
        "## Licences",
        "",
        f"Code {licences['code']}. Weights {licences['weights']}. Data: {'; '.join(licences['data'])}.",
        "",
        "## What it is worth",
        "",
        _metrics(entry.get("metrics")),
        "",
        "## Limits",
        "",
        "Trained on small public collections. Where class and clinic are confounded, as in the lung videos, what it "
        "separates may partly be scanners. Intervals are wide because there are few groups. Not tested beyond the "
        "tasks above.",
        "",
        "## Source",
        "",
        f"{entry['paper']['url']}. Trained anew with the code of this repository; these are not the authors' weights.",
        "",
    ]
    return "\n".join(lines)


def _pyramid(shapes: dict[str, list[int]] | None) -> list[str]:
    if not shapes:
        return []
    laterals = sorted(key for key in shapes if key.startswith("lateral.") and key.endswith(".weight"))
    channels = ", ".join(str(shapes[key][1]) for key in laterals)
    told = f"`pyramid.safetensors` holds the feature pyramid that was learned with it, on maps of {channels} channels:"
    return ["", f"{told} `training.nn.feature_pyramid.Pyramid` takes its tensors, to be fine-tuned below a dense head."]


def _meta(corpus: dict[str, Any]) -> str:
    clips = corpus.get("meta_clips", 0)
    return f"{clips} of them gave pairs for the meta loss alone, which the count of views leaves out. " if clips else ""


def _overlaps(benchmarks: dict[str, Any]) -> list[str]:
    """What was seen of each benchmark; empty for an entry from before there was a ledger."""
    if not benchmarks:
        return []
    lines = ["", "Seen of each benchmark, by patient and by fingerprint of frames:", ""]
    return lines + [
        f"- {name}: {Overlap(found['verdict'], found['clips'])}" for name, found in sorted(benchmarks.items())
    ]


def _verdict(metrics: dict[str, Any] | None, name: str) -> str:
    """What the intervals allow to be said: where the weight beats random weights of its architecture, and where not."""
    if metrics is None:
        return "It has not been measured yet."
    where: dict[str, list[str]] = {"spread": [], "interval": [], "": []}
    for report in metrics.values():
        row = next(row for row in report["rows"] if row["model"] == f"usbackbones/{name}")
        metric = "mae" if report.get("kind") == "number" else "balanced_accuracy"
        for probe, levels in row["results"].items():
            gains = {level: gain(row, probe, level, metric) for level in ("frame", "clip") if level in levels}
            for kind, found in where.items():
                won = [f"{level}s" for level, one in gains.items() if one == kind]
                if kind and won:
                    found.append(f"{report['task']} ({probe} probe, {' and '.join(won)})")
                elif not kind and not any(gains.values()):
                    found.append(f"{report['task']} ({probe} probe)")
    random = "random weights of the architecture"
    said = {
        "spread": f"beat {random} beyond the interval on ",
        "interval": f"beat {random} beyond the interval, but by less than random networks differ, on ",
        "": f"do **not** beat {random} beyond the interval on ",
    }
    lines = [f"{said[kind]}{'; '.join(found)}." for kind, found in where.items() if found]
    return "On the locked test parts, its frozen features " + " They ".join(lines)


def _metrics(metrics: dict[str, Any] | None) -> str:
    if metrics is None:
        return "Not measured yet."
    return "\n\n".join(markdown(report) for report in metrics.values())
