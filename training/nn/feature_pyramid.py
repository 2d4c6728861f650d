"""Feature maps of any timm backbone at several levels, and the feature pyramid that HiCo learns with a backbone.

The pyramid (Lin et al., CVPR 2017) outlives the pretraining: it is built from the channels of the maps alone, and the
entries "pyramid.*" of a method's state dict are its weights. So it can be fine-tuned below a detector's or a
segmenter's head, on the maps that `timm.create_model(arch, features_only=True)` or `Maps` gives.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

Levels = Literal["auto", "pyramid", "ladder"]


class Maps:
    """Which maps of a backbone the levels of a method read.

    A "pyramid" reads the last map of each of the four coarsest resolutions (p2 .. p5 are made of them), a "ladder" the
    blocks at one third and two thirds of the depth, whatever their resolution.

    Args:
        backbone: a timm model with `forward_intermediates`.
        levels: "auto" is a pyramid where the maps shrink with the depth (ResNet, Swin, ConvNeXt, ...) and a ladder
            where they do not (ViT).

    Attributes:
        pyramid: whether the maps are a pyramid's.
        indices: of the maps among the backbone's intermediates, from the finest.
        channels: of each map.
        reductions: input pixels to one cell of each map.

    Raises:
        ValueError: if the backbone gives no maps, or too few resolutions for a pyramid.
    """

    def __init__(self, backbone: nn.Module, levels: Levels = "auto") -> None:
        name = type(backbone).__name__
        if not hasattr(backbone, "forward_intermediates"):
            raise ValueError(f"{name} has no forward_intermediates, so it has no levels: choose another --arch")
        # A plain list of dicts for most models; models made with features_only wrap it.
        stages = cast("list[dict[str, Any]]", getattr(backbone.feature_info, "info", backbone.feature_info))
        last_of = {stage["reduction"]: index for index, stage in enumerate(stages)}
        self.pyramid = levels == "pyramid" or (levels == "auto" and len(last_of) > 1)
        if self.pyramid and len(last_of) < 4:
            raise ValueError(
                f"{name} has maps of {len(last_of)} resolution(s), a pyramid needs 4: use --method.levels ladder"
            )
        thirds = [round(len(stages) * part / 3) - 1 for part in (1, 2)]
        self.indices = list(last_of.values())[-4:] if self.pyramid else thirds
        self.channels = [int(stages[index]["num_chs"]) for index in self.indices]
        self.reductions = [int(stages[index]["reduction"]) for index in self.indices]

    def __call__(self, backbone: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images [N, C, H, W] -> the representation [N, D] that `backbone(images)` is, and the maps [N, c, h, w]."""
        model = cast("Any", backbone)
        final, maps = model.forward_intermediates(images, indices=self.indices, output_fmt="NCHW")
        return model.forward_head(final), maps


class Pyramid(nn.Module):
    """Top-down feature pyramid on four maps of a backbone.

    p5' = lateral(c5), and downwards pk' = up(p(k+1)') + lateral(ck); pk = smooth(pk'). All maps have one width, and
    only the layers that the wanted levels need exist.

    Args:
        channels: of c2, c3, c4, c5.
        width: channels of every level.
        wanted: levels to return, of "p2" (the finest), "p3", "p4", "p5".
        smooth: which of the levels get their 3x3 convolution; by default all of them.
    """

    def __init__(
        self, channels: Sequence[int], width: int, wanted: Sequence[str], smooth: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.wanted = tuple(wanted)
        self.lateral = nn.ModuleDict(
            {f"p{level}": nn.Conv2d(c, width, 1) for level, c in enumerate(channels, 2) if f"p{level}" >= min(wanted)}
        )
        self.smooth = nn.ModuleDict(
            {level: nn.Conv2d(width, width, 3, padding=1) for level in wanted if smooth is None or level in smooth}
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps c2 .. c5 [N, c, h, w] -> the wanted levels [N, width, h, w], in the order in which they were wanted."""
        levels: dict[str, Tensor] = {}
        above: Tensor | None = None
        for level, bottom in zip(("p5", "p4", "p3", "p2"), reversed(maps), strict=True):
            if level not in self.lateral:
                break
            here = self.lateral[level](bottom)
            if above is not None:
                here = here + F.interpolate(above, size=here.shape[-2:], mode="bilinear", align_corners=False)
            levels[level] = above = here
        return [self.smooth[level](levels[level]) if level in self.smooth else levels[level] for level in self.wanted]
