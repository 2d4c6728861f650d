"""Which clips make a batch, and with which random numbers: a function of (seed, step) alone.

Nothing here keeps state, so a run that resumes at step k draws what the unbroken run drew, and the number of loader
workers changes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import partial
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.data.batches.batch import Batch, DrawPair, InformedPairs, Known, MetaPairs, Pairs
from training.data.cache import Cache
from training.data.views.augment import Augment

Draw = Literal["even", "frames"]
"""How often a clip comes: each as often as any other, or by the square root of its number of frames, so that a corpus
of many stills and few videos does not become one of stills."""

Drawable = TypeVar("Drawable")


def numbered(names: Iterable[str]) -> np.ndarray:
    """int64 [N], the place of each name among the sorted different names, -1 for an empty name."""
    names = list(names)
    index = {name: number for number, name in enumerate(sorted({*names} - {""}))}
    return np.array([index.get(name, -1) for name in names], dtype=np.int64)


def clips_of_step(count: int, batch: int, seed: int, step: int, stream: int = 0) -> np.ndarray:
    """The clips of a step, int [min(batch, count)], all different.

    Each pass over the corpus is a fresh shuffle cut into whole batches; the last, incomplete batch of each pass is
    dropped. Each stream has shuffles of its own.
    """
    batch = min(batch, count)
    number, place = divmod(step, count // batch)
    order = np.random.default_rng([seed, stream, number]).permutation(count)
    return order[place * batch : (place + 1) * batch]


def weighted_clips_of_step(weights: np.ndarray, batch: int, seed: int, step: int, stream: int = 0) -> np.ndarray:
    """The clips of a step, int [min(batch, len(weights))], all different, drawn one after the other by weight.

    The weights, float [N], are positive: the first clip is drawn with probability weight / sum, the next of the rest in
    the same way. The largest of log weight + Gumbel noise are such draws (Kool et al., ICML 2019).
    """
    noise = np.random.default_rng([seed, stream, step]).gumbel(size=len(weights))
    return np.argsort(-(np.log(weights) + noise), kind="stable")[: min(batch, len(weights))]


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
        part: (p, n) draws the p-th of n equal parts of every batch, the one of process p. What the batch then lacks to
            a multiple of n is drawn at other steps; frozen batches are not divided.
        draw: how often each clip comes, see `Draw`.
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
        part: tuple[int, int] = (0, 1),
        draw: Draw = "even",
    ) -> None:
        self.cache, self.members, self.pairs, self.augment = cache, members, pairs, augment
        self.meta = members[:0] if meta is None else meta
        self.batch, self.seed, self.steps, self.frozen, self.part = batch, seed, steps, frozen, part
        self.mean, self.std, self.draw = mean, std, draw
        rows = [clip.row for clip in cache.clips]
        self.labels = numbered(row.label for row in rows)
        fine = numbered(f"{row.organ}/{row.anatomy}" if row.anatomy else "" for row in rows)
        self.anatomy = np.stack([numbered(row.organ for row in rows), fine])

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        clips = self.clips_of(step)
        pairs, weights = zip(*[pair(self.augment) for pair in self.pairs_of(step, clips)], strict=True)
        meta = [pair(self.augment)[0] for pair in self.meta_pairs_of(step)]
        return self.batch_of(
            clips, self._normalized(pairs), list(weights), self._normalized(meta) if meta else torch.empty(0)
        )

    def clips_of(self, step: int) -> np.ndarray:
        """Indices of the clips of a batch, int [N]."""
        if self.frozen:
            return self.members[step * self.batch : (step + 1) * self.batch]
        return self._drawn(self.members, step)

    def batch_of(self, clips: np.ndarray, views: torch.Tensor, weights: Sequence[float], meta: torch.Tensor) -> Batch:
        """The batch of these clips, once their views are there."""
        return Batch(
            views=views,
            labels=torch.from_numpy(self.labels[clips]),
            clips=torch.from_numpy(clips),
            anatomy=torch.from_numpy(self.anatomy[:, clips]),
            weights=torch.tensor(weights, dtype=torch.float32),
            meta=meta,
        )

    def whole(self, members: np.ndarray) -> int:
        """Clips in a batch of these, all parts together."""
        return min(self.batch, len(members)) // self.part[1] * self.part[1]

    def _drawn(self, members: np.ndarray, step: int, stream: int = 0) -> np.ndarray:
        if self.draw == "even":
            chosen = clips_of_step(len(members), self.whole(members), self.seed, step, stream)
        else:
            frames = np.array([self.cache.clips[index].count for index in members])
            chosen = weighted_clips_of_step(np.sqrt(frames), self.whole(members), self.seed, step, stream)
        return np.split(members[chosen], self.part[1])[self.part[0]]

    def _normalized(self, views: Sequence[np.ndarray]) -> torch.Tensor:
        stacked = torch.from_numpy(np.stack(views, axis=1)).unsqueeze(2)
        return stacked.div_(255).sub_(self.mean).div_(self.std)  # in place: a batch is large, fresh memory is slow

    def meta_pairs_of(self, step: int) -> list[DrawPair]:
        """As `pairs_of`, for the meta clips of a step; empty where it has none."""
        pairs = self.pairs
        if not len(self.meta) or not isinstance(pairs, MetaPairs) or step % pairs.meta_every:
            return []
        clips = self._drawn(self.meta, step // pairs.meta_every, stream=2)

        def draw(clip: int, augment: Augment) -> tuple[np.ndarray, float]:
            return pairs.meta_views(self.cache.clip(clip), augment, self._rng(step, clip, stream=3)), 1.0

        return [partial(draw, clip) for clip in clips]

    def pairs_of(self, step: int, clips: np.ndarray) -> list[DrawPair]:
        """For each of these clips, what draws its pair of a step."""
        return [partial(self._pair, step, clip) for clip in clips]

    def _pair(self, step: int, clip: int, augment: Augment) -> tuple[np.ndarray, float]:
        frames, rng = self.cache.clip(clip), self._rng(step, clip)
        if isinstance(self.pairs, InformedPairs):
            coarse, fine = self.anatomy[:, clip].tolist()
            known = Known(int(clip), self.cache.clips[clip].seconds_per_frame, (coarse, fine))
            return self.pairs.informed_views(frames, known, augment, rng)
        return self.pairs.views(frames, augment, rng), 1.0

    def _rng(self, step: int, clip: int, stream: int = 1) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, 0 if self.frozen else step, clip])

    def keys_of(self, step: int, clips: np.ndarray) -> np.ndarray:
        """Int64 [N, 4], from which the generators of these clips' pairs are seeded."""
        return np.array([[self.seed, 1, 0 if self.frozen else step, clip] for clip in clips])


def batches(dataset: Dataset[Drawable], first: int, workers: int) -> Iterator[Drawable]:
    """The batches of steps first, first + 1, ... in order. With a warm memmap 0 workers is the fastest on a CPU."""
    steps = range(first, len(cast("Sized", dataset)))
    # A generator of its own: the loader draws a seed for its workers, which must not move torch's.
    generator = torch.Generator()
    loader = DataLoader(dataset, batch_size=None, sampler=steps, num_workers=workers, generator=generator)
    yield from loader
