"""Temperature scaling beside its slow form: a search over a fine grid on the logits."""

import numpy as np
import pytest

from usbackbones.metrics.calibration import FEWEST_GROUPS, calibrate, calibration_error, fit_temperature, scaled


def sharpened(temperature, classes=3, rows=400):
    """Logits whose labels follow softmax(logits / temperature), and these labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, classes)) * 3
    p = np.exp(logits / temperature)
    p /= p.sum(1, keepdims=True)
    y = np.array([rng.choice(classes, p=row) for row in p])
    return logits, y


def softmax(logits):
    return np.array([[np.exp(value) / sum(np.exp(other) for other in row) for value in row] for row in logits])


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_it_is_the_best_of_a_grid_on_the_logits(true):
    logits, y = sharpened(true)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 3000))
    losses = [
        -np.mean([np.log(row[label]) for row, label in zip(softmax(logits / t), y, strict=True)]) for t in grid[::10]
    ]
    slow = grid[::10][int(np.argmin(losses))]
    found = fit_temperature(softmax(logits), y)
    assert found == pytest.approx(slow, rel=0.03)
    assert found == pytest.approx(true, rel=0.25)
    np.testing.assert_allclose(scaled(softmax(logits), 1.7), softmax(logits / 1.7), atol=1e-9)


def test_the_error_is_that_of_the_bins_one_by_one():
    logits, y = sharpened(2.0)
    p = softmax(logits)
    slow = 0.0
    for low in range(15):
        rows = [i for i in range(len(y)) if low / 15 < p[i].max() <= (low + 1) / 15]
        if rows:
            accuracy = np.mean([p[i].argmax() == y[i] for i in rows])
            slow += len(rows) / len(y) * abs(accuracy - np.mean([p[i].max() for i in rows]))
    assert calibration_error(p, y) == pytest.approx(slow, abs=1e-12)


def test_it_lowers_the_error_and_leaves_few_groups_alone():
    logits, y = sharpened(2.5)
    found = calibrate(softmax(logits), y, np.arange(len(y)) // 10)
    assert found.applied and found.ece_after < found.ece_before / 2
    few = calibrate(softmax(logits), y, np.arange(len(y)) % (FEWEST_GROUPS - 1))
    assert not few.applied and few.temperature == 1 and "not calibrated: 29" in str(few)


def test_a_temperature_that_does_not_help_held_out_groups_is_not_applied():
    """Probabilities that are right already, and few rows: the fit follows noise, which the other folds show."""
    unhelped = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet((1, 1, 1), 36)
        y = np.array([rng.choice(3, p=row) for row in p])
        found = calibrate(p, y, np.arange(36))
        unhelped += not found.applied
        assert (found.temperature == 1) == (found.ece_after > found.ece_before)
        assert ("would not lower the ECE" in str(found)) == (found.temperature == 1)
        # The slow form: group by group, by the temperature of all that are not of its fold.
        fold = dict(zip(range(36), np.random.default_rng(0).permutation(36) % 5, strict=True))
        rows = []
        for one in range(36):
            others = [other for other in range(36) if fold[other] != fold[one]]
            rows.append(scaled(p[[one]], fit_temperature(p[others], y[others]))[0])
        assert found.ece_after == pytest.approx(calibration_error(np.array(rows), y), abs=1e-12)
    assert 0 < unhelped < 8
