"""Linear probes as heads of a network: weights and bias that read raw features, fitted in torch alone.

The objectives are those of `probes.linear_predict` (scikit-learn's logistic regression) and `probes.ridge_predict`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from usbackbones.probing.probes import PENALTIES, RIDGES

STEPS = 300
"""Maximum number of L-BFGS iterations for one penalty; each starts from the solution of the stronger one."""


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

    Minimizes |W|^2 / 2 + C sum_i weight_i (cross-entropy of row i); the bias is free.

    Args:
        x: float [N, D].
        y: int [N], classes 0 .. classes - 1.
        weight: float [N] of the rows, see `probes.balanced_weights`.
        classes: number of outputs.
        penalties: values of C, strongest penalty (smallest C) first.
    """
    mean, scale = _spread(x, np.full(len(x), 1 / len(x)))
    features = torch.from_numpy((np.asarray(x, np.float64) - mean) / scale)
    labels, share = torch.from_numpy(np.asarray(y, np.int64)), torch.from_numpy(np.asarray(weight, np.float64))
    w = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    for c in penalties:
        solver = torch.optim.LBFGS(
            [w, b], max_iter=STEPS, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def objective(c: float = c, solver: torch.optim.Optimizer = solver) -> torch.Tensor:
            solver.zero_grad()
            losses = F.cross_entropy(features @ w.T + b, labels, reduction="none")
            total = (losses * share).mean() + w.square().sum() / (2 * c * len(x))
            total.backward()
            return total

        solver.step(objective)
        yield _unscaled(w.detach().numpy().copy(), b.detach().numpy().copy(), mean, scale, c)


def ridge_heads(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalties: Sequence[float] = RIDGES
) -> Iterator[LinearHead]:
    """Ridge regression of one quantity on standardized features, for one penalty after the other.

    Minimizes the weighted mean of (y - b - x w)^2 plus penalty |w|^2.

    Args:
        x: float [N, D].
        y: float [N].
        weight: float [N] of the rows.
        penalties: strongest first.
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
