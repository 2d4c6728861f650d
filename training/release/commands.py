"""Turn a run into a published weight, and keep the cards in step with the records.

    python -m training.release add runs/uscl-resnet18-seed0 --tag uscl_open9   a folder in model_cards/, a zoo entry
    python -m training.release metrics resnet18.uscl_open3 results.json        the probe table into the record
    python -m training.release overlap resnet18.uscl_open3 --root FOLDER       compare again with each benchmark
    python -m training.release embed | retire                                  see training/release/succession.py
    python -m training.release render                                          render cards, README and docs again
    python -m training.release page                                            render model_cards/index.html again

`add` refuses a name that is taken, a weight that is not finite, that has seen a patient or a frame of a locked test
part, whose data have no licence for it, or that does not give the run's features after it went through the file.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from safetensors.torch import save

from training.data.errors import CorpusError, short_errors
from training.data.fingerprints import FILE as LEDGER
from training.data.fingerprints import Overlap
from training.data.licenses import WEIGHTS_LICENCE, tier_of_all
from training.data.overlap.verdicts import overlaps_with_all
from training.data.records import CARDS, RECORD, ZOO, read_json, readable
from training.engine.log import read_journal
from training.release.card import render_card
from training.release.checks import ReleaseError, refuse_folder, refuse_seen, refuse_start
from training.release.push import push
from training.release.records import entry_of, put_report, read_weights
from training.release.render import page, publish, render
from training.release.succession import embed, retire
from training.release.weights_file import PYRAMID, published_config, pyramid_of_run
from usbackbones.exporting.pack import published_tensors
from usbackbones.hub.pretraining_run import backbone_of_run, input_side
from usbackbones.hub.pretraining_run import read_json as read_run
from usbackbones.hub.registry import architectures

TRAJECTORY = 20
"""Steps of which the losses are kept, for training.reproduce to compare with."""
KNOWN = "So a few-shot column of a dataset that it was trained on knows more labels than it says."
"""What a reader must know of a weight that was given labels."""
UNLABELLED = "No label was used."
RENDERED = ("README.md", RECORD)
"""Files of a weight's folder that are made of the records."""


def add(
    run: Annotated[Path, tyro.conf.Positional],
    tag: str,
    choice: str = "",
    root: Path | None = None,
    zoo: Path = ZOO,
    cards: Path = CARDS,
) -> None:
    """Publish a run: the folder model_cards/<arch>.<tag>/ with its record, and an entry in zoo.json.

    Args:
        run: folder of a finished training.pretrain.
        tag: <method>_<tier><corpus version>, as uscl_open9; one that is not taken.
        choice: a sentence for the card on how length, resolution and the like were chosen.
        root: the folder of the benchmarks' folders; what the run saw of those that are there is found by frame.
        zoo: the zoo to write to.
        cards: the folder of model folders.
    """
    backbone, recipe = backbone_of_run(run)
    corpus, summary = read_run(run / "corpus.json"), read_run(run / "summary.json")
    name, method, whole = f"{recipe['arch']}.{tag}", recipe["method"], read_weights(zoo, cards)
    if name in whole["weights"] or name in whole.get("successors", {}):
        free = _free(name, whole)
        raise ReleaseError(f"{name} is released already, and a name keeps its weight: take another --tag, as {free}")
    if zoo == ZOO and recipe["arch"] not in architectures():
        raise ReleaseError(
            f"usbackbones has no entrypoint for {recipe['arch']}: add it to usbackbones/hub/entrypoints.py"
        )
    tier = tier_of_all(corpus["licences"])
    if not tag.startswith(f"{method['name']}_{tier}"):
        raise ReleaseError(f"tag {tag!r} of a {method['name']} run on {tier} data must begin {method['name']}_{tier}")
    refuse_start(recipe["init"], tier, whole["weights"])
    began = whole["weights"].get(recipe["init"].removeprefix("usbackbones/"), {}).get("training", {})
    refuse_seen(name, corpus, {"locked_test_groups": 0})
    seen = {
        "locked_test_groups": 0,
        "benchmarks": _overlap_entry(overlaps_with_all(run / LEDGER, corpus, root)),
    }
    refuse_seen(name, corpus, seen)
    content, pyramid = save(published_tensors(backbone), metadata={"format": "pt"}), pyramid_of_run(run)
    entry = {
        "arch": recipe["arch"],
        "tag": tag,
        "method": method["name"],
        "tier": tier,
        "hub_id": f"usbackbones/{name}",
        "revision": None,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "num_features": backbone.num_features,
        "model_args": recipe["model_args"],
        "input": {
            "size": input_side(recipe),
            "mean": recipe["mean"],
            "std": recipe["std"],
            "interpolation": "bilinear",
            "crop_mode": "squash",
            "crop_pct": 1.0,
        },
        "licences": {"code": "Apache-2.0", "weights": WEIGHTS_LICENCE[tier], "data": corpus["licences"]},
        "corpus": corpus,
        "training": {
            "recipe": recipe,
            "batch": summary["batch"],
            "steps": summary["steps"],
            "views": summary["views"],
            "loss": summary["loss"],
            "trajectory": [record["loss"] for record in read_journal(run)[:TRAJECTORY]],
            "labels": labels_told(method, corpus["classes"], began.get("labels", UNLABELLED)),
            "choice": choice,
            "pyramid": {key: list(value.shape) for key, value in pyramid.items()},
            "command": summary["command"],
            "environment": summary["environment"],
        },
        "overlap": seen,
        "paper": method["paper"],
        "metrics": None,
    }
    cards.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cards, prefix=f".{name}.") as temporary:
        staged = Path(temporary)
        (staged / "model.safetensors").write_bytes(content)
        (staged / "config.json").write_text(json.dumps(published_config(name, entry, backbone), indent=1) + "\n")
        (staged / "README.md").write_text(render_card(name, entry), encoding="utf-8")
        (staged / RECORD).write_text(readable(entry), encoding="utf-8")  # `publish` writes the final one
        if (run / LEDGER).is_file():
            (staged / LEDGER).write_bytes((run / LEDGER).read_bytes())
        if pyramid:
            (staged / PYRAMID).write_bytes(save(pyramid, metadata={"format": "pt"}))
        refuse_folder(name, entry, staged, backbone)
        whole["weights"][name] = entry
        files = {cards / name / file.name: file.read_bytes() for file in staged.iterdir()}
        publish(whole, zoo, cards, {file: content for file, content in files.items() if file.name not in RENDERED})
    print(f"{cards / name}: {entry['bytes']:,} bytes, sha256 {entry['sha256']}")  # noqa: T201


