"""Optimiser, layer decay and moving average as the recipe tells."""

import copy
import itertools
from dataclasses import replace

import pytest
import timm
import torch

from training.engine.optimizer import average_of, optimizer_of, schedule_of
from training.errors import TrainingError
from training.recipes import RECIPES

RECIPE = replace(RECIPES["uscl"][1], lr=0.1, weight_decay=0.01)


def network(arch="test_vit", method="uscl"):
    torch.manual_seed(0)
    return RECIPES[method][1].method.build(timm.create_model(arch, num_classes=0, in_chans=1), 2)


@pytest.mark.parametrize(("name", "fused"), [("adamw", True), ("momentum", True), ("adam", True), ("lars", None)])
def test_torchs_fused_kernels_are_taken_where_there_are_any(name, fused):
    assert optimizer_of(network(), replace(RECIPE, optimiser=name)).defaults.get("fused") is fused


def test_an_unknown_optimiser_is_told():
    with pytest.raises(TrainingError, match=r"adamm.*list_optimizers"):
        optimizer_of(network(), replace(RECIPE, optimiser="adamm"))


@pytest.mark.parametrize("method", ["uscl", "meta_uscl"])
@pytest.mark.parametrize("decay_all", [True, False])
def test_layer_decay_slows_the_lower_layers_and_spares_the_heads(method, decay_all):
    net = network(method=method)
    recipe = replace(RECIPE, layer_decay=0.5, decay_all=decay_all)
    optimizer = optimizer_of(net, recipe)
    schedule_of(optimizer, replace(recipe, warmup=0.0))
    found = {p: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert set(found) == set(net.learner().parameters())
    blocks = [found[block.attn.qkv.weight][0] for block in net.backbone.blocks]
    assert all(low == pytest.approx(high / 2) for low, high in itertools.pairwise(blocks))
    assert found[net.backbone.patch_embed.proj.weight][0] == pytest.approx(blocks[0] / 2)
    assert all(found[parameter][0] == 0.1 for parameter in net.projector.parameters())
    assert found[net.projector[0].weight][1] == 0.01
    assert found[net.projector[0].bias][1] == (0.01 if decay_all else 0)
    plain = optimizer_of(net, replace(RECIPE, decay_all=decay_all))
    decays = {p: group["weight_decay"] for group in plain.param_groups for p in group["params"]}
    same = [decays[p] == found[p][1] for p in net.projector.parameters()]
    assert all(same)


def test_the_average_is_the_sum_that_its_decay_tells():
    net = network("test_resnet")
    average = average_of(net, replace(RECIPE, ema=0.9))
    assert average_of(net, RECIPE) is None
    expected = {name: value.double() for name, value in copy.deepcopy(net.backbone.state_dict()).items()}
    for step in range(1, 40):
        with torch.no_grad():
            for value in (*net.backbone.parameters(), net.backbone.bn1.running_mean):
                value.add_(torch.randn_like(value))
        average.update(net.backbone, step)
        decay = min(0.9, 1 - step ** (-2 / 3)) if step > 1 else 0.0
        for name, value in net.backbone.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-4)
