"""The ridge probe against its slow form."""

import numpy as np
import pytest

from usbackbones.data.splits import grouped_folds
from usbackbones.probing.probes import RIDGES, balanced_weights, ridge_predict


@pytest.fixture
def measured():
    rng = np.random.default_rng(0)
    group = np.repeat([f"g{g}" for g in range(30)], 4)
    clip = np.array([f"{g}{n % 3}" for n, g in enumerate(group)])
    x = rng.normal(size=(120, 12)) * np.arange(1, 13) + 5
    x[:, 3] = 7.0  # a feature that never changes
    return x, 100 + x @ rng.normal(size=12) + rng.normal(0, 20, 120), group, clip


def solved(x, y, weight, penalty, new):
    """The normal equations, with an intercept that is not punished."""
    share = weight / weight.sum()
    mean = (share[:, None] * x).sum(0)
    spread = np.sqrt((share[:, None] * (x - mean) ** 2).sum(0))
    spread[spread < 1e-9] = 1
    design = np.column_stack([np.ones(len(x)), (x - mean) / spread])
    punished = penalty * np.diag([0.0] + [1.0] * x.shape[1])
    slope = np.linalg.solve(design.T @ (share[:, None] * design) + punished, design.T @ (share * y))
    return np.column_stack([np.ones(len(new)), (new - mean) / spread]) @ slope


def test_the_ridge_probe_is_its_slow_form(measured):
    x, y, group, clip = measured
    known = np.arange(120) < 100
    weight = balanced_weights(np.zeros(100, int), clip[known])
    quality = []
    for penalty in RIDGES:
        error = np.empty(100)
        for fit, held in grouped_folds(group[known].tolist(), [""] * 100, 5, seed=0):
            told = solved(x[known][fit], y[known][fit], weight[fit], penalty, x[known][held])
            error[held] = np.abs(told - y[known][held])
        quality.append((error * weight).sum())
    best = RIDGES[int(np.argmin(quality))]
    found, penalty = ridge_predict(x[known], y[known], group[known], x[~known], clip[known])
    assert penalty == best and best not in (RIDGES[0], RIDGES[-1])
    np.testing.assert_allclose(found, solved(x[known], y[known], weight, best, x[~known]), rtol=1e-9)


def test_more_features_than_rows_and_single_precision(measured):
    x, y, group, _ = measured
    wide = np.random.default_rng(1).normal(size=(120, 300)).astype(np.float32)
    wide[:, :12] += x
    found, penalty = ridge_predict(wide[:80], y[:80], group[:80], wide[80:])
    slow = solved(wide[:80].astype(float), y[:80], np.ones(80), penalty, wide[80:].astype(float))
    np.testing.assert_allclose(found, slow, rtol=1e-4)
    with pytest.raises(ValueError, match="folds of 1 groups"):
        ridge_predict(x, y, ["one"] * 120, x)


def test_shuffled_measures_are_not_predicted():
    """Features that give every group away predict nothing of a quantity that is drawn for the groups."""
    rng = np.random.default_rng(2)
    x = np.repeat(rng.normal(size=(60, 20)), 5, axis=0) + 0.05 * rng.normal(size=(300, 20))
    y, group = np.repeat(rng.normal(size=60), 5), np.repeat([f"g{g}" for g in range(60)], 5)
    told = np.empty(300)
    for fit, held in grouped_folds(group.tolist(), [""] * 300, 5, seed=0):
        told[held], _ = ridge_predict(x[fit], y[fit], group[fit], x[held])
    assert np.abs(told - y).mean() > 0.95 * np.abs(y - y.mean()).mean()
