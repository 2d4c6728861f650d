"""From the names of a table's rows to networks, or to what has to be done to get them.

A name is `usbackbones/ARCH.TAG`, `run:FOLDER` of training.pretrain (with * for several runs that count as one row, as
seeds do), `local-dir:FOLDER`, any name that timm knows, `random:ARCH`, or `cue:NAME` of `training.benchmark.cues`.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from torch import nn

from training.benchmark.cues import CUE, CUES, is_cue
from training.benchmark.imagenet import TAG, shown_name
from training.data.records import CARDS, RECORD, read_record
from usbackbones.hub.backbone import PLAIN_MEAN, PLAIN_STD, RANDOM, RUN, build_backbone, untrained
from usbackbones.hub.errors import BackboneError
from usbackbones.hub.pretraining_run import GRAY_INPUT, backbone_of_run, input_of_run, read_json
from usbackbones.hub.registry import OWNER, get_weight

# How frames reach a random network when no pretrained one stands beside it to take this from.
PLAIN_INPUT: dict[str, Any] = {
    "input_size": (3, 128, 128),
    "mean": PLAIN_MEAN,
    "std": PLAIN_STD,
    **GRAY_INPUT,
}


@dataclass(frozen=True)
class Entry:
    """A row of a table before it is evaluated.

    Attributes:
        name: as the row is called.
        arch: timm's name of the architecture; empty where it is not known.
        members: its networks, whose results are averaged; none where they could not be loaded, and for a cue.
        why_not: why they cannot be loaded.
        remedy: the command that gets them; empty if it is the same command again, elsewhere.
    """

    name: str
    arch: str = ""
    members: list[nn.Module] = field(default_factory=list)
    why_not: str = ""
    remedy: str = ""


def entries(
    names: Sequence[str],
    size: int | None,
    seeds: int,
    always: bool = False,
    controls: Sequence[str] = (),
    channels: int = 3,
) -> list[Entry]:
    """The rows of a table, in the order of their names.

    Random networks are given the input settings of the first pretrained one of their architecture, or of any, so that
    only the weights differ.

    Args:
        names: of the rows.
        size: side of every network's input, pixels; None for each pretrained network's own.
        seeds: networks of a random row.
        always: add, for every architecture, the rows SimCLR, ImageNet and random where they are missing, and the cues.
        controls: names of SimCLR runs for those rows.
        channels: of the pretrained networks but those of runs, which have one; random ones have three.

    Raises:
        OSError, BackboneError: if weights that should lie here do not.
        ValueError: if a cue is not one of `CUES`.
    """
    cues = [*(name for name in names if is_cue(name)), *([f"{CUE}{cue}" for cue in CUES] if always else [])]
    found = {
        name: _pretrained(name, size, channels)
        for name in dict.fromkeys((*names, *controls))
        if not name.startswith(RANDOM) and name not in cues
    }
    wanted = {name: name.removeprefix(RANDOM) for name in names if name.startswith(RANDOM)}
    # An ImageNet row is a control itself and brings none along.
    trained = [entry.arch for name, entry in found.items() if entry.members and not is_imagenet(name)]
    archs = list(dict.fromkeys(trained + list(wanted.values())))
    if always:
        for arch in archs:
            if not any(entry.arch == arch and is_simclr(name) for name, entry in found.items()):
                ours = (name for name, entry in found.items() if entry.arch == arch)
                command = next(filter(None, map(control_command, ours)), "") or (
                    f"python -m training.pretrain simclr --arch {arch} --data CACHE"
                )
                why_not = "no --control run:FOLDER"
                found[f"SimCLR {arch}"] = Entry(f"SimCLR {arch}", arch, why_not=why_not, remedy=command)
            imagenet = imagenet_name(arch)
            if imagenet and imagenet not in found:
                found[imagenet] = _pretrained(imagenet, size, channels)
            wanted.setdefault(f"{RANDOM}{arch}", arch)
    rows = dict(found)
    for name, arch in wanted.items():
        likes = [entry.members[0] for entry in found.values() if entry.members]
        same = [entry.members[0] for entry in found.values() if entry.members and entry.arch == arch]
        rows[name] = Entry(name, arch, random_networks(arch, seeds, **_input_of([*same, *likes]) | _resized(size)))
    rows |= {name: Entry(name, why_not="a cue has no network") for name in cues}
    # Controls after what they are controls of: the names as given, then the rows that are always there.
    return [rows[name] for name in dict.fromkeys((*names, *controls, *rows))]


def random_networks(arch: str, seeds: int = 5, **input_cfg: Any) -> list[nn.Module]:
    """Networks of one architecture before any training, seeds 0, 1, ...; `input_cfg` overrides `PLAIN_INPUT`."""
    return [with_input(untrained(arch, seed), **(PLAIN_INPUT | input_cfg)) for seed in range(seeds)]


def with_input(model: nn.Module, **input_cfg: Any) -> nn.Module:
    """The model with other input settings (fields of a timm pretrained_cfg) for its transform to follow."""
    network: Any = model
    network.pretrained_cfg = network.pretrained_cfg | input_cfg
    if "input_size" in input_cfg and hasattr(network, "set_input_size"):
        network.set_input_size(img_size=input_cfg["input_size"][-1])
    return model


def run_folders(name: str) -> list[Path]:
    """The folders of a `run:` name, of which the last part may hold a *.

    Raises:
        FileNotFoundError: if there is none, or one holds no finished run.
    """
    pattern = Path(name.removeprefix(RUN))
    folders = sorted(pattern.parent.glob(pattern.name)) if "*" in pattern.name else [pattern]
    unfinished = [folder for folder in folders if not (folder / "summary.json").is_file()]
    if unfinished or not folders:
        raise FileNotFoundError(f"{(unfinished or [pattern])[0]} holds no finished run: make it with training.pretrain")
    return folders


def _pretrained(name: str, size: int | None, channels: int) -> Entry:
    """The row of a name that is not random; without members if its weights are others' and cannot be fetched."""
    try:
        members = _runs(name) if name.startswith(RUN) else [build_backbone(name, in_chans=channels)]
    except (OSError, BackboneError) as error:
        if name.startswith(("local-dir:", "usbackbones/", RUN)):
            raise
        return Entry(name, name.removeprefix("timm/").partition(".")[0], why_not=" ".join(str(error).split()))
    members = [with_input(member, **_resized(size)) for member in members]
    first: Any = members[0]
    return Entry(name, first.pretrained_cfg["architecture"].removeprefix("us"), members)


