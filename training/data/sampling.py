"""Which clips make a batch, and with which random numbers: a function of (seed, step) alone.

Nothing here keeps state, so a run that resumes at step k draws what the unbroken run drew, and the number of loader
workers changes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

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
        anatomy: int64 [2, N], number of the clip's organ (coarse) and of its anatomy within the organ (fine), -1 where
            unknown; by default all are.
        weights: float [N], how much each pair counts; 1 by default.
        meta: float [V, M, C, S, S], as views, of clips that are not trained on; empty for methods and steps without.
    """

    views: torch.Tensor
    labels: torch.Tensor
    clips: torch.Tensor
    anatomy: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    weights: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    meta: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        if not len(self.anatomy):
            self.anatomy = self.labels.new_full((2, len(self.labels)), -1)
        if not len(self.weights):
            self.weights = self.views.new_ones(len(self.labels))

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class Pairs(Protocol):
    """How a clip becomes views; every method states its own."""

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [V, S, S] on the 0..255 scale, from a clip uint8 [T, H, W]."""
        ...


@runtime_checkable
class TimedPairs(Protocol):
    """A method whose pairs depend on the time between frames says so by this second way to draw them."""

    def timed_views(
        self, clip: np.ndarray, seconds_per_frame: float | None, augment: Augment, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """As `Pairs.views`, and the weight of the pair; seconds_per_frame is None where the clip tells no time."""
        ...


@runtime_checkable
class MetaPairs(Protocol):
    """A method that also looks at meta clips, which are not trained on, says how many, how often and in which views."""

    @property
    def meta_share(self) -> float:
        """Share of the groups that are kept out as meta clips; 0 is none."""
        ...

    @property
    def meta_every(self) -> int:
        """Steps from one batch with meta clips to the next."""
        ...

    def meta_views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """As `Pairs.views`, for a meta clip."""
        ...


def numbered(names: Iterable[str]) -> np.ndarray:
    """int64 [N], the place of each name among the sorted different names, -1 for an empty name."""
    names = list(names)
    index = {name: number for number, name in enumerate(sorted({*names} - {""}))}
    return np.array([index.get(name, -1) for name in names], dtype=np.int64)


def clips_of_step(count: int, batch: int, seed: int, step: int, stream: int = 0) -> np.ndarray:
    """The clips of a step, int [min(batch, count)], all different.

    Each pass over the corpus is a fresh shuffle cut into whole batches; the few clips that do not fill the last batch
    of a pass sit that pass out. Each stream has shuffles of its own.
    """
    batch = min(batch, count)
    number, place = divmod(step, count // batch)
    order = np.random.default_rng([seed, stream, number]).permutation(count)
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
        meta: indices of the meta clips, of which a batch draws as many; the pairs must then be `MetaPairs`.
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
        meta: np.ndarray | None = None,
    ) -> None:
        self.cache, self.members, self.pairs, self.augment = cache, members, pairs, augment
        self.meta = members[:0] if meta is None else meta
        self.batch, self.seed, self.steps, self.frozen = batch, seed, steps, frozen
        self.mean, self.std = mean, std
        rows = [clip.row for clip in cache.clips]
        self.labels = numbered(row.label for row in rows)
        fine = numbered(f"{row.organ}/{row.anatomy}" if row.anatomy else "" for row in rows)
        self.anatomy = np.stack([numbered(row.organ for row in rows), fine])

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        drawn = self.members[clips_of_step(len(self.members), self.batch, self.seed, step)]
        if self.frozen:
            drawn = self.members[step * self.batch : (step + 1) * self.batch]
        pairs, weights = zip(*[self._pair(step, clip) for clip in drawn], strict=True)
        return Batch(
            views=self._normalised(pairs),
            labels=torch.from_numpy(self.labels[drawn]),
            clips=torch.from_numpy(drawn),
            anatomy=torch.from_numpy(self.anatomy[:, drawn]),
            weights=torch.tensor(weights, dtype=torch.float32),
            meta=self._meta(step),
        )

    def _normalised(self, views: Sequence[np.ndarray]) -> torch.Tensor:
        return (torch.from_numpy(np.stack(views, axis=1)).unsqueeze(2) / 255 - self.mean) / self.std

    def _meta(self, step: int) -> torch.Tensor:
        pairs = self.pairs
        if not len(self.meta) or not isinstance(pairs, MetaPairs) or step % pairs.meta_every:
            return torch.empty(0)
        drawn = self.meta[clips_of_step(len(self.meta), self.batch, self.seed, step // pairs.meta_every, stream=2)]
        return self._normalised(
            [pairs.meta_views(self.cache.clip(clip), self.augment, self._rng(step, clip, stream=3)) for clip in drawn]
        )

    def _pair(self, step: int, clip: int) -> tuple[np.ndarray, float]:
        frames, rng = self.cache.clip(clip), self._rng(step, clip)
        if isinstance(self.pairs, TimedPairs):
            return self.pairs.timed_views(frames, self.cache.clips[clip].seconds_per_frame, self.augment, rng)
        return self.pairs.views(frames, self.augment, rng), 1.0

    def _rng(self, step: int, clip: int, stream: int = 1) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, 0 if self.frozen else step, clip])


def batches(dataset: StepBatches, first: int, workers: int) -> Iterator[Batch]:
    """The batches of steps first, first + 1, ... in order. With a warm memmap 0 workers is the fastest on a CPU."""
    steps = range(first, len(dataset))
    # A generator of its own: the loader draws a seed for its workers, which must not move torch's.
    generator = torch.Generator()
    loader = DataLoader(dataset, batch_size=None, sampler=steps, num_workers=workers, generator=generator)
    yield from loader
