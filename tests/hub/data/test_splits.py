"""No split ever divides a group, whatever the sizes and labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbackbones.data.splits import (
    SplitError,
    assert_disjoint,
    group_labels,
    grouped_folds,
    holdout,
)

few = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=2, max_size=60)
many = st.lists(st.tuples(st.integers(0, 150), st.text(max_size=3)), min_size=2, max_size=400)
one_of_each = st.integers(2, 80).map(lambda count: [(number, str(number)) for number in range(count)])
rows = few | many | one_of_each


@given(rows, st.floats(0.05, 0.95), st.integers(0, 5))
def test_a_holdout_never_divides_a_group_and_loses_none(rows, fraction, seed):
    groups, labels = [str(group) for group, _ in rows], [label for _, label in rows]
    kept, held = holdout(groups, labels, fraction, seed)
    assert not kept & held and kept | held == set(groups)
    majority = group_labels(groups, labels)
    for label in set(majority.values()):
        mine = {group for group in majority if majority[group] == label}
        assert mine & kept and abs(len(mine & held) - fraction * len(mine)) <= 1


@given(rows, st.integers(0, 5), st.data())
def test_folds_never_divide_a_group_and_cover_each_row_once(rows, seed, data):
    groups, labels = [str(group) for group, _ in rows], [label for _, label in rows]
    if len(set(groups)) < 2:
        return
    folds = grouped_folds(groups, labels, data.draw(st.integers(2, len(set(groups)))), seed)
    seen = np.concatenate([test for _, test in folds])
    assert sorted(seen) == list(range(len(rows)))
    for train, test in folds:
        assert not {groups[i] for i in train} & {groups[i] for i in test}
        assert len(train) + len(test) == len(rows) and len(test)


def test_labels_are_spread_over_the_folds():
    groups = [f"g{i}" for i in range(20)]
    labels = ["rare"] * 4 + ["common"] * 16
    for _, test in grouped_folds(groups, labels, 4, 0):
        assert sorted(labels[i] for i in test) == ["common"] * 4 + ["rare"]


def test_the_order_of_the_rows_changes_nothing():
    groups, labels = [f"g{i}" for i in range(20)], list("ab" * 10)
    shuffled = np.random.default_rng(0).permutation(20)
    again = holdout([groups[i] for i in shuffled], [labels[i] for i in shuffled], 0.3, 7)
    assert again == holdout(groups, labels, 0.3, 7) != holdout(groups, labels, 0.3, 8)


def test_a_group_counts_under_its_commonest_label():
    assert group_labels(["g", "g", "g", "h", "h"], ["b", "a", "b", "b", "a"]) == {"g": "b", "h": "a"}


def test_what_cannot_be_split_is_refused_with_its_ids():
    with pytest.raises(SplitError, match=r"2 group\(s\).*p1, p2"):
        assert_disjoint(["p1", "p2", "p3"], ["p2", "p1", "q"])
    with pytest.raises(SplitError, match=r"fraction is 1\.5"):
        holdout(["a", "b"], ["x", "x"], 1.5, 0)
    with pytest.raises(SplitError, match="5 folds of 2 groups"):
        grouped_folds(["a", "b"], ["x", "x"], 5, 0)
    with pytest.raises(SplitError, match="2 groups but 1 labels"):
        group_labels(["a", "b"], ["x"])
