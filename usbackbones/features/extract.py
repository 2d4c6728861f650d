"""Features of any timm model: `embed` in one call, `Extractor` batch by batch, pooled or as maps.

Each frame is one row of float32 numbers; `Extractor.shapes` says which of them belong to which array.
"""

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from usbackbones._files import atomic_write
from usbackbones.clips.formats.base import luma
from usbackbones.features.ahead import loaded
from usbackbones.features.fold_batchnorm import fold_batchnorm
from usbackbones.features.precision import computes_in_bf16
from usbackbones.features.transforms import transforms

LEVELS = ("pooled", "levels", "tokens")
FOLDED_TOLERANCE = 1e-4
"""Of the largest feature: how far folding alone may move one in fp32."""
BF16_TOLERANCE = 2e-2
"""Norm of the difference over the norm of the features, where the fast path computes in bfloat16."""


def embed(
    model: nn.Module,
    frames: np.ndarray | Image.Image | Iterable[Any],
    batch_size: int = 32,
    bf16: bool = False,
    cache: Path | None = None,
) -> np.ndarray:
    """Pooled features of frames; a classifier that the model may have is not used.

    The frames are prepared as the model was trained (`usbackbones.transforms`) and run on the device that
    the model is on. Afterwards every module is in train or eval mode as it was before.

    Args:
        model: any timm model.
        frames: uint8 [N, H, W]; one image, uint8 [H, W] or [H, W, 3]; [N, H, W, 3]; or any iterable of images, whose
            sizes may differ: arrays, PIL images of 8 bits, which are turned upright as EXIF says, or tensors
            [1|3, H, W]. Color becomes gray as in `read_clip`.
        batch_size: frames held and computed at a time.
        bf16: compute in bfloat16, faster where the hardware has it; features agree to about 1 %.
        cache: a folder that keeps the features of an array, by a hash of the model and of the frames.

    Returns:
        float32 [N, D].

    Raises:
        TypeError: an array of another kind or shape, or one that could be read in two ways.
        ValueError: if there are no frames.
    """
    images = _images(frames)
    file = None
    if cache is not None:
        if not isinstance(images, np.ndarray):
            raise TypeError("cache= keeps the features of an array uint8 [N, H, W], not of an iterable")
        file = cache / f"features-{fingerprint(model)}-{frames_hash(images)}{'-bf16' * bf16}.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as arrays:
                kept: np.ndarray = arrays["features"]
            return kept
    training = [module for module in model.modules() if module.training]
    try:
        rows = list(Extractor(model, batch_size=batch_size, bf16=bf16).rows(images))
    finally:
        for module in training:
            module.training = True
    if not rows:
        raise ValueError("there are no frames to embed: `frames` is empty")
    features = np.concatenate(rows)
    if file is not None:
        with atomic_write(file) as stream:
            np.savez(stream, features=features)
    return features


class Extractor:
    """A model that turns frames into rows of features.

    Attributes:
        shapes: of each array for one frame, in the order in which they stand in a row. "pooled": features [D].
            "levels": level1 .. level4 [C], the mean over each of the last four stages of a pyramid, or of the blocks at
            the quarters of a ViT's depth. "tokens": tokens [C, h, w], the last feature map, normed; a ViT's patch
            tokens in their places.
        computed: "fp32", "fp32 folded" or "bf16"; what a cache must tell apart.
    """

    def __init__(
        self, model: nn.Module, level: str = "pooled", batch_size: int = 32, fast: bool = False, bf16: bool = False
    ) -> None:
        """Prepare the model.

        Args:
            model: any timm model; it is put into eval mode, with `fast` a copy of it is.
            level: one of `LEVELS`.
            batch_size: frames held and computed at a time.
            fast: fold BatchNorm, and compute in bfloat16 where the hardware has it; see the tolerances above.
            bf16: compute in bfloat16 on any hardware.
        """
        if level not in LEVELS:
            raise ValueError(f"level {level!r} is none of {', '.join(LEVELS)}")
        self.device = next(model.parameters()).device
        self.level, self.batch_size = level, batch_size
        self.bf16 = bf16 or (fast and computes_in_bf16(self.device))
        folded = 0
        self.model: Any = model.eval()
        if fast:
            self.model, folded = fold_batchnorm(model)
        self.computed = "bf16" if self.bf16 else "fp32 folded" if folded else "fp32"
        self.prepare = transforms(model)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each array of one frame; by running the model once."""
        blank = torch.zeros(1, self.prepare.channels, *self.prepare.size)
        return {name: tuple(array.shape[1:]) for name, array in self._arrays(blank).items()}

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def rows(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Float32 [B, width] for each batch of frames uint8 [H, W], whose sizes may differ."""
        stream = iter(frames)
        batches = iter(lambda: list(islice(stream, self.batch_size)), [])
        for _, (images,) in loaded(batches, self._read, self.device):
            flat = [array.flatten(1) for array in self._arrays(images).values()]
            yield torch.cat(flat, 1).float().cpu().numpy()

    def _read(self, frames: list[np.ndarray]) -> tuple[torch.Tensor]:
        return (torch.stack([self.prepare(frame) for frame in frames]),)

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


def fingerprint(model: nn.Module) -> str:
    """16 hex digits of all that decides a network's features: layers, weights, and how frames reach it."""
    network: Any = model
    seen = {key: network.pretrained_cfg.get(key) for key in ("input_size", "mean", "std", "interpolation")}
    seen |= {key: network.pretrained_cfg.get(key) for key in ("crop_mode", "crop_pct")}
    digest = hashlib.sha256(f"{model!r} {getattr(model, 'global_pool', '')} {seen}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def frames_hash(frames: np.ndarray) -> str:
    """16 hex digits of the frames and their shape."""
    digest = hashlib.sha256(str(frames.shape).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()[:16]


def _images(frames: np.ndarray | Image.Image | Iterable[Any]) -> np.ndarray | Iterable[Any]:
    """Gray images, one by one or [N, H, W]; what could be read in two ways is refused."""
    if isinstance(frames, Image.Image):
        return _gray(frames)[None]
    if not isinstance(frames, np.ndarray):
        return map(_gray, frames)
    if frames.dtype != np.uint8:
        raise TypeError(f"pixels are {frames.dtype}, not uint8 from 0 to 255")
    if frames.ndim == 3 and frames.shape[-1] == 3:
        return _gray(frames)[None]
    if frames.ndim == 2:
        return frames[None]
    if frames.ndim == 4 and frames.shape[-1] == 3:
        return np.stack([_gray(frame) for frame in frames]) if len(frames) else frames[..., 0]
    if frames.ndim != 3 or frames.shape[-1] in (1, 2, 4):
        raise TypeError(
            f"an array {list(frames.shape)} could be read in more than one way: give gray frames [N, H, W], or color "
            "frames [N, H, W, 3] without alpha"
        )
    if len(frames) == 3:
        warnings.warn(
            f"an array {list(frames.shape)} was read as three gray frames; if it is RGB, move its first axis last",
            stacklevel=3,
        )
    return frames


def _gray(image: Any) -> Any:
    """An image of an iterable in gray; what is no color image is left to the transform."""
    if isinstance(image, Image.Image):
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            raise TypeError(
                f"an image of mode {image.mode} has no 8-bit pixels: read it with usbackbones.read_clip, or scale it "
                "to 0..255"
            )
        return luma(ImageOps.exif_transpose(image))
    if isinstance(image, torch.Tensor) and image.ndim == 3 and image.shape[0] == 3 and image.dtype == torch.uint8:
        image = image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[-1] == 3 and image.dtype == np.uint8:
        return luma(Image.fromarray(image))
    return image
