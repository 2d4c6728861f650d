"""Views made where they are used: frames lie or go there as uint8, and a whole batch is augmented there at once.

`Strokes` are what was drawn for a batch, see `training.data.batches.sketches`; `Strokes.develop` makes its views in a
few operators, each with parameters of its own for every view. Its integer arithmetic is OpenCV's, so that the CPU's
path and the device's give the same gray levels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.views.augment import Augment
from training.data.views.gray import blurred, resampled, toned

_ON_CPU = ("beam", "depth", "speckle", "smooth", "clahe")


def only_on_cpu(augment: Augment) -> list[str]:
    """The options of an augmentation that have no form for the device and are switched on."""
    return [name for name in _ON_CPU if getattr(augment, name)]


@dataclass(frozen=True)
class Strokes:
    """What makes the views of N clips out of F frames.

    Attributes:
        frames: uint8 [F, H, W]; or int64 [F], their numbers among the frames that lie on the device.
        boxes: int64 [F, 4], top, left, height and width of the crop.
        mirrored: bool [F].
        tone: float64 [F, 4], brightness, contrast, whether brightness comes first, and gamma.
        blurs: int64 [B], the frames that are blurred.
        kernels: int32 [B, K], with which; a row adds up to 256.
        places: int64 [N, K], which frame each weight is for.
        weights: float32 [V, N, K], of each frame in each view.
        size: S of the views, pixels.
        mean: gray mean on the 0..1 scale.
        std: gray standard deviation on the 0..1 scale.
    """

    frames: Tensor
    boxes: Tensor
    mirrored: Tensor
    tone: Tensor
    blurs: Tensor
    kernels: Tensor
    places: Tensor
    weights: Tensor
    size: int
    mean: float
    std: float

    def pinned(self) -> "Strokes":
        """The same in page-locked memory, from which a device can read while the CPU goes on."""
        return self._each(Tensor.pin_memory)

    def develop(self, device: torch.device, resident: Tensor | None = None) -> Tensor:
        """Views float32 [V, N, 1, S, S] on the device, normalised; `resident` are the frames that lie there."""
        on = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        frames = on.frames if on.frames.ndim > 1 or resident is None else resident[on.frames]
        pictures = resampled(frames, on.boxes, on.mirrored, self.size)
        if len(on.blurs):
            pictures[on.blurs] = blurred(pictures[on.blurs], on.kernels)
        pictures = toned(pictures, *on.tone.unbind(1)).float()
        used = max(int(np.flatnonzero(self.weights.numpy().any((0, 1))).max(initial=0)) + 1, 1)
        views = pictures.new_zeros(*self.weights.shape[:2], self.size, self.size)
        for slot in range(used):
            chosen = pictures[on.places[:, slot]]
            for view, weight in zip(views, on.weights[..., slot], strict=True):
                view.addcmul_(chosen, weight[:, None, None])
        return ((views / 255 - self.mean) / self.std).unsqueeze(2)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Strokes":
        """The same with every tensor changed."""
        changed: dict[str, Any] = {name: change(v) if isinstance(v, Tensor) else v for name, v in vars(self).items()}
        return Strokes(**changed)


def kernels(sigmas: np.ndarray, side: int) -> Tensor:
    """OpenCV's Gaussian kernels for uint8 images, int32 [B, K] in 1/256, each in the middle of its row.

    Args:
        sigmas: of each, pixels, float64 [B].
        side: of all kernels, odd; 0 makes each as wide as sigma asks.
    """
    widths = np.full(len(sigmas), side) if side else np.rint(6 * sigmas + 1).astype(np.int64) | 1
    middle = int(widths.max(initial=1)) // 2
    offsets = np.arange(-middle, middle + 1)
    bells = np.exp(-np.square(offsets) / (2 * sigmas[:, None] ** 2)) * (abs(offsets) <= widths[:, None] // 2)
    exact = 256 * bells[:, :middle] / bells.sum(1, keepdims=True)
    # Each weight takes over what was lost in rounding the one before, and the middle what is left.
    ends = np.diff(np.rint(np.cumsum(exact, 1)), prepend=0, axis=1)
    rest = 256 - 2 * ends.sum(1, keepdims=True)
    return torch.from_numpy(np.concatenate([ends, rest, ends[:, ::-1]], 1).astype(np.int32))
