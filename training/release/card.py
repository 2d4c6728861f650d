"""Render a weight's model card, one screen, from its entry and record; the card says nothing that they do not."""

from collections.abc import Iterable, Mapping
from typing import Any

from training.benchmark.headline import DENSE_PROBE, compared, gain, headline_metric, task_head
from training.benchmark.markdown import PARTS, interval_cell
from training.data.fingerprints import Overlap
from training.engine.run_folder import AVERAGED
from training.release.card_metadata import metadata
from training.release.records import OWNER, corpus_told, kind_of, own_row

CONTROLS = {"imagenet": "ImageNet", "simclr": "SimCLR", "random": "random weights"}
"""The rows below a weight's own, and how a reader knows them."""
NULLS = {"container": "container of the file", "geometry": "size of the frame", "border": "border of the frame"}
"""The rows of cues that are no medicine, which every table has."""
TASKS_TO_BEAT = 4
"""On so many tasks a weight must beat random weights beyond the interval, or its card begins with where it does not."""
_OTHER_PROBES = {"ridge": "ridge for mm", DENSE_PROBE: "for Dice a U-Net on the tuned weights"}
"""What is measured in place of a linear probe, and on which tasks."""
_LIMITS = (
    "Where class and clinic are confounded, as in the lung videos, what it separates may partly be scanners. Intervals "
    "over few groups are wide. Not tested beyond these tasks."
)


def render_card(name: str, entry: dict[str, Any]) -> str:
    """README.md of a weight's folder: the Hub's metadata block, then the card of a whole entry, see `read_weights`."""
    return f"---\n{metadata(name, entry).to_yaml()}\n---\n\n{_body(name, entry)}"


def verdict(metrics: Mapping[str, Any] | None, name: str) -> str:
    """Where a linear probe on the weight's frozen features beats random weights and ImageNet, and where it does not."""
    if not metrics:
        return "Not evaluated yet."
    rows = {task: own_row(report, name) for task, report in metrics.items()}
    where: dict[str, list[str]] = {"spread": [], "interval": [], "": [], "unknown": []}
    for task, report in metrics.items():
        known = _beside_random(rows[task], report)
        where[gain(rows[task], *headline_metric(report)) if known else "unknown"].append(task)
    said = {
        "spread": "better than random weights beyond the 95 % interval on",
        "interval": "better beyond the interval, but by less than random seeds differ, on",
        "": "**not** better on",
        "unknown": "not compared with them on",
    }
    told = "; ".join(f"{said[kind]} {', '.join(tasks)}" for kind, tasks in where.items() if tasks)
    probes = {headline_metric(report)[0] for report in metrics.values()}
    others = [said for probe, said in _OTHER_PROBES.items() if probe in probes]
    other = f" ({', '.join(others)})" * bool(others)
    return f"Frozen features with a linear probe{other}, on {_parts(metrics)}: {told}.{_to_imagenet(metrics, rows)}"


