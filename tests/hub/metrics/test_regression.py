"""Metrics of numbers against their slow forms, and intervals against a bootstrap that repeats the rows."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

from usbackbones.metrics.levels import bootstrap, metrics, scores


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    clips = np.repeat(np.arange(20), 3)
    y = rng.normal(60, 15, 20)[clips]
    return y, y + rng.normal(2, 5, 60), clips, np.array([f"g{clip // 2}" for clip in clips])


def slow(y, predicted):
    error = predicted - y
    spread = error.std(ddof=1)
    return {
        "mae": mean_absolute_error(y, predicted),
        "r2": r2_score(y, predicted),
        "bias": error.mean(),
        "limit_low": error.mean() - 1.96 * spread,
        "limit_high": error.mean() + 1.96 * spread,
    }


def test_scores_are_the_slow_forms(rows):
    y, predicted, clips, groups = rows
    found = scores(y, predicted, clips, groups)
    assert found["frame"] == pytest.approx(slow(y, predicted))
    mean = np.array([predicted[clips == clip].mean() for clip in range(20)])
    assert found["clip"] == pytest.approx(slow(y[::3], mean))
    assert found["patient"] == pytest.approx(found["clip"])  # no patient has two clips of one number


def test_a_resample_repeats_the_rows_of_its_groups(rows):
    y, predicted, _, groups = rows
    names = np.unique(groups)
    drawn = bootstrap(y, [predicted], groups, resamples=5, seed=3)
    times = np.random.default_rng(3).multinomial(len(names), np.full(len(names), 1 / len(names)), 5)
    for number, of_group in enumerate(times):
        chosen = np.concatenate(
            [np.flatnonzero(groups == g) for g, n in zip(names, of_group, strict=True) for _ in range(n)]
        )
        for metric, value in slow(y[chosen], predicted[chosen]).items():
            assert drawn[metric][number] == pytest.approx(value)


def test_intervals_hold_the_value_and_nothing_is_made_up(rows):
    y, predicted, clips, groups = rows
    for values in metrics(y, predicted, clips, groups).values():
        assert all(number["low"] <= number["value"] <= number["high"] for number in values.values())
    one = scores(y[:1], predicted[:1], clips[:1], groups[:1])["frame"]
    assert np.isnan(one["r2"]) and np.isnan(one["limit_low"]) and one["mae"] > 0
