"""Rates at a threshold beside counts one by one, and a bootstrap of rows picked by hand."""

import itertools

import numpy as np
import pytest

from usbackbones.metrics.operating_point import RATES, rates, roc, youden_threshold


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), rng.integers(1, 5, 20))
    positive = rng.random(len(groups)) < 0.4
    probability = np.clip(0.35 * positive + rng.random(len(groups)) * 0.65, 0, 1).round(2)
    return probability, positive, groups


def counted(called, positive):
    pairs = list(zip(called, positive, strict=True))
    tp, fp = sum(c and p for c, p in pairs), sum(c and not p for c, p in pairs)
    fn, tn = sum(p and not c for c, p in pairs), sum(not c and not p for c, p in pairs)
    share = lambda hits, total: hits / total if total else np.nan  # noqa: E731
    return {
        "sensitivity": share(tp, tp + fn),
        "specificity": share(tn, tn + fp),
        "ppv": share(tp, tp + fp),
        "npv": share(tn, tn + fn),
    }


def test_the_rates_are_those_of_the_counts_and_the_intervals_of_whole_groups(table):
    probability, positive, groups = table
    called = probability >= 0.5
    found = rates(called, positive, groups, resamples=300, seed=5)
    assert {name: found[name]["value"] for name in RATES} == pytest.approx(counted(called, positive), nan_ok=True)
    names = np.unique(groups)
    draws = np.random.default_rng(5).multinomial(len(names), np.full(len(names), 1 / len(names)), 300)
    slow = {name: [] for name in RATES}
    for times in draws:
        rows = [
            i for name, n in zip(names, times, strict=True) for _ in range(n) for i in np.flatnonzero(groups == name)
        ]
        for name, value in counted(called[rows], positive[rows]).items():
            slow[name].append(value)
    for name in RATES:
        assert found[name]["low"] == pytest.approx(np.nanquantile(slow[name], 0.025))
        assert found[name]["high"] == pytest.approx(np.nanquantile(slow[name], 0.975))


def test_the_threshold_is_the_best_of_all(table):
    probability, positive, _ = table
    best = max(
        counted(probability >= cut, positive)["sensitivity"] + counted(probability >= cut, positive)["specificity"]
        for cut in np.linspace(0, 1, 401)
    )
    found = counted(probability >= youden_threshold(probability, positive), positive)
    assert found["sensitivity"] + found["specificity"] == pytest.approx(best)
    with pytest.raises(ValueError, match="both classes"):
        youden_threshold(probability, np.ones(len(probability), bool))


def test_the_area_below_the_curve_is_the_share_of_won_pairs(table):
    probability, positive, _ = table
    points = roc(probability, positive)
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))
    won = [float(p > n) + 0.5 * (p == n) for p in probability[positive] for n in probability[~positive]]
    assert area == pytest.approx(np.mean(won)) and points[-1] == (1.0, 1.0)


def test_nothing_counted_is_no_number():
    found = rates(np.zeros(3, bool), np.zeros(3, bool), ["a", "b", "c"])
    assert np.isnan(found["sensitivity"]["value"]) and found["sensitivity"]["of"] == 0
    assert found["specificity"]["value"] == 1


@pytest.mark.parametrize("kind", [True, False])
def test_where_all_rows_are_of_one_kind_the_predictive_values_say_nothing(kind):
    """A PPV of 1 among positive rows alone is what any test reaches."""
    found = rates(np.array([True, False, True]), np.full(3, kind), ["a", "b", "c"])
    defined = {name for name in RATES if np.isfinite(found[name]["value"])}
    assert defined == {"sensitivity" if kind else "specificity"}
