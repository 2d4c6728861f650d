"""Levels, anatomy and learned weights together: losses and meta-gradients against slow forms, in float64."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.training.nn.test_contrastive_loss import slow_contrastive
from tests.training.small import opened, slow_nt_xent, small_backbone, small_batch
from training.methods.hico import HiCo
from training.methods.meta_uscl import MetaUSCL

LABELS = (0, 1, -1, 1)
SAME = torch.tensor([[i == j or a == b != -1 for j, b in enumerate(LABELS)] for i, a in enumerate(LABELS)]).tile(2, 2)


def net_of(spec, arch="test_resnet"):
    return opened(spec.build(small_backbone(arch, size=32), classes=0)).double()


def by_anatomy(first, second, temperature=0.5):
    return slow_contrastive(torch.cat([first, second]), SAME, temperature)


def levels_of(embeddings, contrast):
    """HiCo's sum per anchor, across the views, of any contrast of two sets of embeddings."""
    local, medium, top = embeddings
    peer = sum(contrast(*level) for level in (local, medium, top))
    cross = sum(contrast(top[0], level[1]) + contrast(top[1], level[0]) for level in (medium, local))
    return 0.5 * peer + 0.5 * cross


SLOW = {
    "pairs": lambda embeddings: slow_nt_xent(*embeddings, 0.5),
    "levels": lambda embeddings: levels_of(embeddings, lambda a, b: slow_nt_xent(a, b, 0.5)),
    "anatomy": lambda embeddings: by_anatomy(*embeddings),
}


def test_levels_by_anatomy_are_the_formula():
    net, batch = net_of(HiCo(attract="anatomy", label_weight=0)), small_batch(size=32, dtype=torch.float64)
    slow = levels_of(net(batch.views)[1], by_anatomy).mean()
    torch.testing.assert_close(net.losses(batch)["loss"], slow, rtol=1e-10, atol=0)
    unknown = small_batch(size=32, labels=(-1,) * 4, dtype=torch.float64)
    plain = net_of(HiCo(label_weight=0))
    torch.testing.assert_close(net.losses(unknown)["loss"], plain.losses(unknown)["loss"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("contrast", SLOW)
def test_the_weighed_loss_is_the_formula(contrast):
    net, batch = net_of(MetaUSCL(contrast=contrast)), small_batch(size=32, dtype=torch.float64, meta=4)
    representations, embeddings = net(batch.views)
    anchors = SLOW[contrast](embeddings.detach())
    # The step trains CMW-Net before it weighs the pairs, and logs their plain mean.
    losses = net.step(batch, nullcontext, torch.optim.SGD(net.learner().parameters(), 0.1))
    weights = net.weigher(representations).detach().tile(2)
    torch.testing.assert_close(losses["loss"].detach(), (weights * anchors).sum() / weights.sum(), rtol=1e-10, atol=0)
    torch.testing.assert_close(losses["contrast"], anchors.mean(), rtol=1e-10, atol=0)
    assert losses["lowest_weight"] < losses["highest_weight"]


@pytest.mark.parametrize("arch", ["test_resnet", "vit_tiny_patch16_224"])
@pytest.mark.parametrize(
    ("contrast", "features"), [("pairs", "detached"), ("levels", "detached"), ("anatomy", "attached")]
)
def test_the_meta_gradient_is_that_of_double_backward(contrast, features, arch):
    net = net_of(MetaUSCL(contrast=contrast, features=features), arch)
    batch = small_batch(size=32, dtype=torch.float64, meta=4)
    plain = copy.deepcopy(net)
    optimiser = torch.optim.SGD(net.learner().parameters(), 0.1, weight_decay=1e-2)
    net.weigher_optimiser.step = lambda: None  # so that its gradient stays that of the look-ahead
    net.step(batch, nullcontext, optimiser)
    found = torch.cat([p.grad.flatten() for p in net.weigher.parameters()])

    theta = {name: p for name, p in plain.named_parameters() if not name.startswith("weigher.")}
    with sdpa_kernel(SDPBackend.MATH):
        representations, embeddings = plain(batch.views)
        weights = plain.weigher(representations if features == "attached" else representations.detach()).tile(2)
        anchors = plain.contrast(embeddings, plain.positives(batch))
        loss = (weights * anchors).sum() / weights.sum()
        gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        ahead = {name: p - 0.1 * (g + 1e-2 * p) for (name, p), g in zip(theta.items(), gradients, strict=True)}
        meta = plain.contrast(functional_call(plain, ahead, (batch.meta,))[1]).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(meta, list(plain.weigher.parameters()))])
    assert expected.norm() > 1e-9 and (found - expected).norm() <= 1e-10 * expected.norm()


def test_a_large_batch_is_not_streamed_under_the_weights(monkeypatch):
    """The streamed loss has no forward mode."""
    monkeypatch.setattr("training.nn.contrastive_loss.STREAM_ABOVE", 1)
    net, batch = net_of(MetaUSCL()), small_batch(size=32, dtype=torch.float64, meta=4)
    assert net.step(batch, nullcontext, torch.optim.SGD(net.learner().parameters(), 0.1))["meta_gradient"] > 0


def test_the_weighed_methods_keep_their_own_options():
    spec = MetaUSCL(temperature=0.2, projection=32, forward_views="concat")
    for contrast, inner in (("pairs", "SimCLR"), ("levels", "HiCo"), ("anatomy", "AWCL")):
        net = net_of(MetaUSCL(**(vars(spec) | {"contrast": contrast})))
        assert type(net.spec).__name__ == inner and net.spec.temperature == 0.2 and net.forward_views == "concat"
        assert net(small_batch(size=32, dtype=torch.float64).views)[1].shape[-1] == 32
