"""The wall between the locked part and every choice, and how a row comes about."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training.benchmark.conftest import QUICK
from training.benchmark.models import random_networks
from training.benchmark.protocol import Protocol, compare, compare_few, evaluate_backbone, predict
from training.benchmark.task import Measure
from usbackbones.features.extract import embed
from usbackbones.metrics.classification import METRICS
from usbackbones.metrics.levels import scores
from usbackbones.probing.few_shot import few_shot_predict
from usbackbones.probing.probes import knn_predict, linear_predict

TEST = Protocol(part="test", resamples=50, shots=("1", "2"), draws=2)


def relabelled(task, part, label):
    """The task with other labels on the clips of one part; the files stay what they are."""
    rows = getattr(task, part)
    return replace(task, **{part: tuple(replace(row, label=label(n, row)) for n, row in enumerate(rows))})


@pytest.fixture(scope="module")
def found(task, network):
    return predict([network], task, TEST)


# The wall


def test_the_locked_part_is_predicted_from_the_pretraining_part(task, network, found):
    known = task.pretrain
    x, new = embed(network, known.frames), embed(network, task.test.frames)
    linear, penalty = linear_predict(x, known.label, known.group, new, known.clip)
    np.testing.assert_allclose(found.probe["linear"][0], linear, atol=1e-9)
    np.testing.assert_allclose(found.probe["knn"][0], knn_predict(x, known.label, new), atol=1e-9)
    assert found.penalties == [penalty]
    unweighted = linear_predict(x, known.label, known.group, new)[0]
    assert np.abs(unweighted - linear).max() > 1e-3  # one clip is longer than the others


def test_other_test_labels_change_no_prediction(task, network, found):
    turned = relabelled(task, "test_rows", lambda n, row: task.classes[(task.classes.index(row.label) + 1) % 3])
    assert not (turned.test.label == task.test.label).any()
    again = predict([network], turned, TEST)
    assert again.penalties == found.penalties
    for probe in ("knn", "linear"):
        np.testing.assert_array_equal(again.probe[probe], found.probe[probe])
        for shot in TEST.shots:
            np.testing.assert_array_equal(again.few[shot][probe], found.few[shot][probe])
    ours, theirs = (compare(again, t, TEST)["linear"]["clip"]["balanced_accuracy"]["value"] for t in (task, turned))
    assert ours != theirs


def test_test_frames_reach_no_choice_and_not_each_other(task, network, found):
    """With one of its clips exchanged, the others get the same predictions by a probe of the same penalty."""
    more = replace(task, test_rows=(*task.test_rows[1:], replace(task.test_rows[1], group="another", clip="another")))
    changed = predict([network], more, TEST)
    assert found.penalties == changed.penalties
    kept = task.test.clip != task.test_rows[0].clip
    for probe in ("knn", "linear"):
        np.testing.assert_allclose(found.probe[probe][0][kept], changed.probe[probe][0][: kept.sum()], atol=1e-4)


def test_shuffled_labels_are_not_learned(task, network, tmp_path):
    """Stripes give the class away; labels drawn for the clips do not come with them. Few-shot probes included."""
    rng = np.random.default_rng(0)
    clean = replace(task, rows=tuple(row for row in task.rows if row.group != task.rows[0].group))
    protocol = Protocol(folds=2, repeats=1, resamples=2, shots=("2",), draws=1)

    def clip_accuracy(of):
        predictions = predict([network], of, protocol, tmp_path)
        probes, few = compare(predictions, of, protocol), compare_few(predictions, of, protocol)
        return [
            value
            for probe in ("knn", "linear")
            for value in (probes[probe]["clip"]["balanced_accuracy"]["value"], few[probe]["2"]["value"])
        ]

    values = []
    for _ in range(4):
        labels = rng.permutation([row.label for row in clean.rows])
        values.append(clip_accuracy(relabelled(clean, "rows", lambda n, _, drawn=labels: str(drawn[n]))))
    assert (np.mean(values, axis=0) < 0.55).all()
    assert min(clip_accuracy(clean)) > 0.75


# The rows


def test_a_row_is_the_mean_of_its_members_and_paired_with_the_reference(task, network):
    protocol = Protocol(**QUICK)
    others = random_networks("resnet18", 3, input_size=(3, 32, 32))[1:]
    reference = predict(others, task, protocol)
    assert len(reference.probe["knn"]) == 2 * protocol.repeats
    assert len(reference.penalties) == 2 * protocol.repeats * protocol.folds
    row = evaluate_backbone(network, task, reference=reference, **QUICK)
    null = compare(reference, task, protocol)
    for probe in ("knn", "linear"):
        for level in ("frame", "clip"):
            for metric in METRICS:
                mine, other = row[probe][level][metric], null[probe][level][metric]
                assert mine["value"] == pytest.approx(np.mean(mine["members"]))
                assert mine["low"] <= mine["high"] and "difference" not in other
                assert mine["difference"]["value"] == pytest.approx(mine["value"] - other["value"])
    same = compare(reference, task, protocol, difference=reference)["linear"]["clip"]["auroc"]["difference"]
    assert same == {"value": 0, "low": 0, "high": 0}
    assert row == evaluate_backbone([network], task, reference=reference, **QUICK)


def test_few_shot_members_are_the_draws(task, network, found):
    known = task.pretrain
    x, new = embed(network, known.frames), embed(network, task.test.frames)
    slow = list(few_shot_predict(x, known.label, known.group, new, known.clip, TEST.shots, 2, 3))
    table = compare_few(found, task, TEST)
    for shot in TEST.shots:
        members = [line for name, _, _, line in slow if name == shot]
        np.testing.assert_allclose(found.few[shot]["linear"], members, atol=1e-9)
        values = [
            scores(task.test.label, p, task.test.clip, task.test.group)["clip"]["balanced_accuracy"] for p in members
        ]
        assert table["linear"][shot] == {"value": np.mean(values), "sd": np.std(values), "members": values}


def test_what_is_measured_is_predicted_from_the_pretraining_part_alone(task, network):
    """Thickness of stripes, say: here a number that goes with the class, in pixels that differ in size."""
    measures = {
        row.clip: Measure(10.0 * task.classes.index(row.label), 0.1 + 0.1 * (n % 2))
        for n, row in enumerate((*task.rows, *task.test_rows))
    }
    number = replace(task, kind="number", classes=(), measures=measures)
    protocol = Protocol(part="test", resamples=50)
    predictions = predict([network], number, protocol)
    row = compare(predictions, number, protocol)["ridge"]["frame"]
    truth = number.test.label * number.test.unit
    slow = np.abs(predictions.probe["ridge"][0] * number.test.unit - truth).mean()
    assert row["mae"]["value"] == pytest.approx(slow) and row["mae"]["low"] <= slow <= row["mae"]["high"]
    constant = np.abs(number.pretrain.label.mean() * number.test.unit - truth).mean()
    assert slow < 0.6 * constant and 0 < row["r2"]["value"] < 1
    turned = {clip: measure._replace(value=-measure.value) for clip, measure in measures.items()}
    known = {row.clip: measures[row.clip] for row in task.rows}
    np.testing.assert_array_equal(
        predict([network], replace(number, measures=turned | known), protocol).probe["ridge"],
        predictions.probe["ridge"],
    )
    with pytest.raises(ValueError, match="nothing was measured on"):
        replace(number, measures={})
