"""The permutation test against its slow form in float64, and its false alarms on clean tables."""

import numpy as np
import pytest

from usbackbones.auditing.association import corrected_v
from usbackbones.auditing.statistics import (
    FOLDS,
    PENALTY,
    REPEATS,
    balanced_accuracies,
    blind_folds,
    explained,
    hats,
    permutation_test,
    permuted_targets,
    westfall_young,
)

TABLES, ALARMS = 200, 15


def clean_table(seed, several):
    """(rows of features constant within a patient, labels, patients) that have nothing to do with each other."""
    generator = np.random.default_rng(seed)
    sizes = generator.choice([1, 1, 2, 2, 2, 3, 3, 4, 8], 40)
    group = np.repeat(np.arange(40), sizes)
    y = generator.integers(0, 3, 40)[group]
    if several:
        mixed = np.isin(group, generator.choice(40, 12, replace=False))
        y = np.where(mixed, generator.integers(0, 3, len(y)), y)
    y[:3] = 0, 1, 2
    if not several:
        y = y[np.searchsorted(group, group)]
    rows = {name: generator.normal(size=(40, d))[group] for name, d in (("a", 2), ("b", 8), ("c", 20))}
    rows["scanner"] = np.eye(4)[generator.integers(0, 4, 40)][group]
    return rows, y, group


def slow_ridge(x, y, group, fold, penalty):
    """Out-of-fold ridge predictions, fold by fold, from the normal equations with an intercept column."""
    out, levels = np.zeros((len(y), y.shape[1])), np.zeros((len(y), y.shape[1]))
    for number in range(fold.max() + 1):
        fit = [n for n in range(len(y)) if fold[n] != number]
        weight = np.array([1 / sum(group[m] == group[n] for m in fit) for n in fit])
        weight = weight / weight.sum()
        mean = sum(w * x[n] for w, n in zip(weight, fit, strict=True))
        spread = np.sqrt(sum(w * (x[n] - mean) ** 2 for w, n in zip(weight, fit, strict=True)))
        z = np.where(spread > 1e-9, (x - mean) / np.where(spread > 1e-9, spread, 1), 0)
        design = np.column_stack([np.ones(len(x)), z])
        ridge = penalty * np.diag([0.0] + [1.0] * x.shape[1])
        gram = design[fit].T @ np.diag(weight) @ design[fit] + ridge
        slope = np.linalg.solve(gram, design[fit].T @ np.diag(weight) @ y[fit])
        for n in np.flatnonzero(fold == number):
            out[n], levels[n] = design[n] @ slope, weight @ y[fit]
    return out, levels


def slow_statistic(x, y, group, fold, classes):
    one_hot = np.eye(classes)[y]
    predicted, levels = slow_ridge(x, one_hot, group, fold, PENALTY)
    called = [
        max(range(classes), key=lambda c: (p[c] / m[c]) if m[c] else -np.inf)
        for p, m in zip(predicted, levels, strict=True)
    ]
    return np.mean([np.mean([called[n] == c for n in range(len(y)) if y[n] == c]) for c in set(y.tolist())])


def test_one_hat_matrix_a_fold_is_ridge_regression_fitted_anew():
    rows, y, group = clean_table(5, several=True)
    x = np.column_stack([rows["b"], np.ones(len(y))])  # one feature is constant
    fold = blind_folds(group)
    drawn, _ = permuted_targets(y, group, 3)
    every = np.concatenate([y[None], drawn])
    fast = balanced_accuracies(every, hats(x, group, fold), 3)
    assert fast == pytest.approx([slow_statistic(x, one, group, fold, 3) for one in every], abs=1e-12)


def test_numbers_are_explained_as_by_the_slow_form():
    rows, _, group = clean_table(7, several=False)
    y = rows["b"] @ np.arange(8) + np.random.default_rng(0).normal(size=len(group))
    fold = blind_folds(group)
    predicted, levels = slow_ridge(rows["b"], y[:, None], group, fold, PENALTY)
    slow = 1 - np.square(y - predicted[:, 0]).sum() / np.square(y - levels[:, 0]).sum()
    assert explained(y[None], hats(rows["b"], group, fold))[0] == pytest.approx(slow, abs=1e-12)


def test_folds_keep_groups_whole_and_even():
    group = np.repeat(np.arange(30), np.arange(1, 31))
    fold = blind_folds(group)
    assert all(len(set(fold[group == number])) == 1 for number in range(30))
    assert np.ptp(np.bincount(fold)) <= 5
    with pytest.raises(ValueError, match="two at least"):
        blind_folds(["one"] * 4)


