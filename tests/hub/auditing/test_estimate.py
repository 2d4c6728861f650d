"""Out-of-fold scores and their intervals against a slow form."""

import numpy as np
import pytest

from usbackbones.auditing.estimate import Target, estimate, folds_of, predictions


@pytest.fixture(scope="module")
def clips():
    generator = np.random.default_rng(0)
    number = np.repeat(np.arange(30), generator.integers(1, 4, 30))
    y = generator.integers(0, 2, 30)[number]
    x = y[:, None] + generator.normal(size=(len(y), 3))
    return x, y, np.array([f"{n:02}" for n in number])


def test_no_group_is_divided_and_scores_are_of_held_out_rows(clips):
    x, y, group = clips
    target = Target(y, ("a", "b"))
    folds = folds_of(target, group)
    assert all(sorted(np.concatenate(parts).tolist()) == list(range(len(y))) for parts in folds)
    assert all(not set(group[held]) & set(np.delete(group, held)) for parts in folds for held in parts)
    predicted = predictions(x, target, folds)
    found, samples = estimate(predicted, target, folds, group)
    slow = np.mean([np.mean([(row[y == c] == c).mean() for c in (0, 1)]) for row in predicted])
    assert found.value == pytest.approx(slow, abs=1e-12)
    assert 0.6 < found.low < found.value < found.high
    # A resample by hand: the groups that numpy draws first.
    times = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), 1000)[0][group.astype(int)]
    by_hand = np.mean(
        [np.mean([(times * (row == c))[y == c].sum() / times[y == c].sum() for c in (0, 1)]) for row in predicted]
    )
    assert samples[0] == pytest.approx(by_hand, abs=1e-12)


def test_what_a_row_that_knows_nothing_scores(clips):
    _, y, group = clips
    target = Target(y, ("a", "b"))
    folds = folds_of(target, group)
    found, _ = estimate(predictions(np.zeros((len(y), 1)), target, folds), target, folds, group)
    assert found.value <= 0.5 == target.chance


def test_numbers_by_r2_and_mean_absolute_error(clips):
    x, _, group = clips
    target = Target(x @ [1.0, 2.0, 3.0] + 10)
    folds = folds_of(target, group)
    predicted = predictions(x, target, folds)
    found, _ = estimate(predicted, target, folds, group)
    levels = np.array([[np.delete(target.y, held).mean() for held in parts for _ in held] for parts in folds])
    truth = np.array([[target.y[n] for held in parts for n in held] for parts in folds])
    told = np.array([[row[n] for held in parts for n in held] for row, parts in zip(predicted, folds, strict=True)])
    slow = np.mean(1 - np.square(truth - told).sum(1) / np.square(truth - levels).sum(1))
    assert found.value == pytest.approx(slow, abs=1e-12)
    assert found.error == pytest.approx(np.abs(truth - told).mean(), abs=1e-12)
    assert found.level == pytest.approx(np.abs(truth - levels).mean(), abs=1e-12)
    assert found.value > 0.95
    assert found.error < 0.2 * found.level


def test_a_single_class_to_fit_on_is_called():
    target = Target(np.array([0, 0, 1]), ("a", "b"))
    assert (predictions(np.zeros((3, 1)), target, [[np.array([2])]])[0, 2]) == 0
