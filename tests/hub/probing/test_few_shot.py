"""Few labelled groups: which rows they are, and that a draw is fair, whole and repeatable."""

import numpy as np
import pytest

from usbackbones.probing.few_shot import SHOTS, few_shot_predict, labeled_rows
from usbackbones.probing.probes import knn_predict, linear_predict


@pytest.mark.parametrize(("shots", "expected"), [("1", 1), ("5", 5), ("10", 10), ("1%", 1), ("10%", 2), ("100%", 20)])
def test_whole_groups_of_each_class(clustered, shots, expected):
    """Twenty groups of each of three classes."""
    _, y, _, group = clustered
    rows = labeled_rows(y, group, shots, seed=3)
    for label in range(3):
        assert len(set(group[rows][y[rows] == label])) == expected
    assert sorted(rows) == rows.tolist() == np.flatnonzero(np.isin(group, group[rows])).tolist()


def test_a_draw_depends_on_the_seed_and_not_on_the_order(clustered):
    _, y, _, group = clustered
    order = np.random.default_rng(0).permutation(len(y))
    first = set(group[labeled_rows(y, group, "5", 1)])
    assert first == set(group[order][labeled_rows(y[order], group[order], "5", 1)])
    assert first != set(group[labeled_rows(y, group, "5", 2)])


def test_a_class_of_few_groups_gives_all():
    y, group = np.array([0, 0, 1]), ["a", "b", "c"]
    assert labeled_rows(y, group, "5", 0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("shots", ["0", "-1", "many", "101%", "%", ""])
def test_other_shots_are_refused(shots):
    with pytest.raises(ValueError, match="as 5, or a percentage"):
        labeled_rows(np.array([0, 1]), ["a", "b"], shots, 0)


def test_predictions_are_the_probes_on_those_rows(clustered):
    x, y, clip, group = clustered
    test = x[:7]
    found = list(few_shot_predict(x, y, group, test, clip, repeats=2))
    assert [(shot, repeat) for shot, repeat, *_ in found] == [
        (shot, repeat) for shot in SHOTS for repeat in range(1 if shot == "100%" else 2)
    ]
    for shot, repeat, near, line in found:
        rows = labeled_rows(y, group, shot, repeat)
        np.testing.assert_array_equal(near, knn_predict(x[rows], y[rows], test, classes=3))
        np.testing.assert_array_equal(
            line, linear_predict(x[rows], y[rows], group[rows], test, clip[rows], classes=3)[0]
        )


@pytest.mark.parametrize("shots", ["1", "5", "10", "10%", "100%"])
def test_shuffled_labels_fall_to_chance(shots):
    """Features that give every group away say nothing of new groups, whose labels are drawn."""
    rng = np.random.default_rng(4)
    group = np.repeat([f"g{g}" for g in range(120)], 4)
    x = np.repeat(3 * rng.normal(size=(120, 30)), 4, axis=0) + 0.1 * rng.normal(size=(480, 30))
    hits = []
    for _ in range(3):
        y = np.repeat(rng.permutation(np.arange(120) % 3), 4)
        fit, held = (np.isin(group, [f"g{g}" for g in side]) for side in (range(60), range(60, 120)))
        for _, _, *told in few_shot_predict(x[fit], y[fit], group[fit], x[held], shots=[shots], repeats=2, classes=3):
            hits.append([np.mean([(p.argmax(1) == y[held])[y[held] == c].mean() for c in range(3)]) for p in told])
    assert np.mean(hits, axis=0) == pytest.approx([1 / 3, 1 / 3], abs=0.1)
