"""A trained head: what the seeds' protocol adds where there is nothing to learn, and that the honest arm is blind."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from training.benchmark.legacy.last_block import Tail, into_last_block, last_block
from training.benchmark.legacy.trained_head import (
    ARMS,
    HONEST,
    LEGACY,
    Training,
    best_epoch,
    epochs_of,
    evaluate_head,
    evaluate_linear_head,
    linear_head,
)
from usbackbones.data.splits import grouped_folds
from usbackbones.features.extract import embed

SHORT = Training(epochs=6, batch=32, folds=3)


@pytest.fixture(scope="module")
def nothing():
    """Features that give every group away and labels that come with nothing: 45 groups of 6 frames."""
    rng = np.random.default_rng(3)
    x = np.repeat(3 * rng.normal(size=(45, 40)), 6, axis=0) + 0.1 * rng.normal(size=(270, 40))
    y = np.repeat(rng.permutation(np.arange(45) % 3), 6)
    return x.astype(np.float32), y, np.repeat([f"g{g}" for g in range(45)], 6)


def test_with_nothing_to_learn_only_the_honest_arm_is_at_chance(nothing):
    found = [evaluate_linear_head(*nothing, 3, SHORT, seed) for seed in range(4)]
    mean = {arm: np.mean([one[arm] for one in found]) for arm in ARMS}
    assert mean[HONEST] == pytest.approx(1 / 3, abs=0.08)
    assert mean[LEGACY] > 0.7  # frames of one patient on both sides
    assert mean[ARMS[2]] > mean[HONEST] + 0.02  # the best of six looks at the test fold
    assert mean[LEGACY] >= mean[ARMS[1]]


def test_the_labels_of_a_test_fold_reach_the_best_epoch_and_not_the_chosen_one():
    """A fold is made of groups of its own; the others' labels stay, so the folds do too."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(120, 10)).astype(np.float32))
    y, fit, test = np.arange(120) % 3, np.arange(90), np.arange(90, 120)
    build = linear_head(10, 3)
    seen = epochs_of(build, x, y, fit, test, SHORT, 0)
    turned = y.copy()
    turned[test] = (turned[test] + 1) % 3
    again = epochs_of(linear_head(10, 3), x, turned, fit, test, SHORT, 0)
    np.testing.assert_array_equal(seen, again)
    assert seen.shape == (6, 30)
    assert {best_epoch(seen, (y[test] + turn) % 3) for turn in range(3)} != {0}
    slow = max(range(6), key=lambda epoch: ((seen[epoch] == y[test]).sum(), -epoch))
    assert best_epoch(seen, y[test]) == slow


def test_the_honest_prediction_of_a_fold_does_not_depend_on_its_labels(nothing, monkeypatch):
    """Labels of one fold are spoilt behind the back of the folds; the best epoch notices, the chosen one cannot."""
    x, y, groups = nothing
    fixed = grouped_folds(groups.tolist(), [str(v) for v in y], 3, 0)
    _, test = fixed[0]
    monkeypatch.setattr("training.benchmark.legacy.trained_head.grouped_folds", lambda *_: fixed)
    turned = y.copy()
    turned[test] = (turned[test] + 1) % 3
    build = lambda: linear_head(40, 3)  # noqa: E731
    told, misled = (evaluate_head(build, torch.from_numpy(x), labels, groups, SHORT) for labels in (y, turned))
    np.testing.assert_array_equal(told[HONEST][test], misled[HONEST][test])
    assert (told[ARMS[2]][test] != misled[ARMS[2]][test]).any()


def test_a_single_frame_left_over_is_no_batch(nothing):
    x, y, _ = nothing
    fit = np.arange(2 * SHORT.batch + 1)
    seen = epochs_of(linear_head(40, 3), torch.from_numpy(x), y, fit, np.arange(9), SHORT, 0)
    assert seen.shape == (6, 9)


def test_what_can_be_learned_is_learned_in_every_arm():
    rng = np.random.default_rng(1)
    y = np.arange(180) % 3
    x = (rng.normal(size=(180, 8)) + 3 * np.eye(8)[y]).astype(np.float32)
    groups = np.array([f"g{row // 6}" for row in range(180)])
    assert min(evaluate_linear_head(x, y, groups, 3, replace(SHORT, lr=0.1)).values()) > 0.9


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
def test_a_tail_goes_on_where_the_network_was_cut(arch, network):
    if arch.startswith("vit"):
        model = timm.create_model(arch, img_size=32, num_classes=0).eval()
        model.pretrained_cfg = model.pretrained_cfg | {"input_size": (3, 32, 32)}
    else:
        model = network
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 40), dtype=np.uint8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tail = Tail(model, 3).eval()
    x = into_last_block(model, frames)
    with torch.inference_mode():
        features = tail.pool(tail.norm(tail.block(x)), pre_logits=True)
    np.testing.assert_allclose(features, embed(model, frames), atol=1e-5)
    seen = epochs_of(Tail(model, 3), x, np.array([0, 1, 2, 0, 1]), np.arange(4), np.array([4]), SHORT, 0)
    assert seen.shape == (6, 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not last_block(model)._forward_pre_hooks


def test_a_network_without_a_known_last_block_is_refused():
    with pytest.raises(ValueError, match="train its head alone"):
        last_block(torch.nn.Linear(2, 2))
