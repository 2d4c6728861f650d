"""Feature maps of any backbone at strides that dense heads want: a ResNet's as they are, a ViT's resampled.

A plain ViT has one resolution. Its maps are brought to strides 4, 8, 16 and 32 by the simple feature pyramid of Li et
al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ECCV 2022): transposed convolutions upwards,
pooling downwards, all from the last block or, with `spread`, from blocks evenly spread over the depth.
"""

from statistics import mean
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from usbackbones.hub.random_weights import PLAIN_MEAN, PLAIN_STD, RANDOM, untrained

VIT_STRIDES = (4, 8, 16, 32)


class BackboneError(ValueError):
    """A backbone that no dense head can stand on; one line that names the fault and the remedy."""


def backbone(name: str, in_chans: int = 1, seed: int = 0) -> nn.Module:
    """A network without a classifier that takes pictures of any size.

    Args:
        name: `usbackbones/ARCH.TAG`, any timm name, `local-dir:FOLDER`, or `random:ARCH` for an untrained one.
        in_chans: channels of the pictures, 1 or 3.
        seed: of the untrained weights.

    Returns:
        A timm model; its `pretrained_cfg` has the mean and std of its channels.

    Raises:
        UnknownModel, WeightsError: if a weight of ours cannot be had.
        RuntimeError: if timm does not know the name.
        BackboneError: if `in_chans` is neither 1 nor 3, or there is no such architecture.
    """
    if in_chans not in (1, 3):
        raise BackboneError(f"in_chans is {in_chans}: pictures have 1 channel (gray) or 3 (RGB)")
    arch = name.removeprefix(RANDOM) if name.startswith(RANDOM) else ""
    if arch and not timm.is_model(arch):
        raise BackboneError(f"{name}: timm has no architecture {arch!r}; try random:resnet18")
    network = _made(name, arch, seed, in_chans=in_chans)
    if isinstance(network, VisionTransformer) and not network.dynamic_img_size:
        # Its positions are interpolated to each picture.
        network = _made(name, arch, seed, in_chans=in_chans, dynamic_img_size=True)
    describe_channels(network, in_chans, **({"mean": PLAIN_MEAN, "std": PLAIN_STD} if arch else {}))
    return network


def describe_channels(network: nn.Module, in_chans: int, **changes: Any) -> None:
    """Make `pretrained_cfg` tell the input size, mean and std of the channels as built, where timm goes on saying 3.

    Args:
        network: a timm model, changed in place.
        in_chans: that it was made with.
        changes: of the cfg, before it follows the channels.
    """
    cfg: dict[str, Any] = dict(network.pretrained_cfg) | changes  # type: ignore[arg-type]
    cfg["input_size"] = (in_chans, *cfg["input_size"][1:])
    for statistic in ("mean", "std"):
        if len(cfg[statistic]) != in_chans:
            cfg[statistic] = (mean(cfg[statistic]),) * in_chans
    vars(network).update(pretrained_cfg=cfg, default_cfg=cfg)


def _made(name: str, arch: str, seed: int, **arguments: Any) -> nn.Module:
    """The network of a name, or an untrained one where `arch` says of which architecture."""
    if arch:
        return untrained(arch, seed, **arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name.removeprefix("timm/"), pretrained=True, num_classes=0, **arguments)


class Pyramid(nn.Module):
    """The maps of a backbone from the finest to the coarsest.

    Args:
        network: made by `backbone`.
        spread: of a ViT, read a block for each level, evenly spread over the depth, instead of the last for all.

    Attributes:
        network: the backbone.
        strides: input pixels to one cell of each map.
        channels: of each map.

    Raises:
        BackboneError: if the maps cannot be had, or a ViT's patches are not of 16 pixels.
    """

    def __init__(self, network: nn.Module, spread: bool = False) -> None:
        super().__init__()
        if not hasattr(network, "forward_intermediates"):
            raise BackboneError(f"{type(network).__name__} gives no feature maps: choose a ResNet, a ViT or the like")
        self.network: Any = network
        self.necks = nn.ModuleList()
        if isinstance(network, VisionTransformer):
            patch, depth, width = network.patch_embed.patch_size[0], len(network.blocks), network.embed_dim
            if patch != 16:
                raise BackboneError(f"patches of {patch} pixels: the strides 4 to 32 need a ViT with patches of 16")
            levels = range(1, len(VIT_STRIDES) + 1)
            self.indices = [depth * level // len(VIT_STRIDES) - 1 if spread else depth - 1 for level in levels]
            self.strides: tuple[int, ...] = VIT_STRIDES
            self.channels: tuple[int, ...] = (width // 4, width // 2, width, width)
            self.necks.extend(_neck(stride, width) for stride in VIT_STRIDES)
        else:
            last = {info["reduction"]: (index, info["num_chs"]) for index, info in enumerate(self._levels())}
            self.strides = tuple(sorted(last))
            self.indices = [last[stride][0] for stride in self.strides]
            self.channels = tuple(last[stride][1] for stride in self.strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps float [N, C, H / stride, W / stride] of images [N, in_chans, H, W], sides multiples of 32."""
        wanted = sorted(set(self.indices))
        # A ViT's blocks hand on an unbounded sum; its last norm brings each map to the scale that heads expect.
        maps = self.network.forward_intermediates(
            images, indices=wanted, norm=bool(self.necks), intermediates_only=True, output_fmt="NCHW"
        )
        found = [maps[wanted.index(index)] for index in self.indices]
        return [neck(x) for neck, x in zip(self.necks, found, strict=True)] if self.necks else found

    def _levels(self) -> list[dict[str, Any]]:
        info = self.network.feature_info
        return list(info if isinstance(info, list) else info.info)


def _neck(stride: int, width: int) -> nn.Module:
    """From a map of stride 16 to another stride, as the simple feature pyramid does it."""
    if stride == 16:
        return nn.Identity()
    if stride == 32:
        return nn.MaxPool2d(2)
    half = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
    if stride == 8:
        return half
    return nn.Sequential(
        half, nn.GroupNorm(1, width // 2), nn.GELU(), nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2)
    )
