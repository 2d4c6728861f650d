"""No split ever divides a group, whatever the sizes and labels; what leaks is named; a file gives back its split."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbackbones.data.near_duplicates import fingerprint
from usbackbones.data.splits import (
    Split,
    SplitError,
    assert_disjoint,
    check_split,
    group_labels,
    grouped_folds,
    holdout,
    read_split,
    write_split,
)
from usbackbones.phantom.simulator import phantom_clip

few = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=2, max_size=60)
many = st.lists(st.tuples(st.integers(0, 150), st.text(max_size=3)), min_size=2, max_size=400)
one_of_each = st.integers(2, 80).map(lambda count: [(number, str(number)) for number in range(count)])
rows = few | many | one_of_each
names = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=12)


@given(rows, st.floats(0.05, 0.95), st.integers(0, 5))
def test_a_holdout_never_divides_a_group_and_loses_none(rows, fraction, seed):
    groups, labels = [str(group) for group, _ in rows], [label for _, label in rows]
    kept, held = holdout(groups, labels, fraction, seed)
    assert not kept & held and kept | held == set(groups)
    side = {group: number for number, part in enumerate((kept, held)) for group in part}
    parts = [[row for row, group in enumerate(groups) if side[group] == number] for number in (0, 1)]
    check_split({"kept": parts[0], "held": parts[1]}, groups)
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
        check_split({"train": train.tolist(), "test": test.tolist()}, groups)
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


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.data())
def test_a_divided_group_is_always_named(numbers, data):
    groups = [f"<{number}>" for number in numbers]
    train = data.draw(st.sets(st.integers(0, len(groups) - 1)))
    test = set(range(len(groups))) - train
    divided = sorted({groups[i] for i in train} & {groups[i] for i in test})
    parts = {"train": sorted(train), "test": sorted(test)}
    if not divided:
        check_split(parts, groups)
        return
    with pytest.raises(SplitError, match=rf"leaks {len(divided)} group\(s\)") as refusal:
        check_split(parts, groups)
    assert all(group in str(refusal.value) for group in divided[:5])


def test_patients_clips_and_near_duplicates_that_cross_are_named():
    frames = [phantom_clip(patient, frames=2, size=96) for patient in range(3)]
    prints = [fingerprint(clip) for clip in (frames[0], frames[1], frames[2], frames[1][:1, 3:, ::-1].copy())]
    groups, clips = ["p0", "p1", "p2", "p3"], ["c0", "c1", "c2", "c3"]
    check_split({"train": [0, 1, 3], "test": [2]}, groups, clips, prints)
    with pytest.raises(SplitError, match=r"train, test leaks 1 near-duplicate\(s\): c1 = c3 \(\d+ bits apart\)"):
        check_split({"train": [0, 1], "test": [2, 3]}, groups, clips, prints)
    with pytest.raises(SplitError, match=r"1 clip\(s\): c1; 1 near"):
        check_split({"train": [0, 1], "test": [3]}, groups, ["c0", "c1", "c2", "c1"], prints)
    with pytest.raises(SplitError, match=r"1 group\(s\): p0\."):
        check_split({"a": [0], "b": [1], "c": [2]}, ["p0", "p1", "p0"])
    check_split({"train": [], "test": []}, [], [], [])


@given(
    st.text(min_size=1, max_size=9), st.integers(0, 2**40), st.none() | st.floats(0.01, 0.99), names, st.integers(2, 5)
)
def test_a_file_gives_back_its_split(tmp_path_factory, dataset, seed, fraction, groups, count):
    parts = {f"part {number}": sorted(groups[number::count]) for number in range(count)}
    split = Split(dataset, seed, parts, fraction)
    file = tmp_path_factory.mktemp("split") / "split.json"
    write_split(split, file)
    assert read_split(file) == split
    before = file.read_bytes()
    write_split(Split(dataset, seed, {name: part[::-1] for name, part in parts.items()}, fraction), file)
    assert file.read_bytes() == before and [path.name for path in file.parent.iterdir()] == ["split.json"]


GOOD = {"dataset": "d", "seed": 0, "fraction": 0.25, "test": ["a"], "pretrain": ["b", "c"]}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"test": ["a", "b"]}, r"1 group\(s\) stand on both sides of the split: b"),
        ({"test": ["a", "a"]}, r"'test' names 1 group\(s\) twice: a"),
        ({"test": "abc"}, "part 'test' is abc: give a list"),
        ({"test": [1]}, r"part 'test' is \[1\]: give a list of group names"),
        ({"seed": "0"}, "seed is '0'"),
        ({"seed": None}, "seed is None"),
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"dataset": ""}, "dataset is ''"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, change, complaint):
    file = tmp_path / "split.json"
    file.write_text(json.dumps(GOOD | change))
    with pytest.raises(SplitError, match=complaint) as refusal:
        read_split(file)
    assert str(file) in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b'{"dataset": "d", "seed": 0, "test": ["a"]}'])
def test_what_is_no_split_is_refused(tmp_path, content):
    file = tmp_path / "split.json"
    file.write_bytes(content)
    with pytest.raises(SplitError, match="is no split"):
        read_split(file)
    with pytest.raises(SplitError, match="is no split"):
        read_split(tmp_path / "missing.json")


def test_a_part_cannot_take_a_name_of_the_file(tmp_path):
    with pytest.raises(SplitError, match="may not be called 'seed'"):
        Split("d", 0, {"seed": ["a"], "test": ["b"]})
