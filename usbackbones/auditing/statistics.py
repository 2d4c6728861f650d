"""Tests whether features tell the target: ridge regression over grouped folds, and permutations of whole groups.

Images of one patient share their features and their label, so permuting single images calls almost any feature that is
constant within a patient significant. Here the labels of patients are exchanged, one set of draws serves all rows, and
p-values are adjusted for the number of rows by the maximum over them (Westfall & Young, 1993).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

PENALTY = 0.1
"""Of the ridge regression; the mean square of a feature is one, the weights of the training rows add up to one."""
FOLDS, REPEATS = 5, 3
BLOCK = 100
"""Draws that are scored at a time, which bounds the memory."""


@dataclass(frozen=True)
class Tested:
    """One row after the permutation test.

    Attributes:
        statistic: out-of-fold balanced accuracy, or R² of numbers, of the ridge regression; mean over repeats.
        p: share of the draws, the observed one among them, whose statistic of this row is as large.
        adjusted: the same for the largest standardized statistic over all rows.
        smallest: the least statistic that would have had an adjusted p of 0.05 or less.
    """

    statistic: float
    p: float
    adjusted: float
    smallest: float


def group_index(groups: Sequence[str] | np.ndarray) -> np.ndarray:
    """Int [N], the number of each row's group in alphabetical order."""
    return np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]