def test_permutations_move_whole_groups_where_each_has_one_target():
    _, y, group = clean_table(3, several=False)
    drawn, how = permuted_targets(y, group, 50)
    assert "whole groups" in how
    for row in drawn:
        assert all(len(set(row[group == number])) == 1 for number in range(40))
        first = [row[group == number][0] for number in range(40)]
        assert sorted(first) == sorted(y[group == number][0] for number in range(40))


def test_permutations_exchange_vectors_of_equal_size_where_a_group_has_several_targets():
    _, y, group = clean_table(3, several=True)
    drawn, how = permuted_targets(y, group, 50)
    assert "equal size" in how
    sizes = np.bincount(group)
    for row in drawn:
        for size in set(sizes):
            vectors = [sorted(tuple(sorted(of[group == n])) for n in np.flatnonzero(sizes == size)) for of in (row, y)]
            assert vectors[0] == vectors[1]
    assert len({tuple(row) for row in drawn}) == 50


def test_the_adjusted_p_is_counted_over_the_largest_of_all_rows():
    generator = np.random.default_rng(0)
    draws = {name: generator.normal(loc, scale, 1000) for name, loc, scale in (("a", 0.3, 0.05), ("b", 0.5, 0.01))}
    draws["a"][0], draws["b"][0] = 0.5, 0.5
    found = westfall_young(draws)
    scaled = {n: [(v - np.mean(s)) / np.std(s) for v in s] for n, s in draws.items()}
    for name, s in draws.items():
        assert found[name].p == sum(v >= s[0] for v in s) / 1000
        at_least = sum(max(scaled["a"][i], scaled["b"][i]) >= scaled[name][0] for i in range(1000))
        assert found[name].adjusted == at_least / 1000
    assert found["a"].adjusted < 0.05 < found["b"].adjusted
    assert found["a"].p <= found["a"].adjusted
    # The smallest effect that counts: a statistic just above it is significant, one just below is not.
    for shift, below in ((1e-6, True), (-1e-6, False)):
        moved = {n: s.copy() for n, s in draws.items()}
        moved["b"][0] = found["b"].smallest + shift
        assert (
            np.sum(
                np.max([(s[1:] - draws[n].mean()) / draws[n].std() for n, s in draws.items()], 0)
                >= (moved["b"][0] - draws["b"].mean()) / draws["b"].std()
            )
            + 1
            <= 50
        ) == below


def test_a_planted_cue_is_found_and_ties_count_against_a_row():
    rows, y, group = clean_table(11, several=False)
    rows["planted"] = np.eye(3)[y] + 0.2 * rows["b"][:, :3]
    rows["constant"] = np.ones((len(y), 1))
    found, _ = permutation_test(rows, y, group)
    assert found["planted"].adjusted == 1 / 1000
    assert found["planted"].statistic > 0.9
    assert found["constant"].p == found["constant"].adjusted == 1
    with pytest.raises(ValueError, match="at least 999"):
        permutation_test(rows, y, group, draws=99)


def slow_v(table):
    n, r, c = table.sum(), *table.shape
    chi = sum(
        (table[i, j] - table[i].sum() * table[:, j].sum() / n) ** 2 / (table[i].sum() * table[:, j].sum() / n)
        for i in range(r)
        for j in range(c)
    )
    phi = max(0, chi / n - (r - 1) * (c - 1) / (n - 1))
    return np.sqrt(phi / min(r - (r - 1) ** 2 / (n - 1) - 1, c - (c - 1) ** 2 / (n - 1) - 1))


def test_bergsma_v():
    table = np.array([[10, 3, 1], [2, 9, 4]])
    assert corrected_v(table) == pytest.approx(slow_v(table), abs=1e-12)
    assert corrected_v(np.vstack([table, [0, 0, 0]])) == pytest.approx(slow_v(table), abs=1e-12)
    assert corrected_v(np.diag([20, 20])) == pytest.approx(1, abs=1e-9)
    assert corrected_v(np.full((2, 2), 5)) == corrected_v(np.array([[3, 4]])) == 0


def count_alarms(tables):
    """Clean tables of these seeds on which any row would be called serious."""
    alarms = 0
    for seed in tables:
        rows, y, group = clean_table(seed, several=seed % 2 == 1)
        found, _ = permutation_test(rows, y, group, seed=seed)
        alarms += any(row.adjusted <= 0.05 and row.statistic >= 1 / 3 + 0.10 for row in found.values())
    return alarms


@pytest.mark.slow
def test_two_hundred_clean_tables_raise_few_alarms():
    assert (FOLDS, REPEATS) == (5, 3)
    assert count_alarms(range(TABLES)) <= ALARMS
