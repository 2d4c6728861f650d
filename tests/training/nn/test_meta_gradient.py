"""The meta-gradient in float64 against double backward."""

import copy
from contextlib import nullcontext

import pytest
import timm
import torch
from torch import nn
from torch.func import functional_call

from tests.training.nn.test_optimizer_step import OPTIMIZERS
from training.methods.base import Method
from training.nn.contrastive_loss import nt_xent, weighted_mean
from training.nn.heads import CMWNet, projector
from training.nn.meta_gradient import Lookahead


class Net(Method):
    """Backbone and projector; the network of the paper without its data."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.projector = projector(self.width, 16, 8)

    def forward(self, views):
        representations = self.encode(views)
        return representations, self.projector(representations)


def net_of(arch, dtype=torch.float64, **changes):
    """A network that is not at its initialisation, where residual branches are closed and attention is uniform."""
    torch.manual_seed(0)
    args = dict(img_size=32, patch_size=8, depth=2) if arch.startswith("vit") else {}
    net = Net(timm.create_model(arch, num_classes=0, in_chans=1, **args, **changes)).to(dtype)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.abs().mean().clamp(min=0.1))
    return net.train()


class Case:
    """A network, its optimizer after two steps, training and meta views, and the losses of Meta-USCL."""

    def __init__(
        self, arch, attached=False, symmetric=False, optimizer="momentum", size=32, dtype=torch.float64, **args
    ):
        self.net = net_of(arch, dtype, **args)
        self.weigher = CMWNet(self.net.width, symmetric).to(dtype)
        self.attached = attached
        self.views, self.meta = torch.randn(2, 2, 4, 1, size, size, dtype=dtype)
        self.optimizer = OPTIMIZERS[optimizer](self.net.parameters())
        for _ in range(2):
            self.optimizer.zero_grad()
            nt_xent(*self.net(self.views)[1], 0.5).mean().backward()
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.random = torch.get_rng_state()

    def inner(self, seen, embeddings):
        representations = seen if self.attached else self.representations.detach()
        return weighted_mean(nt_xent(*embeddings, 0.5, streamed=False), self.weigher(representations))

    def outer(self, _, embeddings):
        return nt_xent(*embeddings, 0.5).mean()

    def ours(self, derivative="forward", autocast=nullcontext):
        torch.set_rng_state(self.random)
        look = Lookahead(self.net, self.optimizer, autocast, derivative)
        self.representations, _ = look.forward(self.views)
        gradient, meta = look.meta_gradient(self.inner, self.outer, self.meta, list(self.weigher.parameters()))
        return torch.cat([part.flatten() for part in gradient]), meta

    def double_backward(self, ahead):
        """The same through a graph of the gradient; `ahead(parameter, gradient)` is the optimizer's step."""
        torch.set_rng_state(self.random)
        net = copy.deepcopy(self.net)
        theta = dict(net.named_parameters())
        originals = dict(self.net.named_parameters())
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            self.representations, embeddings = net(self.views)
            inner = self.inner(self.representations, embeddings)
            gradients = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
            moved = {n: ahead(originals[n], theta[n], g) for (n, _), g in zip(theta.items(), gradients, strict=True)}
            meta = self.outer(*functional_call(net, moved, (self.meta,)))
        gradient = torch.autograd.grad(meta, list(self.weigher.parameters()))
        return torch.cat([part.flatten() for part in gradient]), meta

    def momentum_step(self, original, theta, gradient):
        buffer = self.optimizer.state[original]["momentum_buffer"]
        return theta - 0.1 * (0.9 * buffer + gradient + 1e-2 * theta)

    def adamw_step(self, original, theta, gradient):
        state = self.optimizer.state[original]
        mean = (0.9 * state["exp_avg"] + 0.1 * gradient) / (1 - 0.9**3)
        square = (0.999 * state["exp_avg_sq"] + 0.001 * gradient**2) / (1 - 0.999**3)
        root = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)  # a weight that never had a gradient
        return theta * (1 - 1e-2 * 1e-1) - 1e-2 * mean / (root + 1e-8)


