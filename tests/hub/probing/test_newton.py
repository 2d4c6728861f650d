"""Newton's method against the optimality condition in its slow form and against scikit-learn, in float64."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from usbackbones.probing.linear_head import logistic_heads
from usbackbones.probing.newton import GRADIENT, minimize
from usbackbones.probing.probes import balanced_weights


def slow_gradient(x, y, share, ridge, v):
    """The gradient of the objective, row by row in plain numbers."""
    total = [[ridge[k] * v[c][k] for k in range(len(ridge))] for c in range(len(v))]
    for row, label, weight in zip(x, y, share, strict=True):
        powers = [math.exp(sum(a * b for a, b in zip(row, of_class, strict=True))) for of_class in v]
        for c, power in enumerate(powers):
            for k, value in enumerate(row):
                total[c][k] += weight * (power / sum(powers) - (c == label)) * value
    return total


@pytest.mark.parametrize("ridge", [1.0, 1e-2, 1e-4])
def test_the_gradient_is_zero_at_the_solution(ridge):
    """From afar as well as from zero, classes separable or not."""
    torch.manual_seed(0)
    x = torch.cat([torch.randn(30, 12), torch.ones(30, 1)], 1).double()
    y, share = torch.arange(30) % 4, torch.rand(30).double() / 15
    cost = torch.cat([torch.full((12,), ridge), torch.zeros(1)]).double()
    found = [minimize(x, y, share, cost, start) for start in (torch.zeros(4, 13).double(), torch.randn(4, 13).double())]
    for v in found:
        gradient = slow_gradient(x.tolist(), y.tolist(), share.tolist(), cost.tolist(), v.tolist())
        assert max(abs(value) for row in gradient for value in row) <= 1.01 * GRADIENT
    torch.testing.assert_close(*(x @ (v - v.mean(0)).T for v in found), rtol=0, atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_heads_on_fewer_rows_than_features_are_scikit_learns(classes):
    """Every row can be separated, and of one class there are few: where a solver gets slow or stops early."""
    rng = np.random.default_rng(classes)
    y = np.minimum(rng.integers(9, size=60), classes - 1)
    x = rng.normal(size=(60, 150)) * np.exp(rng.normal(size=150)) + y[:, None] * rng.normal(size=150)
    weight, z = balanced_weights(y), (x - x.mean(0)) / x.std(0)
    for c, head in zip((1e-3, 1.0, 10.0), logistic_heads(x, y, weight, classes, (1e-3, 1.0, 10.0)), strict=True):
        # Of two classes scikit-learn penalizes the difference of the two rows alone, which is half as much.
        slow = LogisticRegression(C=2 * c if classes == 2 else c, solver="newton-cg", max_iter=20000, tol=1e-12)
        wanted = slow.fit(z, y, sample_weight=weight).predict_proba(z)
        np.testing.assert_allclose(torch.from_numpy(head(x)).softmax(1).numpy(), wanted, atol=2e-6)
