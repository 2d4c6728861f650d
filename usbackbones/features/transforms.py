"""From an image or a clip to the tensor that a model wants: size, channels, mean and std as it was built.

The configuration is `model.pretrained_cfg`, corrected by the network itself, so this works for our models and timm's.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from usbackbones.hub.describe import cfg_as_built

if TYPE_CHECKING:
    from torchvision.transforms import v2


class Transform:
    """A torchvision v2 pipeline that also sets the number of channels; made by `transforms`."""

    def __init__(self, cfg: dict[str, Any], train: bool) -> None:
        from torchvision.transforms import v2

        self.channels, height, width = cfg["input_size"]
        self.size = (height, width)
        interpolation = v2.InterpolationMode(cfg["interpolation"])
        spatial: list[nn.Module]
        if train:
            spatial = [
                v2.RandomResizedCrop(self.size, scale=(0.6, 1.0), interpolation=interpolation),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(brightness=0.2, contrast=0.2),
            ]
        else:
            spatial = [_resize(cfg, interpolation), v2.CenterCrop(self.size)]
        self.spatial = v2.Compose(spatial)
        self.normalize = v2.Compose(
            [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(cfg["mean"]), list(cfg["std"]))]
        )

    def __call__(self, image: Image.Image | np.ndarray | torch.Tensor) -> torch.Tensor:
        """Transform one image, or the frames of one clip alike.

        Args:
            image: PIL image of mode L or RGB; uint8 array `[H, W]` or `[H, W, 3]`; uint8 tensor `[1|3, H, W]` or
                `[T, 1|3, H, W]`.

        Returns:
            float32 `[C, S, S]` or `[T, C, S, S]`, normalised, with the C channels of the model: gray is repeated,
            RGB is turned into luma for a 1-channel model. In training, the frames of a clip share one random draw.

        Raises:
            TypeError: any other type, mode or shape.
        """
        return self.normalize(_with_channels(self.spatial(_as_tensor(image)), self.channels))

    def clip_batch(self, frames: np.ndarray) -> torch.Tensor:
        """Transform the frames of a clip, uint8 `[T, H, W]`, into a batch, float32 `[T, C, S, S]`."""
        if frames.ndim != 3:
            raise TypeError(f"a clip is uint8 [T, H, W], not {frames.dtype} {list(frames.shape)}")
        return self(_tensor_of(frames)[:, None])

    def __repr__(self) -> str:
        return f"Transform(channels={self.channels}, {self.spatial}, {self.normalize})"


def transforms(model: nn.Module, train: bool = False) -> Transform:
    """Make the transform that fits a timm model as built.

    Args:
        model: any timm model; its `pretrained_cfg` says size, mean, std, interpolation and crop, its first
            convolution the channels.
        train: a random crop of 60 to 100 % of the area, a random flip and a mild change of brightness and
            contrast, instead of the whole image.

    Raises:
        TypeError: if the model has no `pretrained_cfg`.
    """
    return Transform(cfg_as_built(model), train)


def _resize(cfg: dict[str, Any], interpolation: "v2.InterpolationMode") -> nn.Module:
    """Resize as timm does: "squash" keeps the whole image, "center" its aspect ratio."""
    from torchvision.transforms import v2

    height, width = (int(edge / cfg["crop_pct"]) for edge in cfg["input_size"][1:])
    if cfg["crop_mode"] == "squash":
        return v2.Resize((height, width), interpolation=interpolation)
    if cfg["crop_mode"] == "center" and height == width:
        return v2.Resize(height, interpolation=interpolation)
    raise ValueError(
        f"crop_mode {cfg['crop_mode']!r} to {height}x{width} is not supported: only squash, and center to a square"
    )


def _tensor_of(array: np.ndarray) -> torch.Tensor:
    """The array as a tensor; copied only when it is read-only or not contiguous, which torch cannot take."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _as_tensor(image: Image.Image | np.ndarray | torch.Tensor) -> torch.Tensor:
    """As uint8 `[..., 1|3, H, W]`."""
    from torchvision.transforms.v2 import functional

    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB"):
            raise TypeError(f"an image of mode {image.mode} is not supported: call image.convert('L') first")
        return functional.pil_to_tensor(image)
    tensor = image
    if isinstance(image, np.ndarray):
        tensor = _tensor_of(image)
        if image.ndim == 2:
            tensor = tensor[None]
        elif image.ndim == 3 and image.shape[-1] == 3:
            tensor = tensor.permute(2, 0, 1)
        else:
            raise TypeError(f"an array is [H, W] or [H, W, 3], not {list(image.shape)}; a clip goes to clip_batch")
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{type(image).__name__} is not a PIL image, an array or a tensor")
    if tensor.dtype != torch.uint8:
        raise TypeError(f"pixels are {tensor.dtype}, not uint8 from 0 to 255")
    if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3):
        raise TypeError(f"a tensor is [1|3, H, W] or [T, 1|3, H, W], not {list(tensor.shape)}")
    return tensor


def _with_channels(pixels: torch.Tensor, channels: int) -> torch.Tensor:
    """`[..., 1|3, H, W]` with the number of channels that the model takes."""
    from torchvision.transforms.v2 import functional

    if pixels.shape[-3] == channels:
        return pixels
    if pixels.shape[-3] == 3:
        pixels = functional.rgb_to_grayscale(pixels)
    return pixels.expand(*pixels.shape[:-3], channels, *pixels.shape[-2:])
