"""Changes to the training of a U-Net, and their Dice on inner groups: python -m training.study.dense --model NAME ...

A locked picture is never opened: a quarter of the groups of each task's other part stands in for them. One line of JSON
a U-Net goes to the log, and a finished one is not repeated: give the same command again to go on.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from torch import nn

from training.benchmark.dense.evaluate import measured
from training.benchmark.dense.task import DenseProtocol, DenseTask, first_by_hash, load_dense_task
from training.benchmark.imagenet import MEAN, STD, shown_name
from training.benchmark.markdown import between, table, write_between
from training.benchmark.models import RANDOM
from training.data.errors import CorpusError, append_line, refuse_unwritable, short_errors
from usbackbones.hub.backbone import build_backbone, full_name
from usbackbones.segmentation.models import pyramid_of
from usbackbones.segmentation.trainer import Segmenter

LOG = Path(__file__).parent / "studies" / "dense.jsonl"
DOCUMENT = Path("docs/segment.md")
TASKS = ("busi_lesion", "camus_structures")
BASE = DenseProtocol(size=128, epochs=6)


@dataclass(frozen=True)
class Variant:
    """One change of the benchmark's protocol, in which all layers learn at one rate and nothing is frozen.

    Attributes:
        about: a line of the table.
        spec: fields of `usbackbones.segmentation.config.Segment`.
        renewed: stages of this stride and coarser begin with random weights; 0 is none.
        still: batch norms of the backbone keep weights and statistics.
        photo: mean and std of the ImageNet rows in place of the backbone's own.
    """

    about: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    renewed: int = 0
    still: bool = False
    photo: bool = False


VARIANTS: Mapping[str, Variant] = {
    "base": Variant("six epochs, rate 0.001 for all, 128 px"),
    "frozen": Variant("backbone frozen", {"frozen": "all"}),
    "stem": Variant("stem frozen, layer decay 0.8", {"frozen": 0, "layer_decay": 0.8}),
    "low": Variant("rate 0.0003", {"lr": 3e-4}),
    "high": Variant("rate 0.003", {"lr": 3e-3}),
    "top": Variant("stride 32 from random weights", renewed=32),
    "tops": Variant("strides 16 and 32 from random weights", renewed=16),
    "still": Variant("batch norms of the backbone as they were", still=True),
    "photo": Variant("mean and std of the ImageNet rows", photo=True),
    "long": Variant("twelve epochs", {"epochs": 12}),
    "long stem": Variant(
        "twelve epochs, stem frozen, layer decay 0.8", {"epochs": 12, "frozen": 0, "layer_decay": 0.8}
    ),
}


@dataclass(frozen=True)
class Measured:
    """What one U-Net's masks are worth.

    Attributes:
        task: of `training.benchmark.dense.task`.
        model: as it was named; a folder goes by its last part.
        variant: of `VARIANTS`.
        draw: which quarter of the groups was held out, and the seed of the U-Net.
        learned: stills that it learned from.
        evaluated: stills of the quarter.
        dice: mean over them, and over structures where there are several.
    """

    task: str
    model: str
    variant: str
    draw: int
    learned: int
    evaluated: int
    dice: float


def stages_from(network: nn.Module, stride: int) -> tuple[str, ...]:
    """How the names of the parameters of the stages of this stride and coarser begin; of ResNets and EfficientNets.

    Each stage ends with a block that `feature_info` names; those before it that make the same stride are of it too.

    Raises:
        CorpusError: if the network has no such stages.
    """
    told: Any = network.feature_info
    infos = told if isinstance(told, list) else told.info
    last = {info["module"]: info["reduction"] for info in infos}
    blocks = list(dict.fromkeys(_stage(name) for name, _ in network.named_parameters() if _stage(name)))
    ends = [blocks.index(module) for module, reduction in last.items() if module in blocks and reduction < stride]
    later = blocks[max(ends) + 1 :] if ends else []
    if not later:
        raise CorpusError(f"{type(network).__name__} has no stages to begin again: name a ResNet or an EfficientNet")
    return tuple(f"{block}." for block in later)


def _stage(parameter: str) -> str:
    """`layer4` of a ResNet's parameter, `blocks.6` of an EfficientNet's, else nothing."""
    first, *rest = parameter.split(".")
    return first if first.startswith("layer") else f"{first}.{rest[0]}" if first == "blocks" and rest else ""


def renew(network: Any, stride: int, seed: int) -> None:
    """Give the stages of this stride and coarser the weights of a network that was never trained."""
    prefixes = stages_from(network, stride)
    fresh = build_backbone(
        f"{RANDOM}{network.pretrained_cfg['architecture']}", network.pretrained_cfg["input_size"][0], seed=seed
    )
    state = network.state_dict()
    state |= {key: value for key, value in fresh.state_dict().items() if key.startswith(prefixes)}
    network.load_state_dict(state)


def segmenter(model: str, task: DenseTask, variant: Variant, draw: int) -> Segmenter:
    """An untrained U-Net of a variant for the task's pictures."""
    spec = replace(BASE.spec(draw, task.classes), **variant.spec)
    made = Segmenter(model, task.items(), spec, None, progress=False)
    network = pyramid_of(made.model).network
    if variant.renewed:
        renew(network, variant.renewed, draw)
    if variant.still:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
    if variant.photo:
        unet: Any = made.model
        channels = unet.pretrained_cfg["input_size"][0]
        unet.pretrained_cfg = unet.pretrained_cfg | {"mean": (MEAN,) * channels, "std": (STD,) * channels}
    return made


