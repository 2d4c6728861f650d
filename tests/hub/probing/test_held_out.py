"""The core of every evaluation: held-out rows by the slow form, labels that are not read, numbers that stay."""

import numpy as np
import pytest

from usbackbones.metrics.levels import difference, measure, numbers, scores
from usbackbones.probing.few_shot import few_shot_predict
from usbackbones.probing.held_out import Rows, predict_held_out
from usbackbones.probing.probes import knn_predict, linear_predict, ridge_predict

PARTS = [(np.arange(40, 120), np.arange(40)), (np.arange(80), np.arange(119, 79, -1))]
"""Rows 40 to 79 are never held out, and the second part is predicted backwards."""
GOLDEN = {
    ("clip", "balanced_accuracy"): (0.8666666666666667, 0.6666666666666666, 1.0),
    ("clip", "macro_f1"): (0.8493265993265994, 0.601102917550286, 1.0),
    ("clip", "auroc"): (0.9157407407407407, 0.8124558080808081, 1.0),
    ("clip", "ece"): (0.3702488456659584, 0.26552873838278446, 0.4825353512431407),
}


@pytest.fixture(scope="module")
def known():
    """120 rows of 30 groups, 40 clips and 3 classes; the first features tell a little of the class."""
    rng = np.random.default_rng(5)
    label = np.repeat(np.arange(40) % 3, 3)
    x = rng.normal(size=(120, 6)).astype(np.float32)
    x[np.arange(120), label] += 1
    clip = np.repeat([f"c{n:02d}" for n in range(40)], 3)
    group = np.repeat([f"g{n % 30:02d}" for n in range(40)], 3)
    return x, Rows(label, clip, group, ("a", "b", "c"))


def test_every_probe_is_fitted_and_read_by_the_slow_form(known):
    x, rows = known
    found = predict_held_out(x, rows, PARTS, None, ("2",), 2, 7)
    assert set(found.members) == {(p, s, n) for p in ("knn", "linear") for s, n in (("", 0), ("2", 0), ("2", 1))}
    assert len(found.penalties) == 2
    for fit, held in PARTS:
        given = x[fit], rows.label[fit], rows.group[fit]
        np.testing.assert_array_equal(found.members["knn", "", 0][held], knn_predict(x[fit], given[1], x[held]))
        line, _ = linear_predict(*given, x[held], rows.clip[fit], classes=3)
        np.testing.assert_array_equal(found.members["linear", "", 0][held], line)
        for shots, draw, near, few in few_shot_predict(*given, x[held], rows.clip[fit], ("2",), 2, 3, 7):
            np.testing.assert_array_equal(found.members["knn", shots, draw][held], near)
            np.testing.assert_array_equal(found.members["linear", shots, draw][held], few)
    assert all(np.isnan(member[40:80]).all() for member in found.members.values())


def test_numbers_are_predicted_by_ridge_alone_and_other_features_can_be_held_out(known):
    x, rows = known
    number = Rows(rows.label * 10.0, rows.clip, rows.group)
    found = predict_held_out(x, number, [(np.arange(120), np.arange(5))], x[:5] + 1)
    wanted, penalty = ridge_predict(x, number.label, number.group, x[:5] + 1, number.clip)
    assert list(found.members) == [("ridge", "", 0)] and found.penalties == [penalty]
    np.testing.assert_array_equal(found.members["ridge", "", 0], wanted)


def test_labels_of_held_out_rows_are_not_read(known):
    x, rows = known
    parts = PARTS[:1]
    label = rows.label.copy()
    label[:40] = (label[:40] + 1) % 3
    one, other = (
        predict_held_out(x, Rows(y, rows.clip, rows.group, rows.classes), parts, None, ("1",)).members
        for y in (rows.label, label)
    )
    for key, member in one.items():
        np.testing.assert_array_equal(member, other[key])


def test_the_numbers_stay(known):
    """Golden numbers, made before the evaluation of `probe` and of the leaderboard became one."""
    x, rows = known
    predicted = predict_held_out(x, rows, PARTS).members["knn", "", 0][:40]
    of = rows.label[:40], [predicted], rows.clip[:40], rows.group[:40]
    measured = measure(*of, ("clip",), 200, seed=3)
    told = numbers(measured)
    assert {(level, metric) for level in told for metric in told[level]} == set(GOLDEN)
    for (level, metric), wanted in GOLDEN.items():
        np.testing.assert_allclose([told[level][metric][key] for key in ("value", "low", "high")], wanted, rtol=1e-9)


def test_a_difference_is_paired_and_a_mean_over_members_is_resampled_as_one(known):
    x, rows = known
    held = slice(0, 40)
    members = predict_held_out(x, rows, PARTS).members
    near, line = members["knn", "", 0][held], members["linear", "", 0][held]
    of = rows.clip[held], rows.group[held]
    one, other, both = (
        measure(rows.label[held], given, *of, ("clip",), 100) for given in ([near], [line], [near, line])
    )
    apart = difference(one, other)["clip"]["auroc"]
    each = [scores(rows.label[held], p, *of)["clip"]["auroc"] for p in (near, line)]
    assert apart["value"] == each[0] - each[1] and both["clip"]["auroc"].members == each
    samples = one["clip"]["auroc"].samples - other["clip"]["auroc"].samples
    np.testing.assert_allclose([apart["low"], apart["high"]], np.nanquantile(samples, [0.025, 0.975]))
    mean = (one["clip"]["auroc"].samples + other["clip"]["auroc"].samples) / 2
    np.testing.assert_allclose(both["clip"]["auroc"].samples, mean)
