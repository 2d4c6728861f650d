"""Tell a ResNet or a ViT of timm by the names and shapes of its tensors.

Shapes do not tell all: two networks of the same tensors can compute different functions. A ViT's number of heads is
taken from its width as everybody has it, where everybody agrees, and asked for elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn

from usbackbones.exporting.read_checkpoint import ConvertError, shown

RESNETS: dict[tuple[int, ...], tuple[str, ...]] = {
    (2, 2, 2, 2): ("resnet18", "resnet26", "resnet18d", "resnet26d", "resnet26t"),
    (3, 4, 6, 3): (
        "resnet50", "resnet34", "wide_resnet50_2", "resnext50_32x4d", "resnet50d", "resnet34d", "resnet50t",
        "resnet50c", "resnet50s",
    ),
    (3, 4, 23, 3): (
        "resnet101", "wide_resnet101_2", "resnext101_32x8d", "resnext101_32x4d", "resnext101_64x4d", "resnet101d",
        "resnet101c", "resnet101s",
    ),
    (3, 8, 36, 3): ("resnet152", "resnet152d"),
    (3, 24, 36, 3): ("resnet200", "resnet200d"),
    (1, 1, 1, 1): ("resnet10t", "resnet14t", "test_resnet"),
}  # fmt: skip
"""By the blocks of each stage, tried in turn. The plain one comes before others of the same tensors (as resnetaa50),
which only a name in the file or the user tells."""
VITS = {
    192: ("tiny", 12, 3), 384: ("small", 12, 6), 768: ("base", 12, 12), 1024: ("large", 24, 16), 1280: ("huge", 32, 16),
}  # fmt: skip
"""By width: timm's word for the size, the depth, and the number of heads."""


@dataclass(frozen=True)
class Told:
    """A network that was told by its tensors.

    Attributes:
        arch: timm's name.
        args: what `timm.create_model` needs besides the name and the channels.
        note: what was assumed, in a line; empty if nothing was.
    """

    arch: str
    args: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def tell_network(
    tensors: Mapping[str, Tensor], method: str = "", arch: str = "", hint: str = "", num_heads: int | None = None
) -> Told:
    """The architecture of an encoder.

    Args:
        tensors: of the encoder by timm's names, without a head.
        method: that trained it, as `generic_layouts.find_encoder` tells it.
        arch: timm's name, if the user gave it.
        hint: a name in the file, which is taken if it is timm's and its tensors are these.
        num_heads: of a ViT, if the user gave it.

    Raises:
        ConvertError: if no network has these tensors, or one could be several.
    """
    vit = "patch_embed.proj.weight" in tensors
    if arch and not timm.is_model(arch):
        raise ConvertError(f"--arch {arch}: timm has no such architecture")
    if num_heads is not None and not vit:
        raise ConvertError(f"--num-heads {num_heads}: this is a ResNet, which has none")
    given = {"num_heads": num_heads} if num_heads else {}
    sized = {"img_size": _side(tensors)} if vit else {}
    tried = [arch] if arch else [hint, *(() if vit else RESNETS.get(_blocks(tensors), ()))]
    for name in filter(timm.is_model, tried):
        for args in (given, given | sized):
            if not _differing(name, args, tensors):
                return Told(name, args)
    if arch:
        _refuse(f"--arch {arch}", _differing(arch, given | sized, tensors))
    if vit:
        return _vit(tensors, method, sized, num_heads)
    stem = tensors.get("conv1.weight", torch.empty(0))
    told = (
        " (its first convolution is 3 x 3, as for CIFAR, which none of timm's has)" if stem.shape[2:] == (3, 3) else ""
    )
    raise ConvertError(f"no ResNet that is tried has these tensors{told}: give --arch, one of timm's names")


def skeleton(arch: str, args: Mapping[str, Any]) -> nn.Module:
    """The headless network without memory, for its names and shapes."""
    with torch.device("meta"):
        return timm.create_model(arch, num_classes=0, **args)


