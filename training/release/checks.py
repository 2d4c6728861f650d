"""Checks of a weight before it is released, and of its folder before it may be published.

`training.release add` and `training.release push` make the same checks; `add` compares with the run as well.
"""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data.corpora import CORPORA
from training.data.fingerprints import FILE as LEDGER
from training.data.locked_splits import drawn_splits, has_locked_part, locked_split
from training.data.records import RECORD, patients_of
from training.release.card import render_card
from training.release.card_metadata import HUB_LICENCES, LIBRARY, PIPELINE
from training.release.weights_file import PYRAMID
from usbackbones._words import plural
from usbackbones.hub.locate import Place, prove
from usbackbones.hub.registry import architectures, register
from usbackbones.hub.zoo import FILE, Weight, ZooError, parse_entry
from usbackbones.phantom.simulator import phantom_clip

FILES = frozenset(("README.md", "config.json", FILE, RECORD))
OPTIONAL = frozenset((LEDGER, PYRAMID))  # earlier releases have no ledger of what they saw, most methods no pyramid
_SECTIONS = ("Not a medical device", "## Results", "## Data", "## Licences", "## Limits")
_APART = 0.01
"""Largest difference of a feature, as a part of the largest feature; half precision explains so much."""


class ReleaseError(ValueError):
    """A weight that must not be released. The message names everything that stands against it."""


def refuse_start(init: str, tier: str, weights: Mapping[str, Any]) -> None:
    """Refuse a run that began at a weight whose data are not recorded here, or not free enough for its own tier.

    Raises:
        ReleaseError: naming the weight.
    """
    began = weights.get(init.removeprefix("usbackbones/"))
    if init and not began:
        raise ReleaseError(
            f"the run began at {init}: what that weight saw, and under which licence, is not recorded here"
        )
    if began and began["tier"] != tier:
        raise ReleaseError(f"the run is on {tier} data, but began at {init}, which is {began['tier']}")


def refuse_seen(name: str, corpus: Mapping[str, Any], overlap: Mapping[str, Any]) -> None:
    """Refuse a weight that saw a group or a frame of a locked test part, or a dataset that is for evaluation alone.

    `overlap` is {"locked_test_groups": n, "benchmarks": {dataset: {"verdict", "clips": {clip: reason}}}}.

    Raises:
        ReleaseError: naming groups and clips.
    """
    if problems := list(_seen(corpus, overlap)):
        raise ReleaseError(f"{name} is not released: {'; '.join(problems)}")


def refuse_folder(name: str, entry: dict[str, Any], folder: Path, run: nn.Module | None = None) -> None:
    """Check a folder, whatever it is called, as it is to be published, against the whole entry of its weight.

    `run` is the network that was trained, on one channel, to compare features with.

    Raises:
        ReleaseError: listing what is wrong with the licences, overlaps, files, card, numbers, or features.
    """
    try:
        weight = parse_entry(name, entry, folder.parent)
        problems = [*_licence_problems(entry), *_seen(entry["corpus"], entry["overlap"])]
        present = {file.name for file in folder.glob("*")}
        if not FILES <= present <= FILES | OPTIONAL:
            problems.append(f"{folder} holds {sorted(present)} and not exactly {sorted(FILES)}")
        else:
            prove(Place(folder / FILE, "Release it again"), weight)
            problems += [*_card_problems(name, entry, folder), *_number_problems(folder)]
        # Features are compared only where all else is right: the comparison builds and runs the network.
        problems = problems or [*_feature_problems(weight, folder, run)]
    except (ZooError, ValueError, KeyError, SafetensorError, yaml.YAMLError) as error:
        told = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ReleaseError(f"{name} is not released: {told}") from error
    if problems:
        raise ReleaseError(f"{name} is not released: {'; '.join(problems)}")


def _seen(corpus: Mapping[str, Any], overlap: Mapping[str, Any]) -> Iterator[str]:
    """What a corpus and its record of overlaps have of locked test parts, and of sets that nothing is trained on."""
    never = [source for source in corpus["sources"] if source in CORPORA and not CORPORA[source].pretrain]
    if never:
        yield f"never pretrained on: {', '.join(never)}"
    names = [name for name in corpus["sources"] if name in drawn_splits()]
    drawn = {(name, group) for name in names for group in locked_split(name)["test"]} & patients_of(corpus)
    if shared := sorted({group for _, group in drawn} | {*corpus.get("locked_groups", ())}):
        yield f"it was trained on the locked test groups {', '.join(shared)}"
    if overlap["locked_test_groups"] != 0:
        yield f"its record counts {overlap['locked_test_groups']} locked test groups"
    for name, found in overlap.get("benchmarks", {}).items():
        if found["clips"] and has_locked_part(name):
            told = "; ".join(f"{clip}: {reason}" for clip, reason in found["clips"].items())
            yield f"it saw {plural(len(found['clips']), 'locked test clip')} of {name}, as {told}"


def _licence_problems(entry: Mapping[str, Any]) -> Iterator[str]:
    licences = entry["licences"]
    for part in ("code", "weights"):
        if not str(licences.get(part) or "").strip():
            yield f"the {part} have no licence"
    data = licences.get("data") or []
    if not data or not all(isinstance(licence, str) and licence.strip() for licence in data):
        yield f"the licences of the data are {data!r}: one is missing"


def _card_problems(name: str, entry: dict[str, Any], folder: Path) -> Iterator[str]:
    """Whether the card is the rendered one, and is what the Hub and a reader need."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    if text != render_card(name, entry):
        yield "its card is not the one that its record renders: run python -m training.release render"
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
def _feature_problems(weight: Weight, folder: Path, run: nn.Module | None) -> Iterator[str]:
    """Whether timm alone and this package build the same network, to the bit, and one channel is as good as three."""
    size = weight.input.size
    frames = torch.from_numpy(phantom_clip(0, frames=4, size=size)).float().unsqueeze(1) / 255
    frames = (frames - weight.input.mean) / weight.input.std
    alone = {channels: _features(f"local-dir:{folder}", frames, channels) for channels in (1, 3)}
    built = {"timm alone": alone}
    if weight.arch in architectures():
        built["this package"] = _by_this_package(weight, folder, frames)
        if not torch.equal(built["this package"][3], alone[3]):
            yield "timm alone builds another network of it than this package does"
    elif run is None:
        yield f"this package has no entrypoint for {weight.arch}, so it cannot load it"
    expected = alone[3] if run is None else run(frames)
    for builder, features in built.items():
        for channels, got in features.items():
            difference = float((got - expected).abs().max() / expected.abs().max())
            if not difference < _APART:
                yield f"with {plural(channels, 'channel')} {builder} gives features that differ by {difference:.2%}"


def _by_this_package(weight: Weight, folder: Path, frames: Tensor) -> dict[int, Tensor]:
    """Features by number of channels, of the folder registered under a name of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        name = f"{weight.name}-unpublished"  # an earlier release may be embedded under its own name
        shutil.copytree(folder, Path(temporary) / name)
        zoo = Path(temporary) / "zoo.json"
        zoo.write_text(json.dumps({"default": None, "weights": {name: weight.entry}}))
        register(zoo)
        return {channels: _features(f"usbackbones/{name}", frames, channels) for channels in (1, 3)}


def _features(model: str, frames: Tensor, channels: int) -> Tensor:
    network = timm.create_model(model, pretrained=True, num_classes=0, in_chans=channels).eval()
    return network(frames.expand(-1, channels, -1, -1))
