"""Heads fitted in torch against scikit-learn's solver, and against the ridge probe."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from usbackbones.probing.linear_head import logistic_heads, ridge_heads
from usbackbones.probing.probes import PENALTIES, RIDGES, _ridges, balanced_weights


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=90)
    x = rng.normal(size=(90, 20)) * rng.uniform(0.1, 30, 20) + y[:, None] * rng.normal(size=20) + 5
    x[:, 7] = 3.0  # a constant feature
    return x, y, balanced_weights(y)


def test_logistic_heads_are_scikit_learns(rows):
    x, y, weight = rows
    scaler = StandardScaler().fit(x)
    for head, c in zip(logistic_heads(x, y, weight, 3), PENALTIES, strict=True):
        slow = LogisticRegression(C=c, solver="newton-cg", max_iter=20000, tol=1e-12).fit(
            scaler.transform(x), y, sample_weight=weight
        )
        found = torch.from_numpy(head(x)).softmax(1).numpy()
        np.testing.assert_allclose(found, slow.predict_proba(scaler.transform(x)), atol=2e-6)
        assert head.penalty == c


def test_ridge_heads_are_the_ridge_probes(rows):
    x, y, weight = rows
    for head, wanted in zip(ridge_heads(x, y * 2.5, weight), _ridges(x, y * 2.5, weight, x, RIDGES), strict=True):
        np.testing.assert_allclose(head(x)[:, 0], wanted, rtol=1e-8)


def test_a_head_goes_into_a_layer(rows):
    x, y, weight = rows
    head = next(logistic_heads(x, y, weight, 3))
    layer = torch.nn.Linear(20, 3).double()
    head.copy_into(layer)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), head(x))
