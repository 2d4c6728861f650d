"""The rule that keeps the linear probe, against slow forms, and in a run."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest

from tests.hub.finetuning.test_finetune import QUICK, backbones, data, run  # noqa: F401
from usbackbones.data.item import Item
from usbackbones.finetuning.gain import Gain, fewest_groups, gain
from usbackbones.finetuning.target import ClassTarget, NumberTarget


def test_of_groups_of_one_it_is_the_paired_mean_and_its_standard_error():
    rng = np.random.default_rng(0)
    before, after = rng.random(9), rng.random(9)
    found = gain(before, after, np.full(9, 1 / 9), np.arange(9))
    differences = list(before - after)
    assert found.value == pytest.approx(statistics.mean(differences), rel=1e-12)
    assert found.error == pytest.approx(statistics.stdev(differences) / math.sqrt(9), rel=1e-12)


def test_items_of_a_group_count_together():
    """Slow form: sums of the groups; their variance times their number is that of the total."""
    before, after = np.array([1.0, 2.0, 0.5, 3.0, 0.1]), np.array([0.5, 2.5, 0.25, 1.0, 0.2])
    share, group = np.array([0.1, 0.2, 0.3, 0.15, 0.25]), np.array(["b", "a", "b", "c", "a"])
    sums = {name: 0.0 for name in "abc"}
    for one, other, weight, name in zip(before, after, share, group, strict=True):
        sums[name] += weight * (one - other)
    found = gain(before, after, share, group)
    assert found.value == pytest.approx(sum(sums.values()), rel=1e-12)
    assert found.error == pytest.approx(math.sqrt(3 * statistics.variance(sums.values())), rel=1e-12)
    assert found.exceeds(0.99 * found.value / found.error) and not found.exceeds(1.01 * found.value / found.error)


def test_one_group_is_no_evidence_and_equal_losses_are_no_gain():
    same = np.array([0.5, 0.25])
    assert not gain(same, same - 0.2, np.array([0.5, 0.5]), np.array(["a", "a"])).exceeds(1)
    assert not gain(same, same, np.array([0.5, 0.5]), np.array(["a", "b"])).exceeds(1)


@pytest.mark.parametrize("kind", [ClassTarget, NumberTarget])
def test_losses_of_items_make_the_score(kind, tmp_path):
    labels = ["0", "1", "1", "2", "0", "1"]
    items = [Item(tmp_path / f"{number}.png", label, str(number)) for number, label in enumerate(labels)]
    target, rng = kind(items, np.arange(6)), np.random.default_rng(1)
    frame = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5])
    prediction = rng.dirichlet(np.ones(3), 9) if kind is ClassTarget else rng.random((9, 1))
    item, loss, share = target.losses(frame, prediction)
    assert list(item) == [0, 1, 2, 3, 4, 5] and sum(share) == pytest.approx(1)
    mean = np.array([prediction[frame == number].mean(0) for number in range(6)])
    if kind is ClassTarget:
        slow = [-math.log(mean[number, int(label)]) for number, label in enumerate(labels)]
        by_class = [np.mean([slow[i] for i in range(6) if labels[i] == label]) for label in "012"]
        assert target.score(frame, prediction) == pytest.approx(-np.mean(by_class), rel=1e-12)
    else:
        truth = np.array(labels, float)
        slow = list(((mean[:, 0] - truth) / truth.std()) ** 2)
        assert target.score(frame, prediction) == pytest.approx(1 - np.mean(slow), rel=1e-12)
    assert list(loss) == pytest.approx(slow, rel=1e-12)


def test_a_class_of_few_groups_decides_nothing(tmp_path):
    groups = {"a": "112345", "b": "6789", "c": "66789"}
    items = [Item(tmp_path / f"{label}{n}.png", label, g) for label, of in groups.items() for n, g in enumerate(of)]
    assert fewest_groups(items, by_class=True) == 4 and fewest_groups(items, by_class=False) == 9
    assert fewest_groups(items[:6], by_class=True) == 5


def test_with_few_groups_the_probe_is_kept_and_a_line_says_so_before_the_work(run, tmp_path):  # noqa: F811
    done = run(tmp_path / "few", replace(QUICK, start="probe", margin=1e-9))
    assert done.probe_kept and done.metrics == done.frozen
    (line,) = [line for line in done.notes if "is kept" in line]
    assert "of a class, and 5 are asked for to tell whether fine-tuning is better; more patients" in line


def test_a_run_that_cannot_beat_the_margin_keeps_its_probe(run, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("usbackbones.finetuning.tuner.ENOUGH_GROUPS", 1)
    spec = replace(QUICK, start="probe", margin=1e6)
    kept, tuned = run(tmp_path / "kept", spec), run(tmp_path / "tuned", replace(spec, margin=0))
    assert kept.metrics == kept.frozen == tuned.frozen
    assert any(line.startswith("the linear probe is kept: fine-tuning lowers") for line in kept.notes)
    assert not any("is kept" in line for line in tuned.notes)
    assert kept.probe_kept and not tuned.probe_kept
    page = (tmp_path / "kept" / "report.html").read_text(encoding="utf-8")
    assert "clip, frozen probe" in page and "fine-tuned" not in page and "the linear probe" in page
    assert "clip, fine-tuned" in (tmp_path / "tuned" / "report.html").read_text(encoding="utf-8")


def test_a_gain_is_told_in_digits_that_count():
    assert str(Gain(0.00123, 0.00009)) == "0.0012 with a standard error over groups of 9e-05"
