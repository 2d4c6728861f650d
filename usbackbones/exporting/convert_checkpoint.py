"""Official checkpoints of others -> timm folders, with every key accounted for.

    usbackbones convert best_model.pth --from uscl -o folder

The file stays where it is and nothing is sent anywhere. It is opened as tensors alone (`weights_only`), so a pickle
that would run code is refused. Weights that are converted keep their own licence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from usbackbones._files import atomic_write
from usbackbones.exporting.checkpoint_layouts import LAYOUTS, Layout, roles_of_heads
from usbackbones.hub.timm_folder import timm_config, write_timm_folder
from usbackbones.hub.torch_checkpoint import CheckpointError, load_checkpoint

_WRAPPERS = ("state_dict", "weight", "model_state_dict", "model")
_SHOWN = 8


class ConvertError(ValueError):
    """A checkpoint that is not what it was said to be; the message lists the keys at fault."""


@dataclass(frozen=True)
class Converted:
    """What became of a checkpoint.

    Attributes:
        folder: holds config.json and model.safetensors, and pyramid.safetensors where there is one.
        arch: timm's name.
        counts: tensors by where they went: backbone, pyramid, heads, unused.
        heads: what each head is, by its name in the checkpoint.
    """

    folder: Path
    arch: str
    counts: dict[str, int]
    heads: dict[str, str]


def convert(
    checkpoint: Path, source: str, out: Path, *, size: int | None = None, drop: Iterable[str] = (), heads: bool = False
) -> Converted:
    """Write a timm folder from an official checkpoint.

    Args:
        checkpoint: the authors' file (.pth, or .safetensors).
        source: a name of `LAYOUTS`.
        out: the folder to write.
        size: input side in pixels, where it is not the layout's.
        drop: prefixes of keys to leave out, beyond those that the layout knows to be of no use.
        heads: also write heads.safetensors; HiCo's are of a gigabyte.

    Raises:
        ConvertError: if the file cannot be read as tensors, holds a key that the layout does not know, or does not have
            exactly the tensors of the network, by name and shape.
    """
    if source not in LAYOUTS:
        raise ConvertError(f"no layout {source!r}; there are {', '.join(LAYOUTS)}")
    layout = LAYOUTS[source]
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "pyramid": {}, "heads": {}, "unused": {}}
    strangers = []
    for key, value in _unwrapped(_read(checkpoint), checkpoint).items():
        place = ("unused", key) if key.startswith(tuple(drop)) else layout.place(key)
        if place is None:
            strangers.append(key)
        else:
            part, name = place
            name = key if part == "unused" else name
            parts[part][name] = value.float() if value.is_floating_point() else value
    if strangers:
        raise ConvertError(
            f"{checkpoint}: {len(strangers)} keys are not of {source}'s layout: {_shown(strangers)}. "
            "Is --from right? Keys that the backbone can do without are left out with --drop PREFIX."
        )
    backbone = parts["backbone"]
    arch = layout.arch
    if arch == "resnet":
        arch = "resnet50" if "layer1.0.conv3.weight" in backbone else "resnet18"
    network = _skeleton(arch, layout)
    _account(checkpoint, source, backbone, {name: tuple(t.shape) for name, t in network.state_dict().items()})
    weights = {name: tuple(value.shape) for name, value in parts["heads"].items() if name.endswith(".weight")}
    try:
        roles = roles_of_heads(weights, int(network.num_features))  # type: ignore[arg-type]
    except ValueError as error:
        raise ConvertError(f"{checkpoint}: {error}; leave it out with --drop") from error
    config = timm_config(
        network,
        arch=arch,
        model_args=layout.model_args,
        tag=source.replace("-", "_"),
        size=size or layout.size,
        mean=layout.mean,
        std=layout.std,
        interpolation=layout.interpolation,
        licence=layout.licence,
        origin_url=layout.url,
        description=f"{layout.title}, converted from the authors' {checkpoint.name}",
    )
    for part in ("pyramid", "heads") if heads else ("pyramid",):
        if parts[part]:
            with atomic_write(out / f"{part}.safetensors") as stream:
                stream.write(save({name: value.contiguous().clone() for name, value in parts[part].items()}))
    write_timm_folder(out, backbone, config)
    return Converted(out, arch, {part: len(tensors) for part, tensors in parts.items()}, roles)


def _read(checkpoint: Path) -> Any:
    """The file's content, tensors and plain containers only."""
    if not checkpoint.is_file():
        raise ConvertError(f"{checkpoint} is not a file: give the authors' checkpoint")
    if checkpoint.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(checkpoint)
        except SafetensorError as error:
            raise ConvertError(f"{checkpoint} is no safetensors file ({error})") from error
    try:
        return load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise ConvertError(str(error)) from error


def _unwrapped(content: Any, checkpoint: Path) -> dict[str, Tensor]:
    """The state dict in the container that the authors' script made."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        kind = type(content).__name__
        held = _shown(map(str, content)) if isinstance(content, Mapping) else ""
        raise ConvertError(f"{checkpoint} holds no state dict but a {kind} {held}".rstrip())
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _skeleton(arch: str, layout: Layout) -> nn.Module:
    """The headless network without memory, for its names and shapes."""
    with torch.device("meta"):
        return timm.create_model(arch, num_classes=0, **layout.model_args)


def _account(checkpoint: Path, source: str, found: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a backbone that has not exactly the tensors of the network."""
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": sorted(
            name for name in found.keys() & wanted.keys() if tuple(found[name].shape) != wanted[name]
        ),
    }
    told = [f"{len(names)} {kind}: {_shown(names)}" for kind, names in faults.items() if names]
    if told:
        raise ConvertError(f"{checkpoint} is not {source}'s backbone; {'; '.join(told)}")
    broken = [name for name, value in found.items() if not torch.isfinite(value).all()]
    if broken:
        raise ConvertError(f"{checkpoint}: NaN or infinity in {_shown(broken)}")


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
