"""Which clips make a batch, and with which random numbers: a function of (seed, step) alone.

Nothing here keeps state, so a run that resumes at step k draws what the unbroken run drew, and the number of loader
workers changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.data.augment import Augment
from training.data.prepare import Cache


@dataclass
class Batch:
    """What a method sees.

    Attributes:
        views: float [V, N, C, S, S], normalised; view v of clip n.
        labels: int64 [N], index into the corpus' classes, -1 where unlabelled.
        clips: int64 [N], index into the cache, to name them in errors.
    """

    views: torch.Tensor
    labels: torch.Tensor
    clips: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(self.views.to(device), self.labels.to(device), self.clips.to(device))


class Pairs(Protocol):
    """How a clip becomes views; every method states its own."""

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [V, S, S] on the 0..255 scale, from a clip uint8 [T, H, W]."""
        ...


def clips_of_step(count: int, batch: int, seed: int, step: int) -> np.ndarray:
    """The clips of a step, int [min(batch, count)], all different.

    Each pass over the corpus is a fresh shuffle cut into whole batches; the few clips that do not fill the last batch
    of a pass sit that pass out.
    """
    batch = min(batch, count)
    number, place = divmod(step, count // batch)
    order = np.random.default_rng([seed, 0, number]).permutation(count)
    return order[place * batch : (place + 1) * batch]


class StepBatches(Dataset[Batch]):
    """Map from step to batch.

    Args:
        cache: the prepared corpus.
        members: indices of the clips to draw from.
        pairs: the method's way from a clip to its views.
        augment: one frame -> one view.
        batch: clips in a batch.
        seed: of all draws.
        mean: gray mean on the 0..1 scale that is subtracted.
        std: gray standard deviation that divides.
        steps: length.
        frozen: draw the same views at every step, as validation does.
    """

    def __init__(
        self,
        cache: Cache,
        members: np.ndarray,
        pairs: Pairs,
        augment: Augment,
        *,
        batch: int,
        seed: int,
        mean: float,
        std: float,
        steps: int,
        frozen: bool = False,
    ) -> None:
        self.cache, self.members, self.pairs, self.augment = cache, members, pairs, augment
        self.batch, self.seed, self.steps, self.frozen = batch, seed, steps, frozen
        self.mean, self.std = mean, std
        index = {label: number for number, label in enumerate(cache.classes)}
        self.labels = np.array([index.get(clip.row.label, -1) for clip in cache.clips])

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        drawn = self.members[clips_of_step(len(self.members), self.batch, self.seed, step)]
        if self.frozen:
            drawn = self.members[step * self.batch : (step + 1) * self.batch]
        views = np.stack(
            [self.pairs.views(self.cache.clip(clip), self.augment, self._rng(step, clip)) for clip in drawn],
            axis=1,
        )
        tensor = torch.from_numpy(views).unsqueeze(2)
        tensor = (tensor / 255 - self.mean) / self.std
        return Batch(tensor, torch.from_numpy(self.labels[drawn]), torch.from_numpy(drawn))

    def _rng(self, step: int, clip: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 1, 0 if self.frozen else step, clip])


def batches(dataset: StepBatches, first: int, workers: int) -> Iterator[Batch]:
    """The batches of steps first, first + 1, ... in order. With a warm memmap 0 workers is the fastest on a CPU."""
    steps = range(first, len(dataset))
    loader = DataLoader(dataset, batch_size=None, sampler=steps, num_workers=workers)
    yield from loader
