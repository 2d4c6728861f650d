"""Plan the conversion of a checkpoint that is recognized by its keys and shapes, see `generic_layouts`."""

from collections.abc import Mapping
from typing import Any

import torch

from usbackbones.exporting.checkpoint_layouts import Layout
from usbackbones.exporting.generic_layouts import find_encoder
from usbackbones.exporting.network_by_shapes import skeleton, tell_network
from usbackbones.exporting.plan import Answers, Plan, account, mean_and_std, single
from usbackbones.exporting.read_checkpoint import ConvertError, contents, state_dicts

IMAGE_SIZE = 224
"""Side of the input of a ResNet, pixels, where nobody says it; a ViT has its own in its positions."""


def generic_plan(content: Any, answers: Answers, drop: tuple[str, ...]) -> Plan:
    """A checkpoint of any other pretraining that is recognized."""
    dicts = state_dicts(content)
    if not dicts:
        raise ConvertError(f"it holds no tensors by name but {contents(content)}")
    found = find_encoder(dicts, drop)
    tensors = {name: single(value) for name, value in found.parts["backbone"].items()}
    hint = content.get("arch") if isinstance(content, Mapping) else ""
    hint = hint.partition(".")[0] if isinstance(hint, str) else ""
    told = tell_network(tensors, found.method, answers.arch, hint, answers.num_heads)
    network = skeleton(told.arch, told.args)
    wanted = network.state_dict()
    first = f"{network.pretrained_cfg['first_conv']}.weight"  # type: ignore[index]
    channels = tensors[first].shape[1]
    if channels not in (1, 3):
        raise ConvertError(f"its first convolution takes {channels} channels: images have 1 or 3")
    mean, std = mean_and_std(answers, channels)
    notes = [*found.notes, *filter(None, [told.note])]
    if channels == 1:
        tensors[first] = tensors[first].repeat(1, 3, 1, 1) / 3
        notes.append("one gray channel: stored as three equal ones, which in_chans=1 adds up again")
    if lacking := [name for name in wanted if name.endswith("num_batches_tracked") and name not in tensors]:
        tensors |= {name: torch.zeros((), dtype=torch.long) for name in lacking}
        notes.append(f"{len(lacking)} counters of batches, which older files lack and no feature depends on, are zero")
    account(told.arch, tensors, {name: tuple(value.shape) for name, value in wanted.items()})
    patches: Any = getattr(network, "patch_embed", None)
    size = answers.size or (patches.img_size[0] if patches else IMAGE_SIZE)
    if not (answers.size or patches):
        notes.append(f"images of {size} px are assumed: no tensor of a ResNet tells; for another side, --size")
    wrapped = isinstance(content, Mapping) and "pytorch-lightning_version" in content
    title = f"{found.title}{', in a checkpoint of Lightning' if wrapped else ''}"
    layout = Layout(
        title, "", answers.license_name, told.arch, (), size, mean, std, model_args=told.args,
    )  # fmt: skip
    heads = {
        name: f"linear, {value.shape[1]} -> {value.shape[0]}"
        for name, value in found.parts["heads"].items()
        if value.ndim == 2
    }
    tag = (found.method or "converted").lower().replace(" ", "_")
    parts = found.parts | {"backbone": tensors}
    return Plan(layout, told.arch, parts, heads, tag, f"{title}, converted from {{}}", size, notes)
