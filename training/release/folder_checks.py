"""What must be true of a folder in model_cards/ before the world may load it."""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file

from training.data.fingerprints import FILE as LEDGER
from training.data.locked_splits import drawn_splits, has_locked_part, locked_split
from training.release.card import render_card
from training.release.card_metadata import HUB_LICENCES, LIBRARY, PIPELINE
from training.release.weights_file import PYRAMID
from usbackbones.hub.locate import Place, prove
from usbackbones.hub.registry import register
from usbackbones.hub.zoo import FILE, Weight, ZooError, parse_entry
from usbackbones.phantom.simulator import phantom_clip

FILES = frozenset(("README.md", "config.json", FILE))
OPTIONAL = frozenset((LEDGER, PYRAMID))  # earlier releases have no ledger of what they saw, most methods no pyramid
_SECTIONS = ("Not a medical device", "## Input", "## Training", "## Data", "## Licences", "## Limits")


class NotPublishable(ValueError):
    """A weight that must not be published. The message names everything that stands against it."""


def refuse_unpublishable(name: str, entry: dict[str, Any], cards: Path) -> None:
    """Check the folder and the entry of a weight.

    Args:
        name: <arch>.<tag>.
        entry: of the zoo.
        cards: the folder of model folders.

    Raises:
        NotPublishable: listing what is wrong with the licences, overlaps, files, card, numbers, or features.
    """
    try:
        weight = parse_entry(name, entry, cards)
        problems = [*_licence_problems(entry), *_overlap_problems(entry)]
        present = {file.name for file in (cards / name).glob("*")}
        if not FILES <= present <= FILES | OPTIONAL:
            problems.append(f"{cards / name} holds {sorted(present)} and not exactly {sorted(FILES)}")
        else:
            prove(Place(cards / name / FILE, "Release it again"), weight)
            problems += [*_card_problems(name, entry, cards / name), *_number_problems(cards / name)]
        # Features are compared only where all else is right: the comparison builds and runs the network.
        problems = problems or [*_feature_problems(weight, cards)]
    except (ZooError, ValueError, KeyError, SafetensorError, yaml.YAMLError) as error:
        told = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise NotPublishable(f"{name} is not published: {told}") from error
    if problems:
        raise NotPublishable(f"{name} is not published: {'; '.join(problems)}")


def _licence_problems(entry: dict[str, Any]) -> Iterator[str]:
    licences = entry["licences"]
    for part in ("code", "weights"):
        if not str(licences.get(part) or "").strip():
            yield f"the {part} have no licence"
    data = licences.get("data") or []
    if not data or not all(isinstance(licence, str) and licence.strip() for licence in data):
        yield f"the licences of the data are {data!r}: one is missing"


def _overlap_problems(entry: dict[str, Any]) -> Iterator[str]:
    """What the entry says of locked test groups, and whether it is so."""
    if entry["overlap"]["locked_test_groups"] != 0:
        yield f"it was trained on {entry['overlap']['locked_test_groups']} locked test groups"
    for source in entry["corpus"]["sources"]:
        if source in drawn_splits():
            shared = sorted(set(entry["corpus"]["groups"]) & set(locked_split(source)["test"]))
            if shared:
                yield f"it was trained on the locked test groups {', '.join(shared)} of {source}"
    for benchmark, found in entry["overlap"].get("benchmarks", {}).items():
        if found["clips"] and has_locked_part(benchmark):
            yield f"it saw {len(found['clips'])} locked test clips of {benchmark}"


def _card_problems(name: str, entry: dict[str, Any], folder: Path) -> Iterator[str]:
    """Whether the card is the rendered one, and is what the Hub and a reader need."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    if text != render_card(name, entry):
        yield "its card is not the one that zoo.json renders: run python -m training.release render"
    yield from lint_card(text, entry["licences"]["weights"])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    cfg, given = config["pretrained_cfg"], entry["input"]
    said = (config["architecture"], cfg["input_size"], cfg["mean"], cfg["std"], cfg["hf_hub_filename"])
    size = [3, given["size"], given["size"]]
    if said != (entry["arch"], size, [given["mean"]] * 3, [given["std"]] * 3, FILE):
        yield f"config.json says {said}, which is not what zoo.json says"


def lint_card(text: str, licence: str) -> Iterator[str]:
    """What is wrong with the text of a card: its metadata block, numbers that are none, sections that are missing."""
    block = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    data = yaml.safe_load(block[1]) if block else None
    if not isinstance(data, dict):
        yield "the card has no metadata block"
        return
    expected = licence.lower() if licence.lower() in HUB_LICENCES else "other"
    for field, value in (("library_name", LIBRARY), ("pipeline_tag", PIPELINE), ("license", expected)):
        if data.get(field) != value:
            yield f"the card's {field} is {data.get(field)!r} and not {value!r}"
    if not all(map(math.isfinite, _numbers_in(data))):
        yield "the card's metadata hold a number that is not finite"
    for section in _SECTIONS:
        if section not in text:
            yield f"the card lacks {section!r}"


def _numbers_in(data: Any) -> Iterator[float]:
    if isinstance(data, float):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _numbers_in(value)


def _number_problems(folder: Path) -> Iterator[str]:
    for key, tensor in load_file(folder / FILE).items():
        if not torch.isfinite(tensor).all():
            yield f"{key} holds NaN or infinity"


@torch.inference_mode()
def _feature_problems(weight: Weight, cards: Path) -> Iterator[str]:
    """Whether timm alone and this package build the same network, to the bit, and one channel is as good as three."""
    size = weight.input.size
    frames = torch.from_numpy(phantom_clip(0, frames=2, size=size)).float().unsqueeze(1) / 255
    frames = (frames - weight.input.mean) / weight.input.std
    with tempfile.TemporaryDirectory() as temporary:
        name = f"{weight.name}-unpublished"  # an earlier release may be embedded under its own name
        shutil.copytree(cards / weight.name, Path(temporary) / name)
        zoo = Path(temporary) / "zoo.json"
        zoo.write_text(json.dumps({"default": None, "weights": {name: weight.entry}}))
        register(zoo)
        ours = {channels: _features(f"usbackbones/{name}", frames, channels) for channels in (1, 3)}
    alone = {channels: _features(f"local-dir:{cards / weight.name}", frames, channels) for channels in (1, 3)}
    if not torch.equal(ours[3], alone[3]):
        yield "timm alone builds another network of it than this package does"
    for builder, features in (("this package", ours), ("timm alone", alone)):
        difference = float((features[1] - alone[3]).abs().max() / alone[3].abs().max())
        if not difference < 0.01:
            yield f"with one channel {builder} gives features that differ by {difference:.2%}"


def _features(model: str, frames: torch.Tensor, channels: int) -> torch.Tensor:
    network = timm.create_model(model, pretrained=True, num_classes=0, in_chans=channels).eval()
    return network(frames.expand(-1, channels, -1, -1))
