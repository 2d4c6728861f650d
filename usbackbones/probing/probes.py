"""Probes on frozen features: kNN and linear for classes, ridge for what is measured.

A probe is given the labels of its training rows alone, so nothing about the rows it predicts can reach a choice.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch

from usbackbones.data.splits import group_labels, grouped_folds
from usbackbones.metrics.resampling import Ids
from usbackbones.probing.linear_head import PENALTIES, RIDGES, logistic_heads

UNCHOSEN = 1e-2
"""C where no group can be spared to choose it on: the middle of them."""


def knn_predict(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
    classes: int | None = None,
) -> np.ndarray:
    """Class probabilities by the k most similar training rows.

    Similarity s_i is the cosine after the mean of the training rows is taken off: what follows a ReLU shares one
    large direction, next to which all cosines are about 1, and most so in an untrained network, which would make it
    look worse than it is. With n_c training rows of class c, p_c is proportional to the sum, over the neighbours of
    class c, of exp(s_i / temperature) / n_c; without n_c the largest class would win by its number alone.

    Args:
        train_x: float [N, D].
        train_y: int [N], classes 0 .. C-1.
        test_x: float [M, D].
        k: neighbours; all of them when there are fewer.
        temperature: 0.07 as is common for kNN probes of self-supervised features.
        classes: C where the last classes may lack in training; their probability is 0.

    Returns:
        float64 [M, C], rows sum to 1. Similarities are as precise as the features are.
    """
    dtype = np.result_type(train_x, np.float32)
    mean = train_x.mean(axis=0, dtype=np.float64).astype(dtype)
    train, test = (torch.from_numpy(_unit(x.astype(dtype) - mean)) for x in (train_x, test_x))
    k = min(k, len(train))
    votes = np.eye(classes or train_y.max() + 1)[train_y] / np.bincount(train_y)[train_y][:, None]
    probability = np.empty((len(test), votes.shape[1]))
    for start in range(0, len(test), 1024):
        # torch's topk takes a tenth of the time of numpy's argpartition.
        near, nearest = (found.numpy() for found in (test[start : start + 1024] @ train.T).topk(k, sorted=False))
        # Less the largest: the ratio stays, the exponential cannot overflow.
        weight = np.exp((near - near.max(axis=1, keepdims=True)) / temperature)
        probability[start : start + 1024] = np.einsum("mk,mkc->mc", weight, votes[nearest])
    return probability / probability.sum(axis=1, keepdims=True)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def balanced_weights(y: np.ndarray, clips: Ids | None = None) -> np.ndarray:
    """Row weights of mean 1: every class weighs the same, and inside a class every clip.

    A clip of thirty frames is not ten times the evidence of a clip of three, since its frames are near copies;
    weighing clips alike keeps a few long ones from deciding a boundary. Without `clips` each row is its own clip.
    """
    _, unit = np.unique(np.arange(len(y)) if clips is None else clips, return_inverse=True)
    weight = 1.0 / np.bincount(unit)[unit]
    weight /= np.bincount(y, weight)[y]
    return weight / weight.mean()


def linear_predict(
    train_x: np.ndarray,
    train_y: np.ndarray,
    train_groups: Ids,
    test_x: np.ndarray,
    train_clips: Ids | None = None,
    folds: int = 5,
    classes: int | None = None,
) -> tuple[np.ndarray, float]:
    """Class probabilities by standardised multinomial logistic regression, and the penalty that was chosen.

    The inverse penalty C is the one of `PENALTIES` with the best balanced accuracy (rows weighted as in training)
    over group-stratified folds of the training rows; of equally good ones the strongest penalty. Where a class has a
    single group there is nothing to choose on, and it is `UNCHOSEN`.

    Args:
        train_x: float [N, D].
        train_y: int [N], classes 0 .. C-1.
        train_groups: [N], never divided by a fold.
        test_x: float [M, D].
        train_clips: [N], see `balanced_weights`.
        folds: for the choice of C; fewer where there are fewer groups.
        classes: number of columns where the last classes may lack in training; their probability is 0.

    Returns:
        (float64 [M, C], C).
    """
    names = [str(group) for group in train_groups]
    weight = balanced_weights(train_y, train_clips)
    if len(set(train_y)) < 2:
        raise ValueError(f"a linear probe needs two classes, the training rows are all of class {train_y[0]}")
    of_class = Counter(group_labels(names, [str(label) for label in train_y]).values())
    best = UNCHOSEN if min(of_class.values()) < 2 else _best_penalty(train_x, train_y, names, weight, folds)
    (outputs,) = _logits(train_x, train_y, weight, test_x, (best,))
    outputs = np.exp(outputs - outputs.max(1, keepdims=True))
    probability = np.zeros((len(test_x), classes or train_y.max() + 1))
    probability[:, np.unique(train_y)] = outputs / outputs.sum(1, keepdims=True)
    return probability, best


def _best_penalty(x: np.ndarray, y: np.ndarray, groups: list[str], weight: np.ndarray, folds: int) -> float:
    """The C of `PENALTIES` with the best weighted accuracy over folds of the training rows."""
    parts = grouped_folds(groups, [str(label) for label in y], min(folds, len(set(groups))), seed=0)
    hit = np.empty((len(PENALTIES), len(y)), bool)
    for fit, held in parts:
        for outputs, row in zip(_logits(x[fit], y[fit], weight[fit], x[held], PENALTIES), hit, strict=True):
            row[held] = np.unique(y[fit])[outputs.argmax(1)] == y[held]
    return PENALTIES[int(np.argmax(hit @ weight))]  # argmax takes the first of equals


def _logits(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, new: np.ndarray, penalties: tuple[float, ...]
) -> Iterator[np.ndarray]:
    """Logits float64 [M, classes present in y] of new rows under each penalty, as scikit-learn's probe has them."""
    x, new = np.asarray(x, np.float64), np.asarray(new, np.float64)
    mean, variance = x.mean(0), x.var(0)
    noise = len(x) * np.finfo(np.float64).eps
    scale = np.where(variance <= noise * variance + np.square(noise * mean), 1, np.sqrt(variance))
    present, label = np.unique(y, return_inverse=True)
    # Of two classes scikit-learn penalizes the difference of the two rows of W alone, which is half as much.
    shares = [c / 2 if len(present) == 2 else c for c in penalties]
    for head in logistic_heads((x - mean) / scale, label, weight, len(present), shares):
        yield head((new - mean) / scale)


