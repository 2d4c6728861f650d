"""Predict the target from features, out of fold in repeated grouped folds, with intervals over groups.

The same folds for every row of features, so that differences between rows are paired.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from usbackbones.data.splits import grouped_folds
from usbackbones.metrics.resampling import Ids, draw_groups, interval

FOLDS, REPEATS, RESAMPLES = 5, 3, 1000
WIDE = 100
"""Features: rows of more are pixels or a network's features, and are fitted under the stronger penalty."""
C_FEW, C_WIDE = 1.0, 0.01
"""Inverse penalties of the logistic regression, for rows of few features and of many."""
_LACKING = "the audit needs scikit-learn: pip install 'usbackbones[bench]'"
RIDGE_FEW, RIDGE_WIDE = 0.01, 1.0
"""Penalties of the ridge regression for numbers, as shares of the number of rows fitted."""


@dataclass(frozen=True)
class Target:
    """What is to be told.

    Attributes:
        y: int [N], classes 0 .. C-1, or float [N].
        classes: their names; empty for numbers.
    """

    y: np.ndarray
    classes: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        """Balanced accuracy, or R², of whoever knows nothing."""
        return 1 / len(self.classes) if self.classes else 0.0


@dataclass(frozen=True)
class Estimate:
    """What a row tells.

    Attributes:
        value, low, high: balanced accuracy by file, or R², mean over repeats, with its 95 % interval over groups.
        error: mean absolute error of numbers in their unit; None for classes.
        level: the same error for the mean of the fitted rows.
    """

    value: float
    low: float
    high: float
    error: float | None = None
    level: float | None = None


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one thread: the matrices are small, and several threads take six times as long to wait."""
    try:
        import sklearn.linear_model  # noqa: F401 - only libraries that are loaded can be limited
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError(_LACKING) from error
    return threadpool_limits(1, "blas")


def folds_of(target: Target, groups: Ids, folds: int = FOLDS, repeats: int = REPEATS) -> list[list[np.ndarray]]:
    """Held-out rows of each fold of each repeat; classes dealt evenly, groups whole.

    Raises:
        SplitError: for fewer groups than two.
    """
    names = [str(group) for group in groups]
    labels = [target.classes[c] for c in target.y] if target.classes else [""] * len(names)
    folds = max(2, min(folds, len(set(names))))
    return [[held for _, held in grouped_folds(names, labels, folds, seed)] for seed in range(repeats)]


def predictions(x: np.ndarray, target: Target, folds: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Out-of-fold predictions [R, N] of each repeat: classes as int, or numbers."""
    out = np.empty((len(folds), len(x)), int if target.classes else float)
    for row, parts in zip(out, folds, strict=True):
        for held in parts:
            fit = np.setdiff1d(np.arange(len(x)), held)
            row[held] = fitted(x[fit], target.y[fit], x[held], bool(target.classes))
    return out


def fitted(known: np.ndarray, y: np.ndarray, new: np.ndarray, classes: bool) -> np.ndarray:
    """Predictions [M] of a standardized model: balanced logistic regression, or ridge regression of numbers.

    Raises:
        ImportError: without scikit-learn.
    """
    try:
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError(_LACKING) from error
    if classes and len(set(y)) < 2:
        return np.full(len(new), y[0])
    scaler = StandardScaler()
    known, new = scaler.fit_transform(known), scaler.transform(new)
    wide = known.shape[1] > WIDE
    if wide:  # half the time, and the same classes
        known, new = known.astype(np.float32), new.astype(np.float32)
    if not classes:
        model = Ridge(alpha=(RIDGE_WIDE if wide else RIDGE_FEW) * len(known)).fit(known, y)
        return model.predict(new).clip(y.min(), y.max())  # a file unlike all others is not told beyond what was seen
    return (
        LogisticRegression(C=C_WIDE if wide else C_FEW, class_weight="balanced", max_iter=1000)
        .fit(known, y)
        .predict(new)
    )


def estimate(
    predicted: np.ndarray, target: Target, folds: Sequence[Sequence[np.ndarray]], groups: Ids, seed: int = 0
) -> tuple[Estimate, np.ndarray]:
    """The score of predictions [R, N] and its resamples over groups, float [RESAMPLES], for paired differences.

    The same groups and seed meet the same resamples.
    """
    group, times = draw_groups(np.asarray(groups, dtype=str), RESAMPLES, seed)
    times = np.concatenate([np.ones((1, times.shape[1])), times])
    if target.classes:
        samples = np.mean([_accuracies(row, target, group, times) for row in predicted], axis=0)
        return Estimate(float(samples[0]), *interval(samples[1:])), samples[1:]
    levels = [_levels(target.y, parts) for parts in folds]
    samples = np.mean(
        [_explained(row, target.y, level, group, times) for row, level in zip(predicted, levels, strict=True)], axis=0
    )
    error = float(np.abs(predicted - target.y).mean())
    level = float(np.mean([np.abs(level - target.y).mean() for level in levels]))
    return Estimate(float(samples[0]), *interval(samples[1:]), error, level), samples[1:]


def _accuracies(predicted: np.ndarray, target: Target, group: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Balanced accuracy under each resample; a class that a resample lacks is left out of its mean."""
    count = len(target.classes)
    right, support = np.zeros((2, times.shape[1], count))
    np.add.at(support, (group, target.y), 1)
    np.add.at(right, (group, target.y), predicted == target.y)
    right, support = times @ right, times @ support
    there = support > 0
    return np.divide(right, support, out=np.zeros_like(right), where=there).sum(1) / there.sum(1)


def _levels(y: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """For each row the mean of the rows that were fitted when it was held out."""
    level = np.empty(len(y))
    for held in parts:
        level[held] = np.delete(y, held).mean()
    return level


def _explained(
    predicted: np.ndarray, y: np.ndarray, level: np.ndarray, group: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """R² against the mean of the fitted rows under each resample."""
    error, total = (np.bincount(group, np.square(y - guess), times.shape[1]) for guess in (predicted, level))
    return 1 - (times @ error) / np.maximum(times @ total, 1e-300)
