"""A batch in pieces has the gradient of the whole batch, negatives included."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import timm
import torch

from training.data.batches.batch import Batch
from training.engine.grad_cache import accumulated_step
from training.engine.prepare_model import network_of
from training.errors import TrainingError
from training.recipes import RECIPES

CPU = torch.device("cpu")


def network(method, arch="test_efficientnet_ln", **model):
    torch.manual_seed(0)
    return RECIPES[method][1].method.build(timm.create_model(arch, num_classes=0, in_chans=1, **model), 2).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(2, 7, 1, 32, 32, dtype=torch.float64, generator=generator)
    labels = torch.tensor([0, 1, -1, 0, 1, 1, -1])
    return Batch(views, labels, torch.arange(7), anatomy=labels.repeat(2, 1))


def gradients(net, batch, pieces):
    """The loss and all gradients of a step in so many pieces, 0 for a plain step."""
    net.zero_grad()
    torch.manual_seed(5)  # of dropout
    optimizer = torch.optim.SGD(net.parameters())
    if pieces:
        loss = accumulated_step(net, batch, nullcontext, optimizer, pieces)["loss"]
    else:
        loss = net.step(batch, nullcontext, optimizer)["loss"]
    return {"loss": loss.detach()} | {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one) / max(
        float(v.abs().max()) for v in one.values()
    )


@pytest.mark.parametrize("method", ["simclr", "uscl", "awcl", "clip_pair", "ivpp"])
@pytest.mark.parametrize("pieces", [2, 3, 7, 20])
def test_pieces_give_the_gradient_of_the_whole(batch, method, pieces):
    net = network(method)
    whole = gradients(net, batch, 0)
    assert len(whole) > 50
    assert largest_difference(whole, gradients(net, batch, pieces)) < 1e-12


def test_adding_up_small_batches_is_something_else(batch):
    net = network("simclr")
    whole = gradients(net, batch, 0)
    first, second = (
        gradients(net, replace(batch, views=views, weights=batch.weights[:n], labels=batch.labels[:n]), 0)
        for views, n in ((batch.views[:, :4], 4), (batch.views[:, 4:], 3))
    )
    naive = {key: (4 * first[key] + 3 * second[key]) / 7 for key in whole}
    assert largest_difference(whole, naive) > 0.05


def test_views_that_pass_together_can_pass_in_pieces(batch):
    net = network("simclr")
    separate = gradients(net, batch, 0)
    net.forward_views = "concat"
    assert largest_difference(separate, gradients(net, batch, 3)) < 1e-12


def test_dropout_is_the_same_in_both_passes(batch):
    net = network("simclr", drop_path_rate=0.5, drop_rate=0.5).train()
    whole, again = gradients(net, batch, 1), gradients(net, batch, 1)
    assert largest_difference(whole, again) == 0
    # In one piece the first pass draws what a plain step draws, and the second must draw it again.
    assert largest_difference(gradients(net, batch, 0), whole) < 1e-12


def test_batchnorm_sees_pieces_and_counts_each_once(batch):
    net = network("simclr", arch="test_resnet").train()
    norm = net.backbone.bn1
    accumulated_step(net, batch, nullcontext, torch.optim.SGD(net.parameters()), 2)
    assert int(norm.num_batches_tracked) == 4  # two pieces of each of two views, not again in the pass without a graph


@pytest.mark.parametrize("method", ["hico"])
def test_a_method_that_looks_inside_the_backbone_is_refused(batch, method):
    net = network(method, arch="test_resnet")
    backbone = net.backbone
    with pytest.raises(TrainingError, match=r"HiCoNet asks its backbone for forward_\w+.*set --accumulate 1"):
        accumulated_step(net, batch, nullcontext, torch.optim.SGD(net.parameters()), 2)
    assert net.backbone is backbone


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"accumulate": 2}, "accumulate = 2 has no second pass .*--accumulate 1"),
        ({"checkpoint_blocks": True}, "--no-checkpoint-blocks"),
        ({"compile": True}, "--no-compile"),
        ({"clip_gradient": 1.0}, r"clip_gradient = 1\.0 .*--clip-gradient 0"),
    ],
)
def test_what_a_look_ahead_cannot_bear_is_refused(change, complaint):
    recipe = replace(RECIPES["meta_uscl"][1], **change)
    with pytest.raises(TrainingError, match=f"MetaUSCLNet looks ahead .*{complaint}"):
        network_of(network("meta_uscl"), recipe, CPU)


def test_checkpointed_blocks_give_the_same_gradient(batch):
    recipe = RECIPES["simclr"][1]
    plain = gradients(network_of(network("simclr"), recipe, CPU), batch, 0)
    net = network_of(network("simclr"), replace(recipe, checkpoint_blocks=True), CPU)
    calls = []
    net.backbone.blocks[0][0].register_forward_pre_hook(lambda *_: calls.append(1))
    assert largest_difference(plain, gradients(net, batch, 0)) < 1e-12
    assert len(calls) == 4  # twice a view


def test_numbers_out_of_range_are_refused():
    for change, complaint in [({"accumulate": 0}, "accumulate is 0"), ({"ema": 1.0}, r"ema is 1\.0")]:
        with pytest.raises(TrainingError, match=complaint):
            network_of(network("simclr"), replace(RECIPES["simclr"][1], **change), CPU)
