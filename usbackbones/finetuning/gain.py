"""Gain of one network over another on the same items, with its standard error over groups.

Breiman et al., "Classification and Regression Trees" (1984), keep the simpler model unless another is better by more
than a standard error. The simpler one here is the linear probe. Epoch and learning rate were chosen on the same items,
which flatters the gain, so `FineTune.margin` asks for two: the 95 % interval of every other gain in this project.

A mean in which every class counts the same stands on the class of the fewest groups. An error over three or four
patients is too small as often as not, so with fewer than `ENOUGH_GROUPS` of a class nothing is told apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from usbackbones.data.item import Item

ENOUGH_GROUPS = 5
"""Of each class in the validation part, for a comparison."""


@dataclass(frozen=True)
class Gain:
    """How much lower the mean loss became.

    Attributes:
        value: mean loss before minus mean loss after; above zero is better.
        error: standard error of the value, over groups; infinite with one group.
    """

    value: float
    error: float

    def exceeds(self, margin: float) -> bool:
        """It is larger than `margin` standard errors."""
        return self.value > margin * self.error

    def __str__(self) -> str:
        return f"{self.value:.2g} with a standard error over groups of {self.error:.2g}"


def fewest_groups(items: Iterable[Item], by_class: bool) -> int:
    """How many groups the class of the fewest has; with labels that are no classes, how many there are."""
    groups: dict[str, set[str]] = {}
    for item in items:
        groups.setdefault(item.label if by_class else "", set()).add(item.group)
    return min(map(len, groups.values()))


def gain(before: np.ndarray, after: np.ndarray, share: np.ndarray, group: np.ndarray) -> Gain:
    """Gain of `after` over `before`.

    Args:
        before: float [N], loss of each item.
        after: float [N], of the same items.
        share: float [N], of each item in the mean; they sum to 1.
        group: [N], of each item; groups are independent of each other, items of a group are not.
    """
    names, of = np.unique(group, return_inverse=True)
    parts = np.bincount(of, share * (before - after))
    value, count = float(parts.sum()), len(names)
    if count < 2:
        return Gain(value, float("inf"))
    spread = float(((parts - value / count) ** 2).sum())
    return Gain(value, float(np.sqrt(count / (count - 1) * spread)))
