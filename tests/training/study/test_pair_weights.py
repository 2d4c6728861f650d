"""The figure of CMW-Net's weights: by slow loops, on a real run of a few steps, and as a page."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from training.data.cache import open_cache
from training.data.errors import CorpusError
from training.engine.dataloaders import step_batches
from training.engine.prepare_model import build
from training.methods.meta_uscl import MetaUSCL
from training.pretrain import Run, pretrain
from training.recipes import RECIPES
from training.study import pair_weights


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    smoke = RECIPES["smoke"][1]
    small = {"arch": "test_resnet", "steps": 4, "batch": 3, "augment": replace(smoke.augment, size=32)}
    recipe = replace(smoke, method=MetaUSCL(meta_share=0.5, meta_lr=1e-2), **small)
    folder = tmp_path_factory.mktemp("run")
    return recipe, pretrain(Run(recipe=recipe, data=cache, out=folder), "smoke", progress=False)


def test_pairs_are_weighed_as_one_by_one(run, cache):
    recipe, folder = run
    similar, weight = pair_weights.weighed_pairs(folder, cache, pairs=9)
    method = build(recipe, 2)
    method.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["method"])
    method.eval()
    drawn, _ = step_batches(recipe, open_cache(cache))
    slow, cosines = [], []
    for step in range(3):
        for pair in range(3):
            with torch.no_grad():
                first, second = (method.backbone(drawn[step].views[view, pair, None])[0].double() for view in (0, 1))
                joined = [torch.cat(order).float() for order in ((first, second), (second, first))]
                slow.append(float(sum(method.weigher.layers(one) for one in joined)) / 2)
            cosines.append(float(first @ second / (first.norm() * second.norm())))
    assert similar == pytest.approx(cosines, rel=1e-4)
    assert weight == pytest.approx(np.array(slow) / np.mean(slow), rel=1e-4)


def test_means_of_bins_as_a_loop():
    rng = np.random.default_rng(0)
    similar, weight = rng.uniform(-0.4, 1, 300), rng.uniform(0.5, 1.5, 300)
    similar[(similar > 0.1) & (similar < 0.4)] = 0.9  # leaves bins empty
    edges, slow = np.linspace(similar.min(), similar.max(), 11), []
    for low, high in pairwise(edges):
        last = high == edges[-1]
        members = [i for i, s in enumerate(similar) if low <= s and (s < high or (last and s <= high))]
        if members:
            slow.append((np.mean([similar[i] for i in members]), np.mean([weight[i] for i in members])))
    found = pair_weights.mean_by_similarity(similar, weight, 10)
    assert len(found) < 10 and np.allclose(found, slow)


def test_command(run, cache, tmp_path):
    pair_weights.main(run[1], cache, tmp_path / "w.html", 9)
    text = (tmp_path / "w.html").read_text(encoding="utf-8")
    assert "Mean weight by similarity" in text and text.count("<svg") == 3


def test_other_runs_are_refused(cache, tmp_path, capsys):
    smoke = RECIPES["smoke"][1]
    recipe = replace(smoke, arch="test_resnet", steps=1, batch=3, augment=replace(smoke.augment, size=32))
    pretrain(Run(recipe=recipe, data=cache, out=tmp_path), "smoke", progress=False)
    with pytest.raises(CorpusError, match="only meta_uscl weighs its pairs"):
        pair_weights.weighed_pairs(tmp_path, cache)
    with pytest.raises(SystemExit):
        pair_weights.main(tmp_path, cache, tmp_path / "w.html")
    assert "error: " in capsys.readouterr().err and not (tmp_path / "w.html").exists()
