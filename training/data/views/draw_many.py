"""The random numbers of one view of each of many frames, as `Augment.draw` draws them one after the other."""

from typing import NamedTuple

import numpy as np

from training.data.views.augment import Augment
from training.data.views.streams import Streams


class DrawnMany(NamedTuple):
    """What `training.data.views.random_numbers.Drawn` holds, for L frames.

    Attributes:
        boxes: int64 [L, 4], top, left, height and width of the crop, pixels.
        mirrored: bool [L].
        tone: float64 [L, 4], brightness, contrast, whether brightness comes first, and gamma.
        blur: float64 [L], sigma of the Gaussian blur, pixels; nan leaves it out.
    """

    boxes: np.ndarray
    mirrored: np.ndarray
    tone: np.ndarray
    blur: np.ndarray


def draw_many(augment: Augment, streams: Streams, lanes: np.ndarray, height: int, width: int) -> DrawnMany:
    """A view of a frame [height, width] for each of these lanes; the operators of the CPU alone must be off."""
    boxes = _crop_boxes(augment, streams, lanes, height, width)
    mirrored = streams.random(lanes) < augment.flip
    blur = np.full(len(lanes), np.nan)
    if augment.blur:
        chosen = streams.random(lanes) < augment.blur_chance
        blur[chosen] = streams.uniform(lanes[chosen], 0.1, augment.blur)
    return DrawnMany(boxes, mirrored, _tones(augment, streams, lanes), blur)


def _crop_boxes(augment: Augment, streams: Streams, lanes: np.ndarray, height: int, width: int) -> np.ndarray:
    boxes = np.tile(np.array([0, 0, height, width]), (len(lanes), 1))
    low, high = np.log(augment.aspect)
    pending = np.arange(len(lanes))
    for _ in range(10):
        area = height * width * streams.uniform(lanes[pending], *augment.area)
        aspect = np.exp(streams.uniform(lanes[pending], low, high))
        w, h = (np.rint(np.sqrt(side)).astype(np.int64) for side in (area * aspect, area / aspect))
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        done, w, h = pending[fits], w[fits], h[fits]
        top = streams.integers(lanes[done], height - h + 1)
        boxes[done] = np.stack([top, streams.integers(lanes[done], width - w + 1), h, w], 1)
        pending = pending[~fits]
    return boxes


def _tones(augment: Augment, streams: Streams, lanes: np.ndarray) -> np.ndarray:
    tones = np.ones((len(lanes), 4))
    brighter = harder = streams.random(lanes) < augment.jitter
    if augment.jitter_apart:
        harder = streams.random(lanes) < augment.jitter
    for column, chosen, strength in ((0, brighter, augment.brightness), (1, harder, augment.contrast)):
        tones[chosen, column] = streams.uniform(lanes[chosen], max(0, 1 - strength), 1 + strength)
    jittered = brighter | harder
    tones[jittered, 2] = streams.random(lanes[jittered]) < 0.5
    if augment.gamma:
        tones[:, 3] = np.exp(streams.uniform(lanes, -1, 1) * np.log1p(augment.gamma))
    return tones