def blind_folds(groups: Sequence[str] | np.ndarray, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """The fold of each row, int [N]: whole groups, dealt without a look at the labels.

    The folds are the same for every permutation, which is what makes one hat matrix a fold enough. Large groups are
    dealt first, each to the fold with the fewest rows.

    Raises:
        ValueError: if there are fewer groups than two.
    """
    group = group_index(groups)
    sizes = np.bincount(group)
    if len(sizes) < 2:
        raise ValueError(f"{len(sizes)} group(s): two at least are needed, one to fit on and one to score on")
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    filled = np.zeros(min(folds, len(sizes)), int)
    fold_of = np.empty(len(sizes), int)
    for number in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of[number] = filled.argmin()
        filled[fold_of[number]] += sizes[number]
    return fold_of[group]


def permuted_targets(
    y: np.ndarray, groups: Sequence[str] | np.ndarray, draws: int, seed: int = 0
) -> tuple[np.ndarray, str]:
    """Targets [B, N] under the null hypothesis, which have nothing to do with the features, and how they were drawn.

    Where every group has one target the groups' targets are permuted. Where some have several, the vectors of targets
    are exchanged among groups of equal size and then shuffled within each group.
    """
    group, generator = group_index(groups), np.random.default_rng(seed)
    rows = [np.flatnonzero(group == number) for number in range(group.max() + 1)]
    if all((y[of] == y[of[0]]).all() for of in rows):
        target = np.array([y[of[0]] for of in rows])
        drawn = np.stack([generator.permutation(target)[group] for _ in range(draws)])
        return drawn, "targets of whole groups permuted"
    sizes = np.array([len(of) for of in rows])
    alike = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    drawn = np.empty((draws, len(y)), y.dtype)
    for row in drawn:
        for numbers in alike:
            for taker, giver in zip(numbers, generator.permutation(numbers), strict=True):
                row[rows[taker]] = generator.permutation(y[rows[giver]])
    how = "target vectors exchanged among groups of equal size and shuffled within groups"
    return drawn, how


def standardized(x: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation [D] of features under row weights that add up to one; constant features get no weight."""
    mean = share @ x
    spread = np.sqrt(share @ np.square(x - mean))
    spread[spread <= 1e-9 * np.maximum(np.abs(mean), 1)] = np.inf
    return mean, spread


@dataclass(frozen=True)
class Hat:
    """The hat matrix of one fold in two factors: predictions are `level + left @ (right @ (y - level))`.

    Attributes:
        fit, held: rows, int.
        share: weight of the rows of `fit`, adds up to one, every group alike.
        left: [M, D].
        right: [D, N].
    """

    fit: np.ndarray
    held: np.ndarray
    share: np.ndarray
    left: np.ndarray
    right: np.ndarray

    def predict(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(predictions [M, K] of targets [N, K], their weighted means [K] over the fitted rows)."""
        level = self.share @ y[self.fit]
        return level + self.left @ (self.right @ (y[self.fit] - level)), level


def hats(x: np.ndarray, groups: Sequence[str] | np.ndarray, fold: np.ndarray, penalty: float = PENALTY) -> list[Hat]:
    """The hat matrix of each fold for features float [N, D]; it does not depend on the targets."""
    group = group_index(groups)
    found = []
    for number in range(fold.max() + 1):
        fit, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        share = 1.0 / np.bincount(group[fit], minlength=group.max() + 1)[group[fit]]
        share /= share.sum()
        mean, spread = standardized(x[fit], share)
        known, new = (x[fit] - mean) / spread, (x[held] - mean) / spread
        weighted = (known * share[:, None]).T
        left = np.linalg.solve(weighted @ known + penalty * np.eye(x.shape[1]), new.T).T
        found.append(Hat(fit, held, share, left, weighted))
    return found


def balanced_accuracies(y: np.ndarray, folds: Sequence[Hat], classes: int) -> np.ndarray:
    """Out-of-fold balanced accuracy [B] of targets int [B, N]; the class predicted is the most raised one.

    A class's prediction is divided by its share of the fitted rows, so that rare classes are not passed over.
    """
    right, support = np.zeros((len(y), classes)), np.stack([(y == c).sum(1) for c in range(classes)], 1)
    one_hot = (y.T[:, :, None] == np.arange(classes)).reshape(y.shape[1], -1).astype(float)  # [N, B * C]
    for hat in folds:
        predicted, level = hat.predict(one_hot)
        raised = np.divide(predicted, level, out=np.full_like(predicted, -np.inf), where=level > 0)
        called = raised.reshape(len(hat.held), len(y), classes).argmax(2)
        for c in range(classes):
            right[:, c] += ((called == c).T & (y[:, hat.held] == c)).sum(1)
    there = support > 0
    return np.divide(right, support, out=np.zeros_like(right), where=there).sum(1) / there.sum(1)


def explained(y: np.ndarray, folds: Sequence[Hat]) -> np.ndarray:
    """Out-of-fold R² [B] of numbers [B, N] against the mean of the fitted rows."""
    error, total = np.zeros(len(y)), np.zeros(len(y))
    for hat in folds:
        predicted, level = hat.predict(y.T.astype(float))
        truth = y[:, hat.held].T
        error += np.square(truth - predicted).sum(0)
        total += np.square(truth - level).sum(0)
    return 1 - error / np.maximum(total, 1e-300)


def permutation_test(
    rows: Mapping[str, np.ndarray],
    y: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    draws: int = 999,
    seed: int = 0,
    numbers: bool = False,
    progress: bool = False,
) -> tuple[dict[str, Tested], str]:
    """Test every row of features with the same permutations, and adjust for their number.

    Args:
        rows: features float [N, D] by the row's name; none may be nan.
        y: [N], classes 0 .. C-1 as int, or numbers.
        groups: [N], the patient of each file; near-duplicates belong into one.
        draws: B permutations; p is never below 1 / (B + 1).
        seed: of folds and draws.
        numbers: the targets are numbers, not classes.
        progress: show a bar.

    Returns:
        (result by row, how the permutations were drawn).

    Raises:
        ValueError: if `draws` is below 999 or there are fewer than two groups.
    """
    if draws < 999:
        raise ValueError(f"{draws} draws: at least 999 are needed for p-values that can be adjusted")
    drawn, how = permuted_targets(y, groups, draws, seed)
    every = np.concatenate([y[None], drawn])
    folds = [blind_folds(groups, seed=seed + repeat) for repeat in range(REPEATS)]
    classes = 0 if numbers else int(y.max()) + 1
    found = {}
    for name, x in tqdm(rows.items(), "permuting", unit="row", disable=not progress):
        of_repeat = [hats(x, groups, fold) for fold in folds]
        found[name] = np.concatenate(
            [
                np.mean([explained(b, f) if numbers else balanced_accuracies(b, f, classes) for f in of_repeat], axis=0)
                for b in np.array_split(every, -(-len(every) // BLOCK))
            ]
        )
    return westfall_young(found), how


def westfall_young(statistics: Mapping[str, np.ndarray]) -> dict[str, Tested]:
    """p-values from statistics [1 + B] of each row, the observed one first, all rows under the same permutations.

    Each row is standardized over all of its values, the observed one among them, so that rows of many features do not
    drown the others; (b + 1) / (B + 1) counts the observed draw, and ties count against the row.
    """
    if not statistics:
        return {}
    scaled = {name: (s - s.mean()) / (s.std() or 1.0) for name, s in statistics.items()}
    largest = np.max(list(scaled.values()), axis=0)
    critical = np.sort(largest[1:])[-max(int(0.05 * len(largest)), 1)]  # a statistic above it has p of 0.05 or less
    tiny = 1e-9  # of a standard deviation: what rounding leaves between equal statistics
    return {
        name: Tested(
            statistic=float(s[0]),
            p=float((scaled[name] >= scaled[name][0] - tiny).mean()),
            adjusted=float((largest >= scaled[name][0] - tiny).mean()),
            smallest=float(s.mean() + critical * s.std()),
        )
        for name, s in statistics.items()
    }
