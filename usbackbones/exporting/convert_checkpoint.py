"""Checkpoints of others -> timm folders, with every key accounted for.

    usbackbones convert best_model.pth --from uscl -o folder
    usbackbones convert checkpoint.pth.tar --from auto --mean 0.2 --std 0.2 -o folder

The file stays where it is and nothing is sent anywhere. It is opened as tensors alone (`weights_only`), so a pickle
that would run code is refused. Weights that are converted keep their own licence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from usbackbones._files import atomic_write
from usbackbones.exporting.checkpoint_layouts import LAYOUTS, ultrasound_layouts
from usbackbones.exporting.generic_checkpoint import generic_plan
from usbackbones.exporting.network_by_shapes import skeleton
from usbackbones.exporting.official_checkpoint import official_plan
from usbackbones.exporting.plan import Answers, Plan
from usbackbones.exporting.read_checkpoint import ConvertError, read_checkpoint, state_dicts
from usbackbones.hub.timm_folder import timm_config, write_timm_folder

AUTO = "auto"
"""The source of a checkpoint that is to be recognized."""


@dataclass(frozen=True)
class Converted:
    """What became of a checkpoint.

    Attributes:
        folder: holds config.json and model.safetensors, and pyramid.safetensors where there is one.
        arch: timm's name.
        counts: tensors by where they went: backbone, pyramid, heads, unused.
        heads: what each head is, by its name in the checkpoint.
        layout: the one that was taken, for a person.
        license: of the weights; empty if nobody states it.
        size: side of the input in pixels.
        notes: what was chosen, assumed and passed over, a line each.
    """

    folder: Path
    arch: str
    counts: dict[str, int]
    heads: dict[str, str]
    layout: str
    license: str
    size: int
    notes: tuple[str, ...] = ()


def convert(
    checkpoint: Path,
    source: str,
    out: Path,
    *,
    size: int | None = None,
    drop: Iterable[str] = (),
    heads: bool = False,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    arch: str = "",
    num_heads: int | None = None,
    license_name: str = "",
) -> Converted:
    """Write a timm folder from a checkpoint.

    Args:
        checkpoint: the authors' file (.pth, or .safetensors).
        source: a name of `LAYOUTS`, or "auto" to recognize the file by its keys and shapes.
        out: the folder to write.
        size: side of the input in pixels, where it is not the layout's.
        drop: prefixes of keys to leave out, beyond those that the layout knows to be of no use.
        heads: also write heads.safetensors; HiCo's are of a gigabyte.
        mean: of each channel, or one number, on the 0..1 scale; needed where no layout has it, as are those of std.
        std: likewise.
        arch: timm's name, where the tensors do not tell it.
        num_heads: of a ViT, where the width does not tell it.
        license_name: of the weights, where the layout has none.

    Raises:
        ConvertError: if the file cannot be read as tensors, holds a key that the layout does not know, could be read in
            two ways, or does not have exactly the tensors of the network, by name and shape.
    """
    answers, drop = Answers(size, tuple(mean), tuple(std), arch, num_heads, license_name), tuple(drop)
    if source not in LAYOUTS and source != AUTO:
        raise ConvertError(f"no layout {source!r}; there are {', '.join((*LAYOUTS, AUTO))}")
    content = read_checkpoint(checkpoint)
    try:
        if source == AUTO:
            source = _known(content, answers) or AUTO
        plan = generic_plan(content, answers, drop) if source == AUTO else official_plan(content, source, answers, drop)
        network, args = _sized(plan)
    except ConvertError as error:
        raise ConvertError(f"{checkpoint}: {error}") from error
    backbone, layout = plan.parts["backbone"], plan.layout
    config = timm_config(
        network,
        arch=plan.arch,
        model_args=args,
        tag=plan.tag,
        size=plan.size,
        mean=layout.mean,
        std=layout.std,
        interpolation=layout.interpolation,
        licence=layout.licence,
        origin_url=layout.url,
        description=plan.description.format(checkpoint.name),
    )
    for part in ("pyramid", "heads") if heads else ("pyramid",):
        if plan.parts.get(part):
            with atomic_write(out / f"{part}.safetensors") as stream:
                stream.write(save({name: value.contiguous().clone() for name, value in plan.parts[part].items()}))
    write_timm_folder(out, backbone, config)
    counts = {part: len(plan.parts.get(part, {})) for part in ("backbone", "pyramid", "heads", "unused")}
    return Converted(
        out, plan.arch, counts, plan.heads, layout.title, layout.licence, plan.size,
        tuple([*plan.notes, *([layout.note] if layout.note else [])]),
    )  # fmt: skip


def _sized(plan: Plan) -> tuple[nn.Module, dict[str, Any]]:
    """The network and its arguments; a ViT for images of another side than its own interpolates its positions."""
    args = dict(plan.layout.model_args)
    network = skeleton(plan.arch, args)
    patches: Any = getattr(network, "patch_embed", None)
    if patches is not None and patches.img_size != (plan.size, plan.size):
        if plan.size % patches.patch_size[0]:
            raise ConvertError(
                f"--size {plan.size}: give a multiple of {patches.patch_size[0]}, the side of its patches"
            )
        args["dynamic_img_size"] = True
    return network, args


def _known(content: Any, answers: Answers) -> str:
    """The ultrasound layout of a file, or ""; refused if it is of several that differ in mean and std."""
    keys = {key.removeprefix("module.") for tensors in state_dicts(content).values() for key in tensors}
    found = ultrasound_layouts(keys)
    if len(found) > 1 and not (answers.mean and answers.std):
        raise ConvertError(
            f"{', '.join(found)} name their tensors so, and differ in mean and std: say which it is, --from"
        )
    return found[0] if len(found) == 1 else ""
