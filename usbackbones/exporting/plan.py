"""Plan of a conversion: a backbone by timm's names, and all that its folder says of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from usbackbones.exporting.checkpoint_layouts import Layout
from usbackbones.exporting.read_checkpoint import ConvertError, shown


@dataclass(frozen=True)
class Answers:
    """What a file does not say; what it does say is not to be contradicted.

    Attributes:
        size: side of the input in pixels.
        mean: of each channel on the 0..1 scale, or one number for all.
        std: likewise.
        arch: timm's name of the network.
        num_heads: of a ViT.
        license_name: of the weights.
    """

    size: int | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    arch: str = ""
    num_heads: int | None = None
    license_name: str = ""


@dataclass(frozen=True)
class Plan:
    """A backbone with all that its folder says.

    Attributes:
        layout: says mean, std, license and arguments of the network.
        arch: timm's name.
        parts: tensors by where they go: backbone, pyramid, heads, unused.
        heads: what each head is, by its name.
        tag: of the weight.
        description: a line, with {} for the name of the file.
        size: side of the input in pixels.
        notes: what was chosen, assumed and passed over.
    """

    layout: Layout
    arch: str
    parts: dict[str, dict[str, Tensor]]
    heads: dict[str, str]
    tag: str
    description: str
    size: int
    notes: list[str] = field(default_factory=list)


def mean_and_std(answers: Answers, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Three numbers each; refused where they are missing or none that images have."""
    if not (answers.mean and answers.std):
        raise ConvertError(
            "it does not say by which mean and std its images were normalized: give both on the 0..1 scale, as --mean "
            "0.485 0.456 0.406 --std 0.229 0.224 0.225 (ImageNet's), or one number each for gray"
        )
    for name, values, low in (("mean", answers.mean, 0), ("std", answers.std, 1e-6)):
        if len(values) not in (1, channels):
            raise ConvertError(f"--{name} has {len(values)} numbers: give {f'1 or {channels}' if channels > 1 else 1}")
        if not all(math.isfinite(value) and low <= value <= 1 for value in values):
            raise ConvertError(f"--{name} {' '.join(map(str, values))}: on the 0..1 scale, as 0.485; divide by 255")
    mean, std = (tuple(map(float, values)) * (3 // len(values)) for values in (answers.mean, answers.std))
    return mean, std


def single(value: Tensor) -> Tensor:
    """Half precision would not run on a CPU."""
    return value.float() if value.is_floating_point() else value


def account(what: str, found: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a backbone that has not exactly the tensors of the network."""
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": sorted(
            name for name in found.keys() & wanted.keys() if tuple(found[name].shape) != wanted[name]
        ),
    }
    told = [f"{len(names)} {kind}: {shown(names)}" for kind, names in faults.items() if names]
    if told:
        raise ConvertError(f"it is not {what}; {'; '.join(told)}")
    broken = [name for name, value in found.items() if not torch.isfinite(value).all()]
    if broken:
        raise ConvertError(f"NaN or infinity in {shown(broken)}")
