"""The random numbers of a whole batch in a few NumPy calls, the same as clip by clip.

A method whose pairs have a form for many clips says so by `draw_at_once`. It draws from `Draws`, whose lane n is the
n-th clip of the batch with the generator that `StepBatches` gives that clip.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from training.data.batches.sampling import StepBatches
from training.data.views.draw_many import DrawnMany, draw_many
from training.data.views.streams import Streams


class Draws:
    """What is drawn for the N clips of a batch.

    Attributes:
        lanes: int64 [N], 0 .. N - 1.
        counts: int64 [N], frames of each clip.
        seconds_per_frame: float64 [N], nan where a clip tells no time.
        streams: the clips' generators.
        frames: int64 [N, K], the number in the cache of each frame of which a view is made.
        drawn: random numbers of the N * K views. Where a clip has fewer than others, its last ones mean nothing.
    """

    def __init__(self, data: StepBatches, step: int, clips: np.ndarray) -> None:
        self._augment, self._side = data.augment, data.cache.size
        entries = [data.cache.clips[clip] for clip in clips]
        self.lanes, self.counts = np.arange(len(clips)), np.array([entry.count for entry in entries])
        self._starts = np.array([entry.start for entry in entries])
        self.seconds_per_frame = np.array([entry.seconds_per_frame or np.nan for entry in entries], np.float64)
        self.streams = Streams(data.keys_of(step, clips))
        self._slots: list[tuple[np.ndarray, DrawnMany]] = []

    def view(self, slot: int, lanes: np.ndarray, frames: np.ndarray) -> None:
        """Draw a view of a frame, by its number, of each of these clips, int64 [L]; slots come in turn."""
        if slot == len(self._slots):
            count, side = len(self.lanes), self._side
            nothing = DrawnMany(
                np.tile(np.array([0, 0, side, side]), (count, 1)),
                np.zeros(count, bool),
                np.ones((count, 4)),
                np.full(count, np.nan),
            )
            self._slots.append((self._starts.copy(), nothing))
        numbers, drawn = self._slots[slot]
        numbers[lanes] = self._starts[lanes] + frames
        for all_, some in zip(
            drawn, draw_many(self._augment, self.streams, lanes, self._side, self._side), strict=True
        ):
            all_[lanes] = some

    @property
    def frames(self) -> np.ndarray:
        """See the attribute."""
        return np.stack([numbers for numbers, _ in self._slots], 1)

    @property
    def drawn(self) -> DrawnMany:
        """See the attribute."""
        parts = zip(*(drawn for _, drawn in self._slots), strict=True)
        boxes, mirrored, tone, blur = (np.stack(part, 1) for part in parts)
        return DrawnMany(boxes.reshape(-1, 4), mirrored.ravel(), tone.reshape(-1, 4), blur.ravel())


@runtime_checkable
class PairsAtOnce(Protocol):
    """A method that draws the pairs of many clips at once, with the numbers that it draws for one."""

    def draw_at_once(self, draws: Draws) -> tuple[np.ndarray, np.ndarray] | None:
        """Draw the views' frames, and return their mixture and the weights of the pairs.

        Returns:
            float32 [V, N, K], the share of the clip's k-th frame in each view; and float [N]. None if the method's
            options have no such form.
        """
        ...


def seen_at_once(draws: Draws, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every clip the v-th view is its v-th frame alone, with a weight of 1."""
    mixture = np.eye(views, dtype=np.float32)[:, None].repeat(len(draws.lanes), 1)
    return mixture, np.ones(len(draws.lanes))
