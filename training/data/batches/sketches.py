"""Batches that are drawn and not yet made: the numbers of frames and all random numbers, but no pixel of a view.

A batch is drawn as a whole where the method has a form for that (`training.data.batches.at_once`), else clip by clip,
with the same numbers as on the CPU's path either way. What a method does with views is linear: it picks them or mixes
them. So clip by clip the method is given unit vectors in place of images, and what it returns are the weights of the
mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.data.batches.at_once import Draws, PairsAtOnce
from training.data.batches.batch import Batch, DrawPair
from training.data.batches.device_views import Strokes, kernels, only_on_cpu
from training.data.batches.sampling import StepBatches
from training.data.views.augment import Augment
from training.data.views.draw_many import DrawnMany
from training.data.views.random_numbers import Drawn

MOST = 8
"""Frames of a clip that a method may ask for."""


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

    def develop(self, device: torch.device, resident: Tensor | None = None) -> Batch:
        """The batch on a device, as `StepBatches` makes it on the CPU."""
        views = self.views.develop(device, resident)
        meta = self.meta.develop(device) if self.meta else self.batch.meta
        return replace(self.batch, views=views, meta=meta).to(device)


@dataclass(frozen=True)
class Sketches(Dataset[Sketch]):
    """Map from step to a batch whose views are still to be made.

    Attributes:
        data: whose batches.
        at_once: draw a batch at once where that can be, see `agrees`.
        resident: leave the frames' numbers in place of the frames, where a batch is drawn at once.
    """

    data: StepBatches
    at_once: bool = True
    resident: bool = False

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, step: int) -> Sketch:
        """The batch of a step, drawn but not made.

        Raises:
            ValueError: if the augmentation has options that only the CPU path knows.
        """
        data = self.data
        if unknown := only_on_cpu(data.augment):
            raise ValueError(f"{', '.join(unknown)} of the augmentation can be made on the CPU alone")
        clips = data.clips_of(step)
        drawn = strokes_at_once(data, step, clips, self.resident) if self.at_once else None
        views, weights = drawn or strokes(data, data.pairs_of(step, clips))
        meta = data.meta_pairs_of(step)
        batch = data.batch_of(clips, torch.empty(0), weights, torch.empty(0))
        return Sketch(batch, views, strokes(data, meta)[0] if meta else None)


def agrees(data: StepBatches, step: int, most: int = 8) -> bool | None:
    """Whether a batch drawn at once is the one drawn clip by clip: looked up on the first clips of a step.

    It is wherever the tests have passed. Another version of NumPy may draw other numbers from the same seed, and a
    method that inherits its pairs may have changed one form and not the other.

    Returns:
        None if the method has no form for a batch at once.
    """
    clips = data.clips_of(step)[:most]
    drawn = strokes_at_once(data, step, clips, resident=False)
    if drawn is None:
        return None
    (fast, weights), (slow, slow_weights) = drawn, strokes(data, data.pairs_of(step, clips))
    apart = (fast.develop(torch.device("cpu")) - slow.develop(torch.device("cpu"))).abs().max() * data.std * 255
    return bool(apart <= 1 and np.allclose(weights, slow_weights))


def strokes_at_once(
    data: StepBatches, step: int, clips: np.ndarray, resident: bool
) -> tuple[Strokes, Sequence[float]] | None:
    """As `strokes` for the pairs of these clips, a few NumPy calls for all; None if the method has no such form."""
    if not isinstance(data.pairs, PairsAtOnce) or data.keys_of(step, clips).max() >= 1 << 32:
        return None
    draws = Draws(data, step, clips)
    pairs = data.pairs.draw_at_once(draws)
    if pairs is None:
        return None
    (mixture, weights), numbers = pairs, draws.frames
    frames = numbers.ravel() if resident else data.cache.frames.take(numbers.ravel())
    places = np.arange(numbers.size).reshape(numbers.shape)
    return _strokes(data, frames, draws.drawn, places, mixture), weights.tolist()


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
    tones = [(d.tone.brightness, d.tone.contrast, d.tone.brightness_first, d.tone.gamma) for d in drawn]
    many = DrawnMany(
        np.array([view.box for view in drawn]),
        np.array([view.mirrored for view in drawn]),
        np.array(tones, np.float64),
        np.array([np.nan if view.blur is None else view.blur for view in drawn]),
    )
    return _strokes(data, np.stack(frames), many, np.stack(places), np.stack(mixtures, axis=1)), weights


def _strokes(
    data: StepBatches, frames: np.ndarray, drawn: DrawnMany, places: np.ndarray, mixture: np.ndarray
) -> Strokes:
    blurs = np.flatnonzero(~np.isnan(drawn.blur))
    return Strokes(
        frames=torch.from_numpy(frames),
        boxes=torch.from_numpy(drawn.boxes),
        mirrored=torch.from_numpy(drawn.mirrored),
        tone=torch.from_numpy(drawn.tone),
        blurs=torch.from_numpy(blurs),
        kernels=kernels(drawn.blur[blurs], data.augment.blur_kernel),
        places=torch.from_numpy(places),
        weights=torch.from_numpy(mixture.astype(np.float32)),
        size=data.augment.size,
        mean=data.mean,
        std=data.std,
    )
