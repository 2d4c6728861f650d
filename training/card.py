"""Render a weight's model card from its entry in zoo.json; the card says nothing that the entry does not."""

import re
from typing import Any

from huggingface_hub import ModelCardData

from training.benchmark.lung import markdown


def render_card(name: str, entry: dict[str, Any]) -> str:
    """README.md of a weight's folder: the Hub's metadata block, then the card."""
    return f"---\n{_metadata(entry).to_yaml()}\n---\n\n{_body(name, entry)}"


def render_readme(text: str, zoo: dict[str, Any]) -> str:
    """The project's README with its list of weights and its table made anew between their markers."""
    weights = ["| name | method | input | features | weights' licence | MB |", "|---|---|---|---|---|---|"]
    tables = []
    for name, entry in zoo["weights"].items():
        given = entry["input"]
        weights.append(
            f"| [`{name}`](model_cards/{name}/README.md) | {entry['paper']['title']} | {given['size']} px, mean "
            f"{given['mean']}, std {given['std']} | {entry['num_features']} | {entry['licences']['weights']} "
            f"| {entry['bytes'] / 1e6:.1f} |"
        )
        tables.append(f"### {name}\n\n{_verdict(entry['metrics'], name)}\n\n{_metrics(entry['metrics'])}")
    text = between(text, "weights", "\n".join(weights))
    return between(text, "table", "\n\n".join(tables))


def between(text: str, marker: str, content: str) -> str:
    """The text with what stands between a marker and its end replaced."""
    pattern = re.compile(rf"(<!-- {marker}:[^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the text has lost its marker <!-- {marker}: ... -->; put it back where the {marker} belong")
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def _metadata(entry: dict[str, Any]) -> ModelCardData:
    return ModelCardData(
        license=entry["licences"]["weights"].lower(),
        library_name="timm",
        pipeline_tag="image-feature-extraction",
        tags=["timm", "ultrasound", "medical", "self-supervised", entry["method"]],
    )


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
        f"{given['size']} px, {recipe['optimiser']}, peak learning rate {recipe['lr']:g}, seed {recipe['seed']}, "
        f"mean loss of the last 50 steps {training['loss']:.3f}. {training['labels']}",
        "",
        training["choice"],
        "",
        "```",
        training["command"],
        "```",
        "",
        "## Data",
        "",
        f"{len(corpus['clips'])} clips ({corpus['frames']:,} frames) of {len(corpus['groups'])} groups from "
        f"{', '.join(corpus['sources'])}; organ: {', '.join(corpus['organs'])}. "
        f"Groups of a locked test part that were trained on: {entry['overlap']['locked_test_groups']}.",
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
        "Trained on a small public collection in which class and clinic are confounded: what it separates may "
        "partly be scanners. Intervals are wide because there are few groups. Not tested on other organs or devices.",
        "",
        "## Source",
        "",
        f"{entry['paper']['url']}. Trained anew with the code of this repository; these are not the authors' weights.",
        "",
    ]
    return "\n".join(lines)


def _verdict(metrics: dict[str, Any] | None, name: str) -> str:
    """What the intervals allow to be said: where the weight beats random weights of its architecture, and where not."""
    if metrics is None:
        return "It has not been measured yet."
    said = []
    for report in metrics.values():
        row = next(row for row in report["rows"] if row["model"] == f"usbackbones/{name}")
        for probe, levels in row["results"].items():
            gains = {level: values["balanced_accuracy"]["difference"] for level, values in levels.items()}
            beats = [level for level, gain in gains.items() if gain["low"] > 0]
            said.append(
                f"{report['task']}, {probe} probe: frozen features "
                + (f"beat random weights beyond the interval on {' and '.join(beats)}s" if beats else "do **not** beat")
                + ("." if beats else " random weights of the architecture beyond the interval, on frames or on clips.")
            )
    return "On the locked test part, " + " ".join(said)


def _metrics(metrics: dict[str, Any] | None) -> str:
    if metrics is None:
        return "Not measured yet."
    return "\n\n".join(markdown(report) for report in metrics.values())
