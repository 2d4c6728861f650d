"""The score on the validation part against its slow form."""

import math

import numpy as np
import pytest

from usbackbones.data.item import Item
from usbackbones.finetuning.target import ClassTarget


def test_score_is_minus_the_log_loss_of_items_with_classes_of_equal_weight(tmp_path):
    rng = np.random.default_rng(0)
    items = [Item(tmp_path / f"{number}.png", "abb"[number % 3], str(number)) for number in range(8)]
    target = ClassTarget(items, np.arange(8))
    item = rng.integers(0, 8, 40)
    prediction = rng.dirichlet([1.0, 1.0], 40)
    losses: dict[str, list[float]] = {"a": [], "b": []}
    for number in sorted(set(item)):
        frames = [prediction[row] for row in range(40) if item[row] == number]
        mean = sum(frame["ab".index(items[number].label)] for frame in frames) / len(frames)
        losses[items[number].label].append(-math.log(mean))
    slow = -sum(sum(values) / len(values) for values in losses.values()) / 2
    assert target.score(item, prediction) == pytest.approx(slow, rel=1e-12)
    certain_and_wrong = np.array([[0.0, 1.0]])
    assert np.isfinite(target.score(np.array([0]), certain_and_wrong))