def close(ours, theirs, tolerance):
    (gradient, meta), (expected, expected_meta) = ours, theirs
    assert expected.norm() > 1e-9  # there is something to compare
    assert (gradient - expected).norm() <= tolerance * expected.norm()
    torch.testing.assert_close(meta, expected_meta.detach(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("arch", ["test_resnet", "vit_tiny_patch16_224"])
def test_it_is_the_gradient_through_double_backward(arch, attached, symmetric):
    case = Case(arch, attached, symmetric)
    close(case.ours(), case.double_backward(case.momentum_step), 1e-10)


@pytest.mark.parametrize("arch", ["test_resnet", "vit_tiny_patch16_224"])
def test_a_finite_difference_agrees(arch):
    case = Case(arch, attached=True)
    gradient, meta = case.ours("difference")
    expected, expected_meta = case.ours()
    close((gradient, meta), (expected, expected_meta), 1e-4)
    assert not torch.equal(gradient, expected)


def test_through_adamw_it_is_the_gradient_too():
    case = Case("test_resnet", attached=True, optimizer="adamw")
    close(case.ours(), case.double_backward(case.adamw_step), 1e-8)


def test_dropout_and_drop_path_are_the_same_in_every_pass():
    case = Case("vit_tiny_patch16_224", drop_path_rate=0.3, proj_drop_rate=0.2, attn_drop_rate=0.2)
    close(case.ours(), case.double_backward(case.momentum_step), 1e-10)
    assert (case.ours("difference")[0] - case.ours()[0]).norm() <= 1e-4 * case.ours()[0].norm()


def test_frozen_layers_stay_out_of_it():
    case = Case("test_resnet")
    expected, _ = case.ours()
    for parameter in case.net.backbone.conv1.parameters():
        parameter.requires_grad_(False)
    case.net.backbone.bn1.weight.requires_grad_(False)
    case.net.projector[0].bias.requires_grad_(False)
    gradient, meta = case.ours()
    assert (gradient - expected).norm() > 1e-6 * expected.norm()
    close(case.ours("difference"), (gradient, meta), 1e-4)


def test_the_outputs_stay_to_be_trained_on():
    case = Case("test_resnet")
    before = {name: value.clone() for name, value in case.net.state_dict().items()}
    torch.set_rng_state(case.random)
    look = Lookahead(case.net, case.optimizer, nullcontext)
    case.representations, embeddings = look.forward(case.views)
    look.meta_gradient(case.inner, case.outer, case.meta, list(case.weigher.parameters()))
    assert all(p.grad is None for p in [*case.net.parameters(), *case.weigher.parameters()])
    case.outer(None, embeddings).backward()
    plain = copy.deepcopy(case.net)
    plain.load_state_dict(before)
    plain.zero_grad()
    case.outer(*plain(case.views)).backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(case.net.get_parameter(name).grad, parameter.grad, rtol=0, atol=0)
    # Running statistics moved once, for the pass on the training views, and their modules track again.
    for name, value in plain.state_dict().items():
        assert value.equal(case.net.state_dict()[name]), name
    assert all(m.track_running_stats for m in case.net.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(("arch", "size", "cosine"), [("test_resnet", 96, 0.95), ("vit_tiny_patch16_224", 32, 0.995)])
def test_bf16_points_the_same_way(arch, size, cosine):
    """Batch statistics of eight views make an untrained ResNet ill-conditioned; a ViT has none.

    Processors round differently: the ViT's cosine is above 0.999 with AMX and 0.998 where bf16 is emulated.
    """
    case = Case(arch, dtype=torch.float32, size=size, optimizer="sgd")
    exact, _ = case.ours()
    rounded, _ = case.ours(autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert not torch.equal(exact, rounded) and torch.cosine_similarity(exact, rounded, dim=0) > cosine
