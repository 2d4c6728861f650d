"""The default weight inside the package, and the end of weights that others take the place of.

    python -m training.release embed resnet18.uscl_open3                           make it the weight inside the package
    python -m training.release retire resnet18.hico_nc2 resnet18.uscl_open3        its numbers move to training/STUDY.md

The package is Apache-2.0, so the weight inside it must be of the open tier. The name of a retired weight fails with a
message that names its successor, and is never given to another weight.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from training.benchmark.headline import headline_metric, task_head
from training.benchmark.markdown import PARTS, interval_cell
from training.data.records import CARDS, ROOT, ZOO
from training.release.checks import ReleaseError
from training.release.records import corpus_told, entry_of, own_row, read_weights
from training.release.render import STUDY, publish, render_study

EMBEDDED = ROOT / "usbackbones" / "weights"
RETIRED = "## Retired weights"
_ABOUT = f"""{RETIRED}

Weights that another took the place of, with the numbers that their cards had: linear probe on clips (balanced accuracy)
or ridge probe (mm), brackets 95 % over groups, on locked test groups where a task names no other part. Their files are
in the history of `model_cards/`.
"""


def embed(
    name: Annotated[str, tyro.conf.Positional],
    zoo: Path = ZOO,
    cards: Path = CARDS,
    weights: Path = EMBEDDED,
) -> None:
    """Copy an open weight into the package, in place of the one there, and make it the default."""
    content = read_weights(zoo, cards)
    entry = entry_of(content, name)
    if entry["tier"] != "open":
        raise ReleaseError(
            f"{name} is {entry['licences']['weights']}, and the package is Apache-2.0: embed a weight of the open tier"
        )
    content["default"] = name
    embedded = weights / f"{name}.safetensors"
    publish(content, zoo, cards, {embedded: (cards / name / "model.safetensors").read_bytes()})
    for other in weights.glob("*.safetensors"):
        if other != embedded:
            other.unlink()


def retire(
    name: Annotated[str, tyro.conf.Positional],
    successor: Annotated[str, tyro.conf.Positional],
    zoo: Path = ZOO,
    cards: Path = CARDS,
    study: Path = STUDY,
) -> None:
    """Take a weight out of model_cards/ and the zoo; its numbers stay in the study, its name names the successor.

    Args:
        name: <arch>.<tag> of the weight that leaves.
        successor: <arch>.<tag> of the weight that takes its place, of the same architecture.
        zoo: the zoo that both are in.
        cards: the folder of model folders.
        study: the Markdown file that keeps the numbers.
    """
    content = read_weights(zoo, cards)
    entry, heir = entry_of(content, name), entry_of(content, successor)
    if name == content["default"]:
        raise ReleaseError(f"{name} is the weight inside the package: embed another one first")
    if name == successor or entry["arch"] != heir["arch"]:
        raise ReleaseError(f"{successor} cannot take the place of {name}: name another weight of {entry['arch']}")
    text = study.read_text(encoding="utf-8")
    start, _, rest = (text if RETIRED in text else f"{text.rstrip()}\n\n{_ABOUT}").partition(RETIRED)
    text = f"{start}{RETIRED}{rest.rstrip()}\n\n{obituary(name, entry, successor)}\n"
    del content["weights"][name]
    successors = {old: successor if new == name else new for old, new in content.get("successors", {}).items()}
    content["successors"] = successors | {name: successor}
    publish(content, zoo, cards, {study: render_study(text) if study == STUDY else text})
    shutil.rmtree(cards / name)


def obituary(name: str, entry: Mapping[str, Any], successor: str) -> str:
    """What stays of a weight: what it was, and one number a task with its differences."""
    training, corpus = entry["training"], entry["corpus"]
    lines = [
        f"### {name}, now {successor}",
        "",
        f"{corpus_told(corpus)} from {', '.join(corpus['sources'])}; {training['views']:,} views; input "
        f"{entry['input']['size']} px; {entry['licences']['weights']}; sha256 `{entry['sha256']}`. Trained by "
        f"`{training['command']}`",
        "",
        "| task | value | − random | − SimCLR |",
        "|---|---|---|---|",
    ]
    for task, report in (entry["metrics"] or {}).items():
        probe, level, metric = headline_metric(report)
        told, digits = own_row(report, name)["results"][probe][level][metric], 1 if metric == "mae" else 3
        cells = [interval_cell(one, digits) for one in (told, told.get("difference"), told.get("to_simclr"))]
        part = report["protocol"]["part"]
        where = f" on {PARTS[part]}" * (part != "test")
        lines.append(f"| {task_head(task + where, report)} | {' | '.join(cells)} |")
    commands = dict.fromkeys(report["command"] for report in (entry["metrics"] or {}).values())
    return "\n".join([*lines, "", *[f"`{command}`\n" for command in commands]]).rstrip()
