"""Interface of methods and data: the batch, and the ways from a clip to its views."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from training.data.views.augment import Augment

DrawPair = Callable[[Augment], tuple[np.ndarray, float]]
"""Draws the views of a clip with an augmentation, see `Pairs.views`; and the weight of the pair."""


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


class Known(NamedTuple):
    """What is known of a clip beside its frames; by default nothing.

    Attributes:
        clip: its index into the cache.
        seconds_per_frame: None where the clip tells no time.
        anatomy: as a column of `Batch.anatomy`, coarse and fine.
    """

    clip: int = 0
    seconds_per_frame: float | None = None
    anatomy: tuple[int, int] = (-1, -1)


@runtime_checkable
class InformedPairs(Protocol):
    """A method whose pairs depend on what is known of a clip says so by this second way to draw them."""

    def informed_views(
        self, clip: np.ndarray, known: Known, augment: Augment, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """As `Pairs.views`, and the weight of the pair."""
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
