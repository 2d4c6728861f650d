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
        tables.append(f"### {name}\n\n{_metrics(entry['metrics'])}")
    text = _between(text, "weights", "\n".join(weights))
    return _between(text, "table", "\n\n".join(tables))


def _between(text: str, marker: str, content: str) -> str:
    pattern = re.compile(rf"(<!-- {marker}:[^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"README.md has lost its marker <!-- {marker}: ... -->; put it back where the {marker} belong")
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


def _metrics(metrics: dict[str, Any] | None) -> str:
    if metrics is None:
        return "Not measured yet."
    return "\n\n".join(markdown(report) for report in metrics.values())