def ridge_predict(
    train_x: np.ndarray,
    train_y: np.ndarray,
    train_groups: Ids,
    test_x: np.ndarray,
    train_clips: Ids | None = None,
    folds: int = 5,
) -> tuple[np.ndarray, float]:
    """A measured quantity by standardised ridge regression, and the penalty that was chosen.

    Minimises the weighted mean of (y - b - x w)^2 plus penalty |w|^2, every clip weighing the same. The penalty is
    the one of `RIDGES` with the least weighted mean absolute error over folds of the training groups; of equally good
    ones the strongest.

    Args:
        train_x: float [N, D].
        train_y: float [N], in any unit.
        train_groups: [N], two at least; never divided by a fold.
        test_x: float [M, D].
        train_clips: [N], see `balanced_weights`.
        folds: for the choice of the penalty; fewer where there are fewer groups.

    Returns:
        (float64 [M] in the unit of train_y, penalty).
    """
    y, names = np.asarray(train_y, np.float64), [str(group) for group in train_groups]
    weight = balanced_weights(np.zeros(len(y), int), train_clips)
    error = np.empty((len(RIDGES), len(y)))
    for fit, held in grouped_folds(names, [""] * len(names), min(folds, len(set(names))), seed=0):
        error[:, held] = np.abs(_ridges(train_x[fit], y[fit], weight[fit], train_x[held], RIDGES) - y[held])
    best = RIDGES[int(np.argmin(error @ weight))]  # argmin takes the first of equals
    return _ridges(train_x, y, weight, test_x, (best,))[0], best


def _ridges(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, new: np.ndarray, penalties: tuple[float, ...]
) -> np.ndarray:
    """Predictions [P, M] under each penalty, from one decomposition of the covariance [D, D]."""
    share = weight / weight.sum()
    mean, level = share @ x, share @ y
    spread = np.sqrt(share @ np.square(x - mean))
    spread[spread < 1e-6 * max(spread.max(), 1e-12)] = np.inf  # a constant feature says nothing
    scaled = (x - mean) / spread
    values, vectors = np.linalg.eigh((scaled * share[:, None]).T @ scaled)
    moment = vectors.T @ (scaled.T @ (share * (y - level)))
    slopes = vectors @ (moment[:, None] / (values.clip(0)[:, None] + np.asarray(penalties)))  # [D, P]
    return level + ((new - mean) / spread @ slopes).T