def _beside_random(row: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    """Whether a row was compared with random weights."""
    probe, level, metric = headline_metric(report)
    return "difference" in row["results"][probe][level][metric]


def _parts(metrics: Mapping[str, Any]) -> str:
    """What the tasks are evaluated on; where that differs, which on what."""
    tasks: dict[str, list[str]] = {}
    for task, report in metrics.items():
        tasks.setdefault(PARTS[report["protocol"]["part"]], []).append(task)
    return ", ".join(part + f" ({', '.join(of)})" * (len(tasks) > 1) for part, of in tasks.items())


def _to_imagenet(metrics: Mapping[str, Any], rows: Mapping[str, Any]) -> str:
    """Where the weight is better than the ImageNet row, and where worse; empty where no such row was run."""
    places = {task: headline_metric(report) for task, report in metrics.items()}
    where: dict[str, list[str]] = {"better": [], "worse": [], "": []}
    for task, (probe, level, metric) in places.items():
        if "to_imagenet" in rows[task]["results"][probe][level][metric]:
            where[compared(rows[task], "to_imagenet", probe, level, metric)].append(task)
    said = {"better": "better on", "worse": "**worse** on", "": "not told apart on"}
    told = "; ".join(f"{said[kind]} {', '.join(tasks)}" for kind, tasks in where.items() if tasks)
    run = (row["model"] for report in metrics.values() for row in report["rows"] if "results" in row)
    model = next((model for model in run if not model.startswith(OWNER) and kind_of(model) == "imagenet"), "")
    return f" Beside ImageNet weights (`{model}`), beyond the interval: {told}." if told else ""


def _shortfall(metrics: Mapping[str, Any] | None, name: str) -> str:
    """The first sentence of a card whose weight beats random weights on fewer tasks than a good one must."""
    if not metrics:
        return ""
    rows = {task: (own_row(report, name), report) for task, report in metrics.items()}
    known = {task: row for task, row in rows.items() if _beside_random(*row)}
    lost = [task for task, (row, report) in known.items() if not gain(row, *headline_metric(report))]
    if not lost or len(known) - len(lost) >= TASKS_TO_BEAT:
        return ""
    return f"Frozen, **it does not beat random weights** beyond the 95 % interval on {', '.join(lost)}. "


def _body(name: str, entry: dict[str, Any]) -> str:
    corpus, given, paper = entry["corpus"], entry["input"], entry["paper"]
    licences, seen = entry["licences"], entry["overlap"]
    retrained = "trained with the code of this repository; these are not the authors' weights"
    lines = [
        f"# {name}",
        "",
        f"{_shortfall(entry['metrics'], name)}A {entry['arch']} pretrained on ultrasound clips with "
        f"[{paper['title']}]({paper['url']}), {retrained}. **Not a medical device**: for research, never for "
        f"diagnosis. {verdict(entry['metrics'], name)}",
        "",
        "```python",
        "import timm, usbackbones",
        "",
        f'model = timm.create_model("{OWNER}{name}", pretrained=True, in_chans=1, num_classes=0)',
        "transform = usbackbones.transforms(model)",
        "```",
        "",
        f'With timm alone, from a clone: `timm.create_model("local-dir:model_cards/{name}", pretrained=True)`. Input: '
        f"gray, or gray in three equal channels, {given['size']} x {given['size']} px, mean {given['mean']}, std "
        f"{given['std']}; output: {entry['num_features']} features.",
        "",
        "## Results",
        "",
        *_results(name, entry["metrics"]),
        "",
        "## Data",
        "",
        f"{corpus_told(corpus)} from {', '.join(corpus['sources'])}; organ: "
        f"{', '.join(corpus['organs'])}. {_meta(corpus)}Locked test groups among them: "
        f"{seen['locked_test_groups']}.{_overlaps(seen.get('benchmarks', {}))}",
        "",
        "## Licences",
        "",
        f"Code {licences['code']}. Weights {licences['weights']}. Data: {'; '.join(licences['data'])}.",
        "",
        "## Limits",
        "",
        _LIMITS,
        "",
        *_training(entry),
        "",
    ]
    return "\n".join(lines)


def _results(name: str, metrics: Mapping[str, Any] | None) -> list[str]:
    """The table of a weight and its controls, and the commands of those that were not run."""
    if not metrics:
        command = f"python -m training.benchmark.leaderboard {OWNER}{name} --data FOLDER"
        return [f"Not evaluated yet: `{command}`."]
    kinds = CONTROLS | NULLS
    rows: dict[str, list[str]] = {kind: [] for kind in ("this weight", *kinds.values())}
    not_run: dict[str, str] = {}
    for report in metrics.values():
        cells: dict[str, str] = {}
        for row in report["rows"]:
            own = row["model"].startswith(OWNER)
            kind = "this weight" if own else kinds[kind_of(row["model"])]
            if "results" in row or kind not in cells:  # of two ImageNet rows the one that was run
                cells[kind] = _cell(row, report)
            if "not_run" in row:
                # Others' weights are run by the weight's own command, where they can be fetched.
                command = report["command"] if kind_of(row["model"]) == "imagenet" else row["command"]
                not_run.setdefault(f"{kind} (`{row['model']}`)", command)
        for kind in NULLS.values():
            if report.get("kind") == "masks":
                cells[kind] = ""  # no feature of a whole image tells a mask
            elif kind not in cells:
                not_run.setdefault(kind, report["command"])
        for kind, shown in rows.items():
            shown.append(cells.get(kind, "not run"))
    heads = [task_head(task, report) for task, report in metrics.items()]
    lines = [
        "Balanced accuracy of clips (linear probe), or what the head names: mean absolute error in mm (ridge), Dice "
        "(U-Net); 95 % interval over groups:",
        "",
    ]
    lines += [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    lines += [f"| {kind} | {' | '.join(shown)} |" for kind, shown in rows.items()]
    commands = dict.fromkeys(not_run.values())
    told = [f"{', '.join(kind for kind in not_run if not_run[kind] == one)}: `{one}`" for one in commands]
    missing = f"Not run: {'; '.join(told)}. " if told else ""
    return [
        *lines,
        "",
        f"{missing}All metrics: `record.json`, and `docs/results.md` of the repository.",
    ]


def _cell(row: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    if "results" not in row:
        return "not run"
    probe, level, metric = headline_metric(report)
    return interval_cell(row["results"][probe][level][metric], 1 if metric == "mae" else 2)


def _training(entry: Mapping[str, Any]) -> Iterable[str]:
    training = entry["training"]
    recipe = training["recipe"]
    commands = dict.fromkeys(report["command"] for report in (entry["metrics"] or {}).values())
    return [
        "<details><summary>Training and file</summary>",
        "",
        f"{training['steps']:,} steps of {training['batch']} clips ({training['views']:,} views) at "
        f"{recipe['augment']['size']} px, {recipe['optimiser']}, peak learning rate {recipe['lr']:g}, from "
        f"{recipe.get('init') or 'random weights'}, seed {recipe['seed']}; mean loss of {_averaged(training)} "
        f"{training['loss']:.3f}. {' '.join([training['labels'], training['choice']]).strip()}",
        *_pyramid(training.get("pyramid")),
        "",
        f"Trained by `{training['command']}`",
        "",
        *([f"Evaluated by {'; '.join(f'`{command}`' for command in commands)}", ""] if commands else []),
        f"`model.safetensors`: {entry['bytes']:,} bytes, sha256 `{entry['sha256']}`.",
        "",
        "</details>",
    ]


def _averaged(training: Mapping[str, Any]) -> str:
    return f"the last {AVERAGED} steps" if training["steps"] > AVERAGED else "all steps"


def _pyramid(shapes: Mapping[str, list[int]] | None) -> list[str]:
    if not shapes:
        return []
    laterals = sorted(key for key in shapes if key.startswith("lateral.") and key.endswith(".weight"))
    channels = ", ".join(str(shapes[key][1]) for key in laterals)
    told = f"`pyramid.safetensors` holds the feature pyramid that was learned with it, on maps of {channels} channels:"
    return [
        "",
        f"{told} `training.nn.feature_pyramid.Pyramid` takes its tensors, to fine-tune them below a dense head.",
    ]


def _meta(corpus: Mapping[str, Any]) -> str:
    clips = corpus.get("meta_clips", 0)
    return f"{clips} of them gave pairs for the meta loss alone, which the count of views leaves out. " if clips else ""


def _overlaps(benchmarks: Mapping[str, Any]) -> str:
    """What was seen of each benchmark; empty for a record from before there was a ledger."""
    told = [f"{name} {Overlap(found['verdict'], found['clips'])}" for name, found in sorted(benchmarks.items())]
    return f" By patient and fingerprint of frames: {'; '.join(told)}." if told else ""