def _differing(arch: str, args: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that the network lacks, has besides, or has in another shape; channels are free."""
    try:
        network = skeleton(arch, args)
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:  # arguments that it does not take
        return [f"none ({error})"]
    wanted, found = network.state_dict(), dict(tensors)
    first = f"{network.pretrained_cfg['first_conv']}.weight"  # type: ignore[index]
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    differing = wanted.keys() - counters ^ found.keys() - counters
    for name in wanted.keys() & found.keys():
        shapes = [tuple(of[name].shape) for of in (wanted, found)]
        if name == first:
            shapes = [(shape[0], *shape[2:]) for shape in shapes]
        if shapes[0] != shapes[1]:
            differing.add(name)
    return sorted(differing)


def _refuse(what: str, differing: list[str]) -> None:
    raise ConvertError(f"{what} has other tensors, in name or shape: {shown(differing)}")


def _blocks(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The number of blocks of each stage of a ResNet."""
    blocks = {tuple(name.split(".")[:2]) for name in tensors if name.startswith("layer")}
    return tuple(sum(stage == f"layer{number}" for stage, _ in blocks) for number in (1, 2, 3, 4))


def _side(tensors: Mapping[str, Tensor]) -> int:
    """The side of the images of a ViT, pixels, by its positions."""
    if "pos_embed" not in tensors:
        raise ConvertError("the ViT has no pos_embed, by which its images could be told: it is not converted")
    length, patch = tensors["pos_embed"].shape[1], tensors["patch_embed.proj.weight"].shape[-1]
    sides = (round((length - extra) ** 0.5) for extra in (0, _prefix_tokens(tensors)))
    side = next((side for side in sides if side**2 in (length, length - _prefix_tokens(tensors))), None)
    if side is None:
        raise ConvertError(f"pos_embed has {length} places, which make no square: such a ViT is not converted")
    return side * patch


def _prefix_tokens(tensors: Mapping[str, Tensor]) -> int:
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    return registers + ("cls_token" in tensors)


def _vit(tensors: Mapping[str, Tensor], method: str, sized: Mapping[str, int], num_heads: int | None) -> Told:
    """The ViT of timm that has the width, depth and patch, with what differs from it as arguments."""
    width, _, _, patch = tensors["patch_embed.proj.weight"].shape
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    word, usual_depth, usual = VITS.get(width, ("base", 0, 0))
    heads = usual if depth == usual_depth else 0
    if method == "MoCo v3" and width == 384:
        heads = 12  # its ViT-Small has twice the usual number
    if width == 192 and not method:
        heads = 0
    if not (num_heads or heads):
        known = (
            "timm's has 3; with 12 it is TinyUSFM's, --from tinyusfm" if width == 192 else "its authors' code has it"
        )
        raise ConvertError(
            f"no tensor tells the number of heads of a ViT of width {width} and depth {depth}: give --num-heads "
            f"({known})"
        )
    if width % (num_heads or heads):
        raise ConvertError(f"--num-heads {num_heads}: the width {width} is no multiple of it")
    name = f"vit_{word}_patch{patch}_224"
    name = name if timm.is_model(name) else f"vit_{word}_patch16_224"
    plain: Any = skeleton(name, {})
    args = {
        "img_size": (sized["img_size"], plain.patch_embed.img_size[0]),
        "patch_size": (patch, plain.patch_embed.patch_size[0]),
        "embed_dim": (width, plain.embed_dim),
        "depth": (depth, len(plain.blocks)),
        "num_heads": (num_heads or heads, plain.blocks[0].attn.num_heads),
        "mlp_ratio": (tensors["blocks.0.mlp.fc1.weight"].shape[0] / width, 4),
    }
    made = {key: found for key, (found, own) in args.items() if found != own} | _vit_options(tensors)
    if differing := _differing(name, made, tensors):
        _refuse(f"the nearest network of timm, {name} with {made},", differing)
    assumed = f"{heads} heads are assumed, as usual for this width: no tensor tells; for others, --num-heads"
    return Told(name, made, "" if num_heads else assumed)


def _vit_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments that the names of a ViT's tensors tell, where they differ from the plain one."""
    classes, prefix = "cls_token" in tensors, _prefix_tokens(tensors)
    length = tensors["pos_embed"].shape[1]
    said = {
        "qkv_bias": (False, "blocks.0.attn.qkv.bias" not in tensors),
        "qk_norm": (True, "blocks.0.attn.q_norm.weight" in tensors),
        "init_values": (1e-5, "blocks.0.ls1.gamma" in tensors),
        "pre_norm": (True, "norm_pre.weight" in tensors),
        "class_token": (False, not classes),
        "reg_tokens": (prefix - classes, prefix > classes),
        "no_embed_class": (True, prefix > 0 and round(length**0.5) ** 2 == length),
        "global_pool": ("avg", not classes or "fc_norm.weight" in tensors),
        "fc_norm": (False, not classes and "fc_norm.weight" not in tensors),
    }
    return {key: value for key, (value, holds) in said.items() if holds}
