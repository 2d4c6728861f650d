"""Features of any timm model, batch by batch: pooled, pooled at four levels, or the last feature map.

Each frame is one row of float32 numbers; `Extractor.shapes` says which of them belong to which array.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from usbackbones.features.fold_batchnorm import fold_batchnorm
from usbackbones.features.precision import computes_in_bf16
from usbackbones.features.transforms import transforms

LEVELS = ("pooled", "levels", "tokens")
FOLDED_TOLERANCE = 1e-4
"""Of the largest feature: how far folding alone may move one in fp32."""
BF16_TOLERANCE = 2e-2
"""Norm of the difference over the norm of the features, where the fast path computes in bfloat16."""


class Extractor:
    """A model that turns frames into rows of features.

    Attributes:
        shapes: of each array for one frame, in the order in which they stand in a row. "pooled": features [D].
            "levels": level1 .. level4 [C], the mean over each of the last four stages of a pyramid, or of the blocks at
            the quarters of a ViT's depth. "tokens": tokens [C, h, w], the last feature map, normed; a ViT's patch
            tokens in their places.
        width: numbers in a row.
        computed: "fp32", "fp32 folded" or "bf16"; what a cache must tell apart.
    """

    def __init__(self, model: nn.Module, level: str = "pooled", batch_size: int = 32, fast: bool = False) -> None:
        """Prepare the model.

        Args:
            model: any timm model; it is put into eval mode, with `fast` a copy of it is.
            level: one of `LEVELS`.
            batch_size: frames held and computed at a time.
            fast: fold BatchNorm, and compute in bfloat16 where the hardware has it; see the tolerances above.
        """
        if level not in LEVELS:
            raise ValueError(f"level {level!r} is none of {', '.join(LEVELS)}")
        self.device = next(model.parameters()).device
        self.level, self.batch_size = level, batch_size
        self.bf16 = fast and computes_in_bf16(self.device)
        folded = 0
        self.model: Any = model.eval()
        if fast:
            self.model, folded = fold_batchnorm(model)
        self.computed = "bf16" if self.bf16 else "fp32 folded" if folded else "fp32"
        self.prepare = transforms(model)
        blank = torch.zeros(1, self.prepare.channels, *self.prepare.size)
        self.shapes = {name: tuple(array.shape[1:]) for name, array in self._arrays(blank).items()}
        self.width = sum(math.prod(shape) for shape in self.shapes.values())

    def rows(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Float32 [B, width] for each batch of frames uint8 [H, W], whose sizes may differ."""
        stream = iter(frames)
        while batch := list(islice(stream, self.batch_size)):
            images = torch.stack([self.prepare(frame) for frame in batch])
            flat = [array.flatten(1) for array in self._arrays(images).values()]
            yield torch.cat(flat, 1).float().cpu().numpy()

    @torch.inference_mode()
    def _arrays(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each array of `shapes` for images [B, C, S, S]."""
        # channels_last is what convolutions are fastest in; to a ViT it makes no difference.
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if self.level == "pooled":
                features = self.model.forward_features(images)
                return {"features": self.model.forward_head(features, pre_logits=True)}
            if self.level == "tokens":
                maps = self.model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
                return {"tokens": maps[-1]}
            maps = self.model.forward_intermediates(images, indices=self._stages(), intermediates_only=True)
            return {f"level{n}": found.float().mean((2, 3)) for n, found in enumerate(maps, start=1)}

    def _stages(self) -> list[int]:
        """The four stages of "levels": the last ones of a pyramid, the quarters of an even stack of blocks."""
        stages = len(self.model.feature_info)
        return list(range(stages - 4, stages)) if stages < 8 else [stages * n // 4 - 1 for n in (1, 2, 3, 4)]
