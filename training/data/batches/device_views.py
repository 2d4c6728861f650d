"""Views made where they are used: frames go to the device as uint8, and a whole batch is augmented there at once.

`sketch` draws a batch as the CPU path does, with the same generators in the same order, but touches no pixel;
`Sketch.develop` then makes its views in a few operators, each with parameters of its own for every view. Its integer
arithmetic is OpenCV's, so that both paths give the same gray levels.

What a method does with views is linear: it picks them or mixes them. So the method is given unit vectors in place of
pictures, and what it returns are the weights of the mixture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.batches.batch import Batch, DrawPair
from training.data.batches.sampling import StepBatches
from training.data.views.augment import Augment
from training.data.views.gray import blurred, resampled, toned
from training.data.views.random_numbers import Drawn

MOST = 8
"""Frames of a clip that a method may ask for."""
_ON_CPU = ("beam", "depth", "speckle", "smooth", "clahe")


def only_on_cpu(augment: Augment) -> list[str]:
    """The options of an augmentation that have no form for the device and are switched on."""
    return [name for name in _ON_CPU if getattr(augment, name)]


@dataclass(frozen=True)
class Recorder(Augment):
    """An augmentation that notes frames and random numbers, and returns the n-th unit vector for the n-th frame."""

    frames: list[np.ndarray] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)

    def __call__(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float32 [MOST]."""
        if len(self.frames) == MOST:
            raise ValueError(f"a method asked for more than {MOST} frames of a clip: raise MOST in {__name__}")
        self.drawn.append(self.draw(frame.shape[0], frame.shape[1], rng))
        self.frames.append(frame)
        return np.eye(MOST, dtype=np.float32)[len(self.frames) - 1]


@dataclass(frozen=True)
class Strokes:
    """What makes the views of N clips out of F frames.

    Attributes:
        frames: uint8 [F, H, W].
        boxes: int64 [F, 4], top, left, height and width of the crop.
        mirrored: bool [F].
        tone: float64 [F, 4], brightness, contrast, whether brightness comes first, and gamma.
        blurs: int64 [B], the frames that are blurred.
        kernels: int32 [B, K], with which; a row adds up to 256.
        places: int64 [N, MOST], which frame each weight is for.
        weights: float32 [V, N, MOST], of each frame in each view.
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

    def develop(self, device: torch.device) -> Tensor:
        """Views float32 [V, N, 1, S, S] on the device, normalised."""
        on = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        pictures = resampled(on.frames, on.boxes, on.mirrored, self.size)
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


@dataclass(frozen=True)
class Sketch:
    """A batch before its views are made.

    Attributes:
        batch: all of it but the views.
        views: what makes them.
        meta: what makes the meta views, None for a batch without.
    """

    batch: Batch
    views: Strokes
    meta: Strokes | None

    def pinned(self) -> "Sketch":
        """See `Strokes.pinned`."""
        return replace(self, views=self.views.pinned(), meta=self.meta and self.meta.pinned())

    def develop(self, device: torch.device) -> Batch:
        """The batch on a device, as `StepBatches` makes it on the CPU."""
        views = self.views.develop(device)
        meta = self.meta.develop(device) if self.meta else self.batch.meta
        return replace(self.batch, views=views, meta=meta).to(device)


def sketch(data: StepBatches, step: int) -> Sketch:
    """The batch of a step, drawn but not made.

    Raises:
        ValueError: if the augmentation has options that only the CPU path knows.
    """
    if unknown := only_on_cpu(data.augment):
        raise ValueError(f"{', '.join(unknown)} of the augmentation can be made on the CPU alone")
    clips = data.clips_of(step)
    views, weights = strokes(data, data.pairs_of(step, clips))
    meta = data.meta_pairs_of(step)
    batch = data.batch_of(clips, torch.empty(0), weights, torch.empty(0))
    return Sketch(batch, views, strokes(data, meta)[0] if meta else None)


def strokes(data: StepBatches, pairs: Sequence[DrawPair]) -> tuple[Strokes, list[float]]:
    """What makes the views of some clips, and the weights of their pairs."""
    augment = data.augment
    frames: list[np.ndarray] = []
    drawn: list[Drawn] = []
    places, mixtures, weights = [], [], []
    for pair in pairs:
        recorder = Recorder(**vars(augment))
        mixture, weight = pair(recorder)
        places.append(np.minimum(len(frames) + np.arange(MOST), len(frames) + len(recorder.frames) - 1))
        mixtures.append(mixture)
        weights.append(weight)
        frames += recorder.frames
        drawn += recorder.drawn
    blurs = [(number, view.blur) for number, view in enumerate(drawn) if view.blur is not None]
    tones = [(d.tone.brightness, d.tone.contrast, d.tone.brightness_first, d.tone.gamma) for d in drawn]
    return (
        Strokes(
            frames=torch.from_numpy(np.stack(frames)),
            boxes=torch.tensor([view.box for view in drawn]),
            mirrored=torch.tensor([view.mirrored for view in drawn]),
            tone=torch.tensor(tones, dtype=torch.float64),
            blurs=torch.tensor([number for number, _ in blurs], dtype=torch.int64),
            kernels=kernels([sigma for _, sigma in blurs], augment.blur_kernel),
            places=torch.from_numpy(np.stack(places)),
            weights=torch.from_numpy(np.stack(mixtures, axis=1).astype(np.float32)),
            size=augment.size,
            mean=data.mean,
            std=data.std,
        ),
        weights,
    )


def kernels(sigmas: Sequence[float], side: int) -> Tensor:
    """OpenCV's Gaussian kernels for uint8 images, int32 [B, K] in 1/256, each in the middle of its row.

    Args:
        sigmas: of each, pixels.
        side: of all kernels, odd; 0 makes each as wide as sigma asks.
    """
    widths = [side or round(6 * sigma + 1) | 1 for sigma in sigmas]
    widest = max(widths, default=1)
    rows = np.zeros((len(sigmas), widest), np.int32)
    for row, sigma, width in zip(rows, sigmas, widths, strict=True):
        half = width // 2
        bell = np.exp(-np.square(np.arange(-half, half + 1)) / (2 * sigma**2))
        exact = 256 * bell[:half] / bell.sum()
        # Each weight takes over what was lost in rounding the one before, and the middle what is left.
        ends = np.diff(np.rint(np.cumsum(exact)), prepend=0).astype(np.int32)
        middle = widest // 2
        row[middle - half : middle] = ends
        row[middle + 1 : middle + 1 + half] = ends[::-1]
        row[middle] = 256 - 2 * ends.sum()
    return torch.from_numpy(rows)
