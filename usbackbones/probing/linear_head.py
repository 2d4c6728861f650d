"""Linear probes as heads of a network: weights and bias that read raw features, fitted in torch alone.

The objectives are those of `probes.linear_predict` (scikit-learn's logistic regression) and `probes.ridge_predict`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from usbackbones.probing.newton import minimize

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""The values of C that a linear probe chooses from, strongest penalty first."""
RIDGES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
"""The penalties that a ridge probe chooses from, strongest first; the mean square of a feature is one."""


@dataclass(frozen=True)
class LinearHead:
    """Outputs `x @ weight.T + bias` of features x [N, D].

    Attributes:
        weight: float64 [C, D].
        bias: float64 [C].
        penalty: it was fitted with: the inverse penalty C of a logistic regression, the penalty of a ridge regression.
    """

    weight: np.ndarray
    bias: np.ndarray
    penalty: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Outputs float64 [N, C] for features [N, D]."""
        return np.asarray(x, np.float64) @ self.weight.T + self.bias

    def copy_into(self, layer: nn.Linear) -> None:
        """Give a classifier these weights."""
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight))
            layer.bias.copy_(torch.from_numpy(self.bias))


def logistic_heads(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, classes: int, penalties: Sequence[float] = PENALTIES
) -> Iterator[LinearHead]:
    """Multinomial logistic regression on standardized features, for one penalty after the other.

    Minimizes |W|^2 / 2 + C sum_i weight_i (cross-entropy of row i); the bias is free. The Hessian is at most half the
    weighted covariance plus the penalty (Boehning, 1992), for any W; in the coordinates in which this bound is the
    identity, conjugate gradients need few steps. Each penalty starts from the solution of the stronger one.

    Args:
        x: float [N, D].
        y: int [N], classes 0 .. classes - 1.
        weight: float [N] of the rows, see `probes.balanced_weights`.
        classes: number of outputs.
        penalties: values of C, strongest penalty (smallest C) first.
    """
    mean, scale = _spread(x, np.full(len(x), 1 / len(x)))
    z = (np.asarray(x, np.float64) - mean) / scale
    share = np.asarray(weight, np.float64) / len(x)
    center = share @ z / share.sum()
    variances, axes = _principal(z - center, share)
    with _one_thread():
        rotated = torch.from_numpy(z - center) @ torch.from_numpy(axes)  # [N, R]
    labels, shares = torch.from_numpy(np.asarray(y, np.int64)), torch.from_numpy(share)
    w, b = torch.zeros(classes, rotated.shape[1], dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for c in penalties:
        penalty = 1 / (c * len(x))
        stretch = torch.from_numpy((variances / 2 + penalty) ** -0.5)
        inputs = torch.cat([rotated * stretch, torch.full((len(x), 1), 2**0.5, dtype=torch.float64)], 1)
        cost = torch.cat([stretch**2 * penalty, torch.zeros(1, dtype=torch.float64)])  # the bias is free
        with _one_thread():
            v = minimize(inputs, labels, shares, cost, torch.cat([w / stretch, b[:, None] / 2**0.5], 1))
        w, b = v[:, :-1] * stretch, v[:, -1] * 2**0.5
        raw = w.numpy() @ axes.T
        yield _unscaled(raw, b.numpy() - raw @ center, mean, scale, c)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small are slower on many threads, which wait for each other at full load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _principal(z: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances [R] and principal axes [D, R] of rows z [N, D] of these shares; by the smaller Gram matrix."""
    rows = z * np.sqrt(share)[:, None]
    wide, given = z.shape[1] > len(z), torch.from_numpy(rows)
    with _one_thread():
        found = torch.linalg.eigh(given @ given.T if wide else given.T @ given)
    variances, vectors = (one.numpy() for one in found)
    kept = variances > 1e-12 * max(float(variances[-1]), 1e-300)
    variances, vectors = variances[kept], vectors[:, kept]
    return variances, rows.T @ vectors / np.sqrt(variances) if wide else vectors


def ridge_heads(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalties: Sequence[float] = RIDGES
) -> Iterator[LinearHead]:
    """Ridge regression of one quantity y [N] on standardized features x [N, D], for one penalty after the other.

    Minimizes the weighted mean of (y - b - x w)^2 plus penalty |w|^2; the strongest penalty comes first.
    """
    share = weight / weight.sum()
    mean, scale = _spread(x, share)
    features, level = (np.asarray(x, np.float64) - mean) / scale, share @ y
    values, vectors = np.linalg.eigh((features * share[:, None]).T @ features)
    moment = vectors.T @ (features.T @ (share * (y - level)))
    for penalty in penalties:
        slope = vectors @ (moment / (values.clip(0) + penalty))
        yield _unscaled(slope[None], np.array([level]), mean, scale, penalty)


def _spread(x: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [D] of each feature; a constant one gets an infinite deviation: it says nothing."""
    x = np.asarray(x, np.float64)
    mean = share @ x
    scale = np.sqrt(share @ np.square(x - mean))
    scale[scale < 1e-6 * max(scale.max(), 1e-12)] = np.inf
    return mean, scale


def _unscaled(w: np.ndarray, b: np.ndarray, mean: np.ndarray, scale: np.ndarray, penalty: float) -> LinearHead:
    """The head that does to raw features what (w, b) does to standardized ones."""
    raw = w / scale
    return LinearHead(raw, b - raw @ mean, penalty)
