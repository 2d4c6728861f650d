"""Meta-USCL's meta pairs, its step against the slow algorithm, and what the weights learn."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch.func import functional_call

from tests.training.small import opened, slow_nt_xent, small_batch
from training.data.batches.batch import Batch
from training.data.views.augment import Augment
from training.methods.meta_uscl import MetaUSCL
from training.nn.heads import CMWNet

CLIP = np.random.default_rng(0).integers(0, 256, (10, 40, 40), dtype=np.uint8)
NEUTRAL = Augment(size=40, area=(1, 1), aspect=(1, 1), flip=0, jitter=0)
RELEASED = MetaUSCL(meta_frame="first", features="attached", symmetric=False)


def net_of(spec=RELEASED, arch="test_resnet", **args):
    torch.manual_seed(0)
    if arch.startswith("vit"):
        args = {"img_size": 32, "patch_size": 8, "depth": 2, "global_pool": "avg"} | args
    return opened(spec.build(timm.create_model(arch, num_classes=0, in_chans=1, **args), classes=2)).train()


def batch_of(meta=4, dtype=torch.float32):
    return small_batch(size=32, labels=(-1,) * 4, meta=meta, dtype=dtype)


def sgd(net, rate=0.1):
    return torch.optim.SGD(net.learner().parameters(), rate, momentum=0.9, weight_decay=1e-4)


def test_meta_pairs_are_two_augmentations_of_one_frame():
    frames = set()
    for seed in range(100):
        first, second = MetaUSCL().meta_views(CLIP, NEUTRAL, np.random.default_rng(seed))
        np.testing.assert_array_equal(first, second)
        frames |= {index for index in range(10) if (CLIP[index] == first).all()}
        np.testing.assert_array_equal(RELEASED.meta_views(CLIP, NEUTRAL, np.random.default_rng(seed))[0], CLIP[0])
    assert frames == set(range(10))
    views = MetaUSCL().meta_views(CLIP, Augment(size=32), np.random.default_rng(0))
    assert views.shape == (2, 32, 32) and not (views[0] == views[1]).all()


def slow_algorithm(net, batches_of_steps, rate):
    """The released algorithm: a second-order graph, a forward pass of its own for the real step, plain formulas."""
    theta = dict(net.learner().named_parameters())
    phi = list(net.weigher.parameters())
    adam = torch.optim.Adam(phi, net.spec.meta_lr)
    buffers, losses = {}, []

    def contrast(views, parameters, model):
        representations, embeddings = functional_call(model, parameters, (views,))
        return representations, slow_nt_xent(*embeddings, net.spec.temperature)

    def weighted(values, weights):
        weights = torch.cat([weights, weights])
        return sum(w * value for w, value in zip(weights, values, strict=True)) / weights.sum()

    def score(seen):
        first, hidden, last, end = net.weigher.layers
        return end(last(hidden(first(torch.cat([seen[0], seen[1]], dim=1)))))[:, 0]

    for batch in batches_of_steps:
        model = copy.deepcopy(net)  # whose running statistics are thrown away
        seen, values = contrast(batch.views, theta, model)
        gradients = torch.autograd.grad(weighted(values, score(seen)), list(theta.values()), create_graph=True)
        ahead = {}
        for (name, p), gradient in zip(theta.items(), gradients, strict=True):
            gradient = gradient + 1e-4 * p
            if name in buffers:
                gradient = 0.9 * buffers[name] + gradient
            ahead[name] = p - rate * gradient
        meta = contrast(batch.meta, ahead, model)[1].mean()
        for p, gradient in zip(phi, torch.autograd.grad(meta, phi), strict=True):
            p.grad = gradient
        adam.step()
        seen, values = contrast(batch.views, theta, net)
        loss = weighted(values, score(seen).detach())
        for (name, p), gradient in zip(theta.items(), torch.autograd.grad(loss, list(theta.values())), strict=True):
            buffers[name] = gradient + 1e-4 * p.detach() + 0.9 * buffers.get(name, 0)
            p.data -= rate * buffers[name]
        losses.append((float(loss.detach()), float(meta.detach())))
    return losses


def test_three_steps_are_the_released_algorithm():
    spec = replace(RELEASED, meta_lr=1e-2)
    net, slow = net_of(spec).double(), net_of(spec).double()
    start = {name: value.clone() for name, value in net.state_dict().items() if name != "_extra_state"}
    steps = [batch_of(dtype=torch.float64) for _ in range(3)]
    for number, batch in enumerate(steps):
        batch.views += number
    expected = slow_algorithm(slow, steps, rate=0.1)
    optimizer = sgd(net)
    for batch, (loss, meta) in zip(steps, expected, strict=True):
        optimizer.zero_grad()
        logged = net.step(batch, nullcontext, optimizer)
        optimizer.step()
        np.testing.assert_allclose([float(logged["loss"].detach()), float(logged["meta"])], [loss, meta], rtol=1e-9)
    for name, value in slow.state_dict().items():
        if name != "_extra_state":
            torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-8, atol=1e-10, msg=name)
    assert (start["weigher.layers.0.weight"] - net.weigher.layers[0].weight).abs().max() > 1e-2


def test_the_loss_is_the_weighted_formula():
    net, batch = net_of(MetaUSCL(temperature=0.2)).double(), batch_of(dtype=torch.float64)
    representations, embeddings = net(batch.views)
    anchors = slow_nt_xent(*embeddings.detach(), 0.2)
    losses = net.step(batch, nullcontext, sgd(net))  # trains CMW-Net before it weights the pairs
    weights = net.weigher(representations).detach().tile(2)
    torch.testing.assert_close(losses["loss"].detach(), (weights * anchors).sum() / weights.sum(), rtol=1e-10, atol=0)
    torch.testing.assert_close(losses["contrast"], anchors.mean(), rtol=1e-10, atol=0)
    assert losses["lowest_weight"] < losses["highest_weight"]


def test_a_large_batch_is_not_streamed_under_the_weights(monkeypatch):
    """The streamed loss has no forward mode."""
    monkeypatch.setattr("training.nn.contrastive_loss.STREAM_ABOVE", 1)
    net = net_of(MetaUSCL())
    assert net.step(batch_of(), nullcontext, sgd(net))["meta_gradient"] > 0


def test_validation_is_unweighted():
    net, batch = net_of().double().eval(), batch_of(dtype=torch.float64)
    expected = slow_nt_xent(*net(batch.views)[1], 0.5).mean()
    torch.testing.assert_close(net.losses(batch)["loss"], expected, rtol=1e-10, atol=0)


def test_the_weigher_of_a_resnet18_is_the_papers():
    layers = CMWNet(512, symmetric=False).layers
    assert sum(p.numel() for p in layers.parameters()) == 10_261
    assert [type(layer).__name__ for layer in layers] == ["Linear", "ReLU", "Linear", "Sigmoid"]


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_order_of_the_views_matters_only_if_it_is_to(symmetric):
    weigher = net_of(replace(RELEASED, symmetric=symmetric)).weigher
    representations = torch.randn(2, 5, weigher.layers[0].in_features // 2)
    weights = weigher(representations)
    assert weights.shape == (5,) and (weights > 0).all() and (weights < 1).all()
    assert torch.allclose(weights, weigher(representations.flip(0)), atol=1e-6) == symmetric


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("with_meta", [True, False])
def test_every_parameter_learns_and_the_backbone_runs_once_a_view(arch, with_meta):
    net, batch = net_of(MetaUSCL(), arch), batch_of(meta=4 * with_meta)
    optimizer, passes = sgd(net), []
    net.backbone.register_forward_hook(lambda module, args, output: passes.append((args[0], output.requires_grad)))
    net.step(batch, nullcontext, optimizer)
    on_training_views = [graph for seen, graph in passes if any(seen.equal(view) for view in batch.views)]
    assert on_training_views == [True, True] + [False, False] * with_meta  # the latter in forward mode
    assert len(passes) == 2 + 4 * with_meta
    learns = net if with_meta else net.learner()
    silent = [name for name, p in learns.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert not silent
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in net.weigher.parameters()}


def test_pairs_that_harm_the_meta_loss_lose_weight():
    """Half of the pairs join two clips that the meta pairs tell apart."""
    net = net_of(MetaUSCL(meta_lr=1e-2))
    optimizer = sgd(net, rate=0.02)
    torch.manual_seed(2)
    scenes = torch.randn(8, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    harmful = torch.tensor([False, True] * 4)
    partner = torch.arange(8)
    partner[harmful] = partner[harmful].roll(1)
    for _ in range(40):
        first, second, meta1, meta2 = (
            scenes[order] + 0.1 * torch.randn(8, 1, 32, 32)
            for order in (torch.arange(8), partner, torch.arange(8), torch.arange(8))
        )
        batch = Batch(
            torch.stack([first, second]), torch.full((8,), -1), torch.arange(8), meta=torch.stack([meta1, meta2])
        )
        optimizer.zero_grad()
        net.step(batch, nullcontext, optimizer)
        optimizer.step()
    with torch.no_grad():
        weights = net.weigher(net(batch.views)[0])
    assert weights[harmful].mean() < weights[~harmful].mean() - 0.1


def test_without_a_meta_share_only_the_interpolation_is_left():
    net, batch = net_of(MetaUSCL(meta_share=0)), batch_of(meta=0)
    losses = net.step(batch, nullcontext, sgd(net))
    assert losses.keys() == {"loss"} and all(p.grad is None for p in net.weigher.parameters())
