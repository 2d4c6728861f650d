"""Scores and intervals, each against its slow and obvious form, scikit-learn's or torchmetrics'."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from usbackbones.metrics.classification import BINS, METRICS
from usbackbones.metrics.levels import bootstrap, by_clip, by_level, scores
from usbackbones.metrics.resampling import interval


@pytest.fixture
def predicted(clustered):
    """True classes, probabilities with ties, clips and groups."""
    x, y, clip, group = clustered
    p = np.exp(x[:, :3].round(1))
    return y, p / p.sum(1, keepdims=True), clip, group


def calibration_error(y, p):
    """Bin after bin, as it is defined."""
    confidence, hit = p.max(1), p.argmax(1) == y
    total = 0.0
    for number in range(BINS):
        inside = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return total


def by_scikit_learn(y, p):
    return {
        "ece": calibration_error(y, p),
        "balanced_accuracy": balanced_accuracy_score(y, p.argmax(1)),
        "macro_f1": f1_score(y, p.argmax(1), average="macro"),
        "auroc": np.mean([roc_auc_score(y == c, p[:, c]) for c in range(p.shape[1])]),
    }


def test_scores_agree_with_scikit_learn(predicted):
    y, p, clip, group = predicted
    found = scores(y, p, clip, group)
    assert found["frame"] == pytest.approx(by_scikit_learn(y, p), abs=1e-12)
    for level, unit in (("clip", clip), ("patient", group)):
        names = sorted(set(unit))
        truth = np.array([y[unit == name][0] for name in names])
        pooled = np.array([p[unit == name].mean(0) for name in names])
        assert found[level] == pytest.approx(by_scikit_learn(truth, pooled), abs=1e-12)
    assert found["frame"] != found["clip"] != found["patient"]


def test_scores_agree_with_torchmetrics(predicted):
    classification = pytest.importorskip(
        "torchmetrics.functional.classification", reason="torchmetrics is not installed"
    )
    y, p, clip, group = predicted
    truth, probability, arguments = torch.from_numpy(y), torch.from_numpy(p), {"num_classes": 3, "average": "macro"}
    found = scores(y, p, clip, group)["frame"]
    expected = {
        "balanced_accuracy": classification.multiclass_accuracy(probability, truth, **arguments),
        "macro_f1": classification.multiclass_f1_score(probability, truth, **arguments),
        "auroc": classification.multiclass_auroc(probability, truth, **arguments),
        "ece": classification.multiclass_calibration_error(probability, truth, num_classes=3, n_bins=BINS),
    }
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-6)


def test_a_patient_with_clips_of_two_labels_counts_for_both():
    y, groups = np.array([0, 0, 1, 1]), np.array(["a", "a", "a", "b"])
    p = np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5], [0.1, 0.9]])
    truth, pooled, group = by_level(y, p, list("stuv"), groups)["patient"]
    assert truth.tolist() == [0, 1, 1] and group.tolist() == ["a", "a", "b"]
    np.testing.assert_allclose(pooled, [[0.7, 0.3], [0.5, 0.5], [0.1, 0.9]])


def test_bootstrap_is_its_slow_form(predicted):
    y, p, _, group = predicted
    names = sorted(set(group))
    draws = np.random.default_rng(5).multinomial(len(names), [1 / len(names)] * len(names), 20)
    found = bootstrap(y, [p, p[:, ::-1]], group, resamples=20, seed=5)
    for r, times in enumerate(draws):
        rows = np.concatenate([np.tile(np.flatnonzero(group == g), n) for g, n in zip(names, times, strict=True)])
        rows = rows.astype(int)
        slow = [by_scikit_learn(y[rows], q[rows]) for q in (p, p[:, ::-1])]
        for metric in METRICS:
            assert found[metric][r] == pytest.approx(np.mean([s[metric] for s in slow]), abs=1e-10)


def test_a_class_that_a_resample_lacks_is_left_out():
    y, group = np.array([0, 0, 1, 2]), ["a", "b", "c", "d"]
    p = np.eye(3)[[0, 1, 1, 0]]  # recalls 1/2, 1 and 0
    draws = np.random.default_rng(0).multinomial(4, [0.25] * 4, 200)
    found = bootstrap(y, [p], group, resamples=200, seed=0)
    lacking = 0
    for r, (a, b, c, d) in enumerate(draws):
        recalls = [a / (a + b)] if a + b else []
        recalls += [1.0] * bool(c) + [0.0] * bool(d)
        assert found["balanced_accuracy"][r] == pytest.approx(np.mean(recalls))
        lacking += len(recalls) == 1
        assert np.isnan(found["auroc"][r]) == (len(recalls) == 1)
    assert lacking  # such resamples were among them
    assert np.isfinite(interval(found["auroc"])).all()


def test_intervals_cover_at_their_nominal_rate():
    """Groups of differing difficulty; the truth is the balanced accuracy over infinitely many groups, 0.7."""
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        skill = rng.beta(3.5, 1.5, size=60)  # mean 0.7: the chance that a frame of the group is predicted right
        group = np.repeat(np.arange(60), rng.integers(3, 9, size=60))
        y = group % 2
        right = rng.random(len(group)) < skill[group]
        p = np.eye(2)[np.where(right, y, 1 - y)]
        low, high = interval(bootstrap(y, [p], group, resamples=300, seed=trial)["balanced_accuracy"])
        covered += low <= 0.7 <= high
    assert 0.91 <= covered / 300 <= 0.98  # 0.95 give or take three standard errors


def test_the_difference_of_two_models_is_paired(predicted):
    y, p, _, group = predicted
    worse = np.where((np.arange(len(y)) % 10 == 0)[:, None], p[:, ::-1], p)
    one, two, again = (bootstrap(y, [q], group, seed=1) for q in (p, worse, p))
    metric = "balanced_accuracy"
    assert not (one[metric] - again[metric]).any()
    low, high = interval(one[metric] - two[metric])
    alone = interval(one[metric])
    assert high - low < alone[1] - alone[0]  # resampling apart would make it wider than either
    assert low <= one[metric].mean() - two[metric].mean() <= high
    assert bootstrap(y, [p], group, seed=2)[metric][0] != one[metric][0]


def test_members_are_averaged_inside_a_resample(predicted):
    y, p, _, group = predicted
    both = bootstrap(y, [p, p[:, [1, 0, 2]]], group, resamples=50)
    apart = [bootstrap(y, [q], group, resamples=50) for q in (p, p[:, [1, 0, 2]])]
    for metric in METRICS:
        np.testing.assert_allclose(both[metric], (apart[0][metric] + apart[1][metric]) / 2)


def test_clips_keep_label_and_group(predicted):
    y, p, clip, group = predicted
    truth, pooled, groups = by_clip(y, p, clip, group)
    for row, name in enumerate(sorted(set(clip))):
        assert (truth[row], groups[row]) == (y[clip == name][0], group[clip == name][0])
        np.testing.assert_allclose(pooled[row], p[clip == name].mean(0))
