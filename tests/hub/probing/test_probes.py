"""Embedding and probes, each against its slow and obvious form."""

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.conftest import python
from usbackbones.data.splits import grouped_folds
from usbackbones.features.extract import embed
from usbackbones.features.transforms import transforms
from usbackbones.metrics.levels import scores
from usbackbones.probing.probes import PENALTIES, UNCHOSEN, _logits, balanced_weights, knn_predict, linear_predict


def small_resnet(**kwargs):
    cfg = {"input_size": (3, 32, 32), "crop_mode": "squash", "crop_pct": 1.0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("resnet18", pretrained_cfg_overlay=cfg, zero_init_last=False, **kwargs)


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (7, 40, 50), dtype=np.uint8)


# Embedding


def test_embedding_is_the_pooled_feature_of_each_frame(frames):
    model = small_resnet().eval()  # with a classifier of 1,000 classes, which is not used
    prepare = transforms(model)
    with torch.no_grad():
        slow = [model.forward_features(prepare(frame)[None]).mean((2, 3))[0].numpy() for frame in frames]
    found = embed(model, frames, batch_size=3)
    assert found.dtype == np.float32 and found.shape == (7, 512)
    np.testing.assert_allclose(found, slow, atol=1e-5)
    np.testing.assert_allclose(embed(model, iter(frames), batch_size=100), found, atol=1e-5)


def test_frames_may_differ_in_size(frames):
    model = small_resnet(num_classes=0)
    other = frames[0, :20, :30]
    found = embed(model, [frames[0], other, frames[1]])
    np.testing.assert_allclose(found[[0, 2]], embed(model, frames[:2]), atol=1e-5)
    np.testing.assert_allclose(found[1], embed(model, other[None])[0], atol=1e-5)


def test_a_vit_is_pooled_its_own_way(frames):
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    model.pretrained_cfg = model.pretrained_cfg | {"input_size": (3, 32, 32)}
    with torch.no_grad():
        tokens = model.forward_features(torch.stack([transforms(model)(frame) for frame in frames]))
    np.testing.assert_allclose(embed(model, frames), tokens[:, 0], atol=1e-5)


def test_bf16_agrees_to_a_percent(frames):
    model = small_resnet(num_classes=0)
    exact, rough = embed(model, frames), embed(model, frames, bf16=True)
    assert rough.dtype == np.float32
    assert 0 < np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 0.02


def test_every_module_keeps_its_mode(frames):
    model = small_resnet().train()
    model.bn1.eval()  # as a frozen norm is kept in fine-tuning
    before = [module.training for module in model.modules()]
    statistics = model.layer1[0].bn1.running_mean.clone()
    embed(model, frames)
    assert [module.training for module in model.modules()] == before
    assert torch.equal(model.layer1[0].bn1.running_mean, statistics)
    with pytest.raises(TypeError):
        embed(model, frames.astype(np.float32))
    assert [module.training for module in model.modules()] == before


def test_no_frames_is_an_error(frames):
    with pytest.raises(ValueError, match="no frames to embed"):
        embed(small_resnet(), frames[:0])