def _free(name: str, whole: dict[str, Any]) -> str:
    """The name's tag with the next number that no weight of the architecture has."""
    stem = name.rstrip("0123456789")
    number = int(name.removeprefix(stem) or 0)
    taken = {*whole["weights"], *whole.get("successors", {})}
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}".partition(".")[2]


def labels_told(method: dict[str, Any], classes: list[str], began: str = UNLABELLED) -> str:
    """What a method's settings say of the labels that it was given, on a corpus of these classes.

    `began` is what was told of the weight at which the run began.
    """
    told = []
    if method.get("label_weight") and classes:
        told.append(f"Weak clip labels entered the loss with weight {method['label_weight']:g}.")
    if ratio := method.get("anatomy_ratio"):
        share = f"of {ratio:.0%} of the clips " if ratio < 1 else ""
        told.append(f"Anatomy labels ({method['granularity']}) {share}chose which frames attract one another.")
    if began != UNLABELLED:
        told.append(f"The weight at which it began: {began.removesuffix(KNOWN).strip()}")
    return " ".join([*told, KNOWN]) if told else UNLABELLED


def overlap(
    name: Annotated[str, tyro.conf.Positional],
    root: Path,
    zoo: Path = ZOO,
    cards: Path = CARDS,
) -> None:
    """Compare a published weight's ledger with the benchmarks again, and render the cards.

    Args:
        name: <arch>.<tag>.
        root: the folder of the benchmarks' folders.
        zoo: the zoo that the weight is in.
        cards: the folder of model folders.
    """
    content = read_weights(zoo, cards)
    entry = entry_of(content, name)
    entry["overlap"]["benchmarks"] = _overlap_entry(overlaps_with_all(cards / name / LEDGER, entry["corpus"], root))
    publish(content, zoo, cards)


def _overlap_entry(overlaps: dict[str, Overlap]) -> dict[str, Any]:
    return {name: {"verdict": found.verdict, "clips": found.clips} for name, found in overlaps.items()}


def metrics(
    name: Annotated[str, tyro.conf.Positional],
    results: Annotated[Path, tyro.conf.Positional],
    zoo: Path = ZOO,
    cards: Path = CARDS,
) -> None:
    """Put the numbers of training.benchmark.leaderboard into a record and render the cards.

    Args:
        name: <arch>.<tag>.
        results: what the leaderboard wrote with --json. Tasks that were evaluated before and are not in it stay.
        zoo: the zoo to write to.
        cards: the folder of model folders.
    """
    content = read_weights(zoo, cards)
    entry_of(content, name)
    for report in read_json(results)["tasks"].values():
        for control in put_report(content, name, report):
            print(f"{report['task']}: the control {control} has other numbers than before")  # noqa: T201
    publish(content, zoo, cards)


COMMANDS: dict[str, Callable[..., None]] = {
    "add": add,
    "metrics": metrics,
    "overlap": overlap,
    "embed": embed,
    "retire": retire,
    "render": render,
    "page": page,
    "push": push,
}


def main() -> None:
    """The command line; a refusal is a line and exit code 2."""
    with short_errors(ReleaseError, CorpusError, ValueError):
        tyro.extras.subcommand_cli_from_dict(COMMANDS)
