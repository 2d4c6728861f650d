"""Feature maps of any backbone at strides that dense heads want: a ResNet's as they are, a ViT's resampled.

A plain ViT has one resolution. Its maps are brought to strides 4, 8, 16 and 32 by the simple feature pyramid of Li et
al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ECCV 2022): transposed convolutions upwards,
pooling downwards, all from the last block or, with `spread`, from blocks evenly spread over the depth.
"""

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from usbackbones.hub.errors import BackboneError

VIT_STRIDES = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """The maps of a backbone from the finest to the coarsest.

    Args:
        network: made by `usbackbones.build_backbone`.
        spread: of a ViT, read a block for each level, evenly spread over the depth, instead of the last for all.

    Attributes:
        network: the backbone.
        strides: input pixels to one cell of each map.
        channels: of each map.

    Raises:
        BackboneError: if it gives no maps, or a ViT's patches are not of 16 pixels.
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