def measure(task: DenseTask, model: str, variant: str, draw: int, most: int) -> Measured:
    """Train a U-Net on some of the pictures that are not held out, and evaluate it on some that are."""
    inner = task.inner(draw)
    inner = replace(inner, rows=first_by_hash(inner.rows, most), test_rows=first_by_hash(inner.test_rows, most))
    run = segmenter(full_name(model), inner, VARIANTS[variant], draw)
    run.run()
    dice = round(float(measured(inner, run.predict("test"))["dice"].mean()), 4)
    return Measured(task.name, shown_name(model), variant, draw, len(inner.rows), len(inner.test_rows), dice)


def read_log(file: Path = LOG) -> list[Measured]:
    """All U-Nets that were measured."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [Measured(**json.loads(line)) for line in lines]


def table_of(found: Iterable[Measured]) -> str:
    """The Markdown table: a row a variant, a column a task and model, the Dice of each draw."""
    cells: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in sorted(found, key=lambda one: (TASKS.index(one.task), one.model, one.draw)):
        cells.setdefault((one.task, one.model), {}).setdefault(one.variant, []).append(one.dice)
    rows = [
        [variant.about, *[_told(column.get(name, [])) for column in cells.values()]]
        for name, variant in VARIANTS.items()
        if any(name in column for column in cells.values())
    ]
    return "\n".join(table(["variant", *[f"{task}: {model}" for task, model in cells]], rows))


def _told(values: list[float]) -> str:
    """The mean, and each draw's own where there are several."""
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "not run"
    return f"{np.mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


def main(
    data: Path,
    model: tuple[str, ...] = (),
    task: tuple[str, ...] = TASKS,
    variant: tuple[str, ...] = tuple(VARIANTS),
    draws: tuple[int, ...] = (0,),
    most: int = 100,
    log: Path = LOG,
    document: Path = DOCUMENT,
) -> None:
    """Train a U-Net of each variant, and write the table of all that the log holds.

    Args:
        data: folder that holds a folder for each dataset.
        model: any names that `usbackbones segment` takes; none to write the table again.
        task: which dense tasks.
        variant: names of `VARIANTS`.
        draws: which quarters to hold out, each with its own seed.
        most: stills to learn from, and to evaluate on, whole groups but the last by a hash of their names.
        log: where measurements are kept.
        document: whose table to write.
    """
    if unknown := [name for name in variant if name not in VARIANTS]:
        raise CorpusError(f"no variant named {unknown[0]!r}; there is: {', '.join(VARIANTS)}")
    refuse_unwritable(document, log)
    between(document.read_text(encoding="utf-8"), "dense", "")  # its marks, before the work
    done = {(found.task, found.model, found.variant, found.draw) for found in read_log(log)}
    for draw in draws:
        for name in variant:
            for of in task:
                for given in model:
                    if (of, shown_name(given), name, draw) not in done:
                        found = measure(load_dense_task(of, data), given, name, draw, most)
                        append_line(log, json.dumps(asdict(found)))
    write_between(document, "dense", table_of(read_log(log)))


if __name__ == "__main__":
    with short_errors(ValueError):
        tyro.cli(main)