def _runs(name: str) -> list[nn.Module]:
    members = []
    for folder in run_folders(name):
        backbone, recipe = backbone_of_run(folder)
        members.append(with_input(backbone, **input_of_run(recipe)))
    return members


def is_simclr(name: str) -> bool:
    """Whether a row's networks are runs of plain SimCLR, the control of every table."""
    return name.startswith(RUN) and method_of_runs(name) == "simclr"


def method_of_runs(name: str) -> str:
    """The method of the runs of a row, or the methods, where they differ."""
    methods = {read_json(folder / "recipe.json")["method"]["name"] for folder in run_folders(name)}
    return ", ".join(sorted(methods))


def record_of(name: str) -> dict[str, Any] | None:
    """The record of a weight of ours; None for any other row, and for a weight that came without its record."""
    if not name.startswith(OWNER):
        return None
    ours = get_weight(name)
    cards = ours.folder or CARDS
    return read_record(ours.name, cards) if (cards / ours.name / RECORD).is_file() else None


def control_command(name: str) -> str:
    """The command that trained a weight of ours with SimCLR in the method's place: as many views of the same clips.

    Empty where no such command is recorded.
    """
    record = record_of(name)
    words = shlex.split(record["training"]["command"]) if record else []
    if "training.pretrain" not in words:
        return ""
    place = words.index("training.pretrain") + 1
    kept, left = [*words[:place], "simclr"], iter(words[place + 1 :])
    for word in left:
        if not word.startswith(("--method.", "--out")):
            kept.append(word)
        elif "=" not in word:
            next(left, None)
    return shlex.join(kept)


def is_imagenet(name: str) -> bool:
    """Whether a row is that of weights trained on ImageNet: a folder of `training.benchmark.imagenet`, or timm's."""
    return shown_name(name).startswith(f"{TAG}:") or name == imagenet_name(name.removeprefix("timm/").partition(".")[0])


def imagenet_name(arch: str) -> str:
    """The default weight that timm has for an architecture, as a rule trained on ImageNet; empty where it has none."""
    cfg = timm.get_pretrained_cfg(arch)
    return f"{arch}.{cfg.tag}" if cfg is not None and cfg.tag else ""


def _resized(size: int | None) -> dict[str, Any]:
    return {"input_size": (3, size, size)} if size else {}


def _input_of(networks: Sequence[nn.Module]) -> dict[str, Any]:
    """The input settings of the first of the networks, if there is one."""
    first: Any = networks[0] if networks else None
    return {} if first is None else {key: first.pretrained_cfg[key] for key in PLAIN_INPUT}