def test_probes_need_no_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
import numpy as np
from usbackbones.probing.probes import linear_predict
probability, _ = linear_predict(np.eye(4), np.array([0, 1, 0, 1]), list("abcd"), np.eye(4))
print(probability.argmax(1))
"""
    assert python(code).split() == ["[0", "1", "0", "1]"]


@pytest.mark.parametrize(("rows", "width", "classes"), [(60, 12, 2), (60, 12, 4), (40, 90, 2), (40, 90, 3)])
def test_the_linear_probe_is_scikit_learns_optimum(rows, width, classes):
    """The slow obvious form in float64: a solver of another kind, to 1e-12; more rows than features and fewer."""
    rng = np.random.default_rng(rows + classes)
    y = np.arange(rows) % classes
    x = rng.normal(size=(rows, width)) * rng.uniform(1e-5, 300, width) + 1.5 * (
        y[:, None] == rng.integers(classes, size=width)
    )
    x[:, 3] = 7.25  # constant
    weight = balanced_weights(y, np.arange(rows) // 2)
    scaler = StandardScaler().fit(x)
    for c, outputs in zip(PENALTIES, _logits(x, y, weight, x, PENALTIES), strict=True):
        slow = LogisticRegression(C=c, solver="newton-cg", tol=1e-12, max_iter=10000)
        slow.fit(scaler.transform(x), y, sample_weight=weight)
        found = np.exp(outputs - outputs.max(1, keepdims=True))
        np.testing.assert_allclose(
            found / found.sum(1, keepdims=True), slow.predict_proba(scaler.transform(x)), atol=2e-6
        )
    first, second = ([*_logits(x, y, weight, x, PENALTIES)] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# Probes


def test_knn_is_its_slow_form(clustered):
    x, y, _, _ = clustered
    train, test, labels = x[:150], x[150:], y[:150]
    mean = train.mean(0)
    slow = np.zeros((len(test), 3))
    for row, point in enumerate(test - mean):
        cosine = [point @ (t - mean) / np.linalg.norm(point) / np.linalg.norm(t - mean) for t in train]
        for neighbour in np.argsort(cosine)[::-1][:20]:
            label = labels[neighbour]
            slow[row, label] += np.exp(cosine[neighbour] / 0.07) / (labels == label).sum()
        slow[row] /= slow[row].sum()
    np.testing.assert_allclose(knn_predict(train, labels, test), slow, atol=1e-10)


def test_knn_with_fewer_rows_than_neighbours_and_an_unseen_class():
    p = knn_predict(np.eye(3), np.array([0, 0, 1]), np.eye(3), k=20, classes=4)
    assert p.shape == (3, 4) and not p[:, 2:].any()
    np.testing.assert_allclose(p.sum(1), 1)
    assert p.argmax(1).tolist() == [0, 0, 1]


def test_weights_make_classes_alike_and_clips_alike():
    y = np.array([0, 0, 0, 0, 0, 0, 1])
    weight = balanced_weights(y, np.array(["a", "a", "a", "a", "b", "b", "c"]))
    np.testing.assert_allclose(weight.mean(), 1)
    totals = [weight[:4].sum(), weight[4:6].sum(), weight[6:].sum()]
    np.testing.assert_allclose(totals, [7 / 4, 7 / 4, 7 / 2])
    np.testing.assert_allclose(balanced_weights(y), [7 / 12] * 6 + [7 / 2])


def test_the_linear_probe_is_its_slow_form(clustered):
    x, y, clip, group = clustered
    train = np.isin(group, [f"g{g}" for g in range(40)])
    weight = balanced_weights(y[train], clip[train])

    def fitted(rows, c):
        scaler = StandardScaler().fit(x[train][rows])
        probe = LogisticRegression(C=c, max_iter=2000, tol=1e-8)
        probe.fit(scaler.transform(x[train][rows]), y[train][rows], sample_weight=weight[rows])
        return lambda new: probe.predict_proba(scaler.transform(new))

    quality = []
    for c in PENALTIES:
        right = np.zeros(train.sum())
        for fit, held in grouped_folds(group[train].tolist(), [str(v) for v in y[train]], 5, seed=0):
            right[held] = fitted(fit, c)(x[train][held]).argmax(1) == y[train][held]
        quality.append(np.mean([np.average(right[y[train] == k], weights=weight[y[train] == k]) for k in range(3)]))
    best = PENALTIES[int(np.argmax(quality))]
    assert len(set(quality)) > 1

    probability, c = linear_predict(x[train], y[train], group[train], x[~train], clip[train])
    assert c == best
    np.testing.assert_allclose(probability, fitted(slice(None), best)(x[~train]), atol=2e-3)


def test_the_linear_probe_gives_an_unseen_class_no_probability(clustered):
    x, y, _, group = clustered
    seen = y != 1
    probability, _ = linear_predict(x[seen], y[seen], group[seen], x, classes=4)
    assert not probability[:, [1, 3]].any()
    np.testing.assert_allclose(probability.sum(1), 1)


def test_one_group_of_a_class_leaves_nothing_to_choose_on():
    x, y, groups = np.eye(20), np.repeat([0, 1], 10), np.repeat(["a", "b"], 10)
    probability, c = linear_predict(x, y, groups, x)
    assert c == UNCHOSEN and (probability.argmax(1) == y).all()
    with pytest.raises(ValueError, match="all of class 1"):
        linear_predict(x[10:], y[10:], groups[10:], x)


@pytest.mark.parametrize("probe", ["knn", "linear"])
def test_shuffled_labels_fall_to_chance(probe):
    """Features that give every group away score high when frames are divided, and at chance when groups are."""
    rng = np.random.default_rng(2)
    group = np.repeat([f"g{g}" for g in range(90)], 6)
    x = np.repeat(3 * rng.normal(size=(90, 50)), 6, axis=0) + 0.1 * rng.normal(size=(540, 50))
    y = np.repeat(rng.permutation(np.arange(90) % 3), 6)

    def accuracy(groups):
        p = np.empty((540, 3))
        for fit, held in grouped_folds(groups, [str(v) for v in y], 5, seed=0):
            if probe == "knn":
                p[held] = knn_predict(x[fit], y[fit], x[held])
            else:
                p[held] = linear_predict(x[fit], y[fit], np.asarray(groups)[fit], x[held])[0]
        return scores(y, p, group, group)["frame"]["balanced_accuracy"]

    assert accuracy(group.tolist()) == pytest.approx(1 / 3, abs=0.12)
    assert accuracy([str(row) for row in range(540)]) > 0.6  # what dividing by frame would have claimed
