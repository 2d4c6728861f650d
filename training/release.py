"""Turn a run into a published weight, and keep the cards in step with zoo.json.

    python -m training.release add runs/uscl-resnet18-seed0 --tag uscl_nc1    a folder in model_cards/, a zoo entry
    python -m training.release metrics resnet18.uscl_nc1 results.json         the probe table into the entry
    python -m training.release embed resnet18.uscl_nc1                        make it the weight inside the package
    python -m training.release render                                         cards and README lists anew from the zoo

`add` refuses a weight that is not finite, that has seen a locked test group, whose data have no licence for it, or
that does not give the run's features after it went through the file.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
import tyro
from safetensors.torch import save
from torch import nn

from training.benchmark.lock import SPLITS, locked_split
from training.card import between, render_card, render_readme
from training.data.corpus import WEIGHTS_LICENCE, CorpusError, tier_of_all
from training.published import backbone_of_run, published_tensors, read_json, timm_config
from training.study import LOG, table
from usbackbones.files import atomic_write
from usbackbones.phantom import phantom_clip

ROOT = Path(__file__).parent.parent
ZOO = ROOT / "usbackbones" / "zoo.json"
CARDS = ROOT / "model_cards"
README = ROOT / "README.md"
STUDY = ROOT / "training" / "STUDY.md"
EMBEDDED = ROOT / "usbackbones" / "weights"


class ReleaseError(ValueError):
    """A weight that must not be released."""


def add(
    run: Annotated[Path, tyro.conf.Positional],
    tag: str,
    choice: str = "",
    zoo: Path = ZOO,
    cards: Path = CARDS,
) -> None:
    """Publish a run: model_cards/<arch>.<tag>/ and an entry in zoo.json.

    Args:
        run: folder of a finished training.pretrain.
        tag: <method>_<tier><corpus version>, as uscl_nc1.
        choice: a sentence for the card on how length, resolution and the like were chosen.
        zoo: the zoo to write to.
        cards: the folder of model folders.
    """
    backbone, recipe = backbone_of_run(run)
    corpus, summary = read_json(run / "corpus.json"), read_json(run / "summary.json")
    name = f"{recipe['arch']}.{tag}"
    refuse_overlap(corpus)
    tier = tier_of_all(corpus["licences"])
    method = recipe["method"]
    if not tag.startswith(f"{method['name']}_{tier}"):
        raise ReleaseError(f"tag {tag!r} of a {method['name']} run on {tier} data must begin {method['name']}_{tier}")
    content = save(published_tensors(backbone), metadata={"format": "pt", "name": name})
    label_weight = method.get("label_weight", 0)
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
            "size": recipe["augment"]["size"],
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
            "labels": f"Weak clip labels entered the loss with weight {label_weight:g}."
            if label_weight
            else "No label was used.",
            "choice": choice,
            "command": summary["command"],
            "environment": summary["environment"],
        },
        "overlap": {"locked_test_groups": 0},
        "paper": method["paper"],
        "metrics": None,
    }
    cards.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cards, prefix=f".{name}.") as temporary:
        staged = Path(temporary)
        (staged / "model.safetensors").write_bytes(content)
        (staged / "config.json").write_text(json.dumps(timm_config(name, entry, backbone), indent=1) + "\n")
        check_parity(staged, backbone, recipe)
        (cards / name).mkdir(exist_ok=True)
        for file in staged.iterdir():
            file.replace(cards / name / file.name)
    whole = read_json(zoo)
    whole["weights"][name] = entry
    _write_zoo(whole, zoo)
    render(zoo, cards)
    print(f"{cards / name}: {entry['bytes']:,} bytes, sha256 {entry['sha256']}")  # noqa: T201


def refuse_overlap(corpus: dict[str, Any]) -> None:
    """Refuse a corpus that holds a group of a locked test part.

    Raises:
        ReleaseError: naming the groups.
    """
    for source in corpus["sources"]:
        if not (SPLITS / f"{source}.json").is_file():
            continue
        shared = sorted(set(corpus["groups"]) & set(locked_split(source)["test"]))
        if shared:
            raise ReleaseError(f"the run saw locked test groups of {source}: {', '.join(shared)}. It is not released.")


@torch.inference_mode()
def check_parity(folder: Path, backbone: nn.Module, recipe: dict[str, Any]) -> None:
    """Load the folder with plain timm, with one channel and with three, and compare its features with the run's.

    Raises:
        ReleaseError: if they differ by more than fp16 storage explains, 1 % of the largest feature.
    """
    size = recipe["augment"]["size"]
    frames = torch.from_numpy(phantom_clip(0, frames=4, size=size)).float().unsqueeze(1) / 255
    frames = (frames - recipe["mean"]) / recipe["std"]
    expected = backbone(frames)
    for channels in (1, 3):
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, in_chans=channels).eval()
        got = loaded(frames.expand(-1, channels, -1, -1))
        difference = float((got - expected).abs().max() / expected.abs().max())
        if not difference < 0.01:
            raise ReleaseError(f"{folder} with {channels} channels is off by {difference:.2%} from the run's features")


def metrics(
    name: Annotated[str, tyro.conf.Positional],
    results: Annotated[Path, tyro.conf.Positional],
    zoo: Path = ZOO,
    cards: Path = CARDS,
) -> None:
    """Put the JSON of training.benchmark.lung into an entry and render the cards."""
    content, report = read_json(zoo), read_json(results)
    models = [row["model"] for row in report["rows"]]
    if f"usbackbones/{name}" not in models:
        raise ReleaseError(f"{results} has no row usbackbones/{name}, only {', '.join(models)}: measure that weight")
    _entry(content, name)["metrics"] = {report["task"]: report}
    _write_zoo(content, zoo)
    render(zoo, cards)


def embed(
    name: Annotated[str, tyro.conf.Positional],
    zoo: Path = ZOO,
    cards: Path = CARDS,
    weights: Path = EMBEDDED,
) -> None:
    """Copy a weight into the package, in place of the one there, and make it the default."""
    content = read_json(zoo)
    _entry(content, name)
    with atomic_write(weights / f"{name}.safetensors") as stream:
        stream.write((cards / name / "model.safetensors").read_bytes())
    for other in weights.glob("*.safetensors"):
        if other.name != f"{name}.safetensors":
            other.unlink()
    content["default"] = name
    _write_zoo(content, zoo)


def render(zoo: Path = ZOO, cards: Path = CARDS) -> None:
    """Write every card anew from the zoo, and for the project's own zoo the lists in its README."""
    content = read_json(zoo)
    if zoo == ZOO:
        text = render_readme(README.read_text(encoding="utf-8"), content)
        with atomic_write(README, "w", encoding="utf-8") as stream:
            stream.write(text)
        study = between(STUDY.read_text(encoding="utf-8"), "study", table(LOG))
        with atomic_write(STUDY, "w", encoding="utf-8") as stream:
            stream.write(study)
    for name, entry in content["weights"].items():
        with atomic_write(cards / name / "README.md", "w", encoding="utf-8") as stream:
            stream.write(render_card(name, entry))


def _entry(content: dict[str, Any], name: str) -> dict[str, Any]:
    if name not in content["weights"]:
        raise ReleaseError(f"{name} is not in the zoo; there is: {', '.join(content['weights']) or 'nothing yet'}")
    return content["weights"][name]


def _write_zoo(content: dict[str, Any], zoo: Path) -> None:
    with atomic_write(zoo, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1, ensure_ascii=False)
        stream.write("\n")


def main() -> None:
    """The command line; a refusal is a line and exit code 2."""
    try:
        tyro.extras.subcommand_cli_from_dict({"add": add, "metrics": metrics, "embed": embed, "render": render})
    except (ReleaseError, CorpusError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
