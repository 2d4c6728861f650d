"""What test_distributed.py computes with one process and, started by torchrun, with two.

torchrun --nproc-per-node 2 -m tests.training.engine.two_processes CACHE OUT      writes OUT/<rank>.safetensors
"""

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import distributed, nn
from torch.autograd import forward_ad

from training import pretrain
from training.data.cache import open_cache
from training.nn import contrastive_loss
from training.nn.contrastive_loss import (
    contrastive,
    labeled_cross_entropy,
    nt_xent,
    other_view,
    same_class,
    weighted_mean,
)
from training.nn.distributed import anyone, average_gradients, averaged, gather, joined, rank, texts, world_size
from training.nn.sync_batchnorm import synchronize
from training.recipes import RECIPES

CLIPS, TEMPERATURE = 8, 0.2
METHODS = ("simclr", "uscl", "hico", "awcl", "meta_uscl")
BACKBONES = {"LayerNorm": "test_efficientnet_ln", "sync BatchNorm": "test_resnet"}
PLAIN = BACKBONES["LayerNorm"]
CPU = torch.device("cpu")

LOSSES = {
    "pairs": lambda net, x, labels, z: nt_xent(*z, TEMPERATURE, streamed=False).mean(),
    "pairs, streamed": lambda net, x, labels, z: nt_xent(*z, TEMPERATURE, streamed=True).mean(),
    "classes": lambda net, x, labels, z: contrastive(
        z.flatten(0, 1), same_class(labels.repeat(2)) | other_view(len(labels)), TEMPERATURE, streamed=False
    ).mean(),
    "classes, streamed": lambda net, x, labels, z: contrastive(
        z.flatten(0, 1), same_class(labels.repeat(2)), TEMPERATURE, streamed=True
    ).mean(),
    "weighted": lambda net, x, labels, z: weighted_mean(
        nt_xent(*z, TEMPERATURE, streamed=True), net.weigher(x[0])[:, 0].sigmoid()
    ),
    "labels": lambda net, x, labels, z: labeled_cross_entropy(net.classifier(z[0]), labels),
    "labels in one process": lambda net, x, labels, z: labeled_cross_entropy(
        net.classifier(z[0]), labels.where(labels == 2, -1)
    ),
}


class Detached(torch.autograd.Function):
    """Gathers, and hands no gradient back: to the loss all keys are constants."""

    @staticmethod
    def forward(ctx, x):
        return gather(x)

    @staticmethod
    def backward(ctx, grad):
        return torch.zeros_like(grad.chunk(world_size())[0])


class OwnRowsOnly(Detached):
    """Gathers, and in backward forgets what the other processes want of this one's rows, as other libraries do."""

    @staticmethod
    def backward(ctx, grad):
        return grad.chunk(world_size())[rank()].clone()


class Unscaled(Detached):
    """Gathers, and in backward adds the wants up as if the gradients were added over the processes, not averaged."""

    @staticmethod
    def backward(ctx, grad):
        total = grad.clone()
        distributed.all_reduce(total)
        return total.chunk(world_size())[rank()] / world_size()


WRONG = {"no gradient": Detached.apply, "own rows only": OwnRowsOnly.apply, "wrong scale": Unscaled.apply}


class Network(nn.Module):
    """A projector, a weigher of pairs and a classifier, the same in every process."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.projector = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
        self.weigher = nn.Linear(6, 1)
        self.classifier = nn.Linear(5, 3)
        self.double()


def mine(x, dim=0):
    """This process' part."""
    return x.chunk(world_size(), dim)[rank()]


def vector(loss, parameters):
    """The loss and all gradients as one vector, as every process has them after a step's averages."""
    parameters = list(parameters)
    average_gradients(parameters)
    (value,) = averaged([loss.detach().clone().double()])
    return torch.cat([value[None], *(p.grad.flatten() for p in parameters if p.grad is not None)])


def of_loss(name):
    """The outcome of a loss on half of a batch; the halves differ in the number of labels, and of clips a class."""
    generator = torch.Generator().manual_seed(1)
    x = mine(torch.randn(2, CLIPS, 6, dtype=torch.float64, generator=generator), 1)
    labels, net = mine(torch.tensor([0, 1, 1, 2, -1, 0, -1, -1])), Network()
    loss = LOSSES[name](net, x, labels, net.projector(x))
    loss.backward()
    return vector(loss, net.parameters())


def of_method(name, arch, cache, labeled=True):
    """The outcome of a whole step of a method, on its part of the batch, in float64.

    Returns:
        loss and gradients of what the optimizer trains, and of CMW-Net where there is one; and the buffers.
    """
    recipe = RECIPES[name][1]
    method = replace(recipe.method, meta_share=0.5) if name == "meta_uscl" else recipe.method
    recipe = replace(recipe, method=method, arch=arch, batch=CLIPS, augment=replace(recipe.augment, size=64))
    opened = open_cache(cache)
    batch = pretrain.step_batches(recipe, opened)[0][0]
    batch = replace(batch, views=batch.views.double(), meta=batch.meta.double(), weights=batch.weights.double())
    if name == "awcl":
        batch = replace(batch, anatomy=batch.labels.repeat(2, 1))
    if not labeled:
        batch = replace(batch, labels=torch.full_like(batch.labels, -1))
    net = pretrain.build(recipe, len(opened.classes)).double().train()
    if world_size() > 1:
        synchronize(net)
    optimizer = torch.optim.SGD(net.learner().parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    loss = net.step(batch, nullcontext, optimizer)["loss"]
    found = {"step": vector(loss, net.learner().parameters())}
    if name == "meta_uscl":
        found["weigher"] = torch.cat([p.grad.flatten() for p in net.weigher.parameters()])
    buffers = [buffer.double().flatten() for buffer in net.buffers()]
    return found | ({"buffers": torch.cat(buffers)} if buffers else {})


def with_wrong_gather(wrong, name, cache):
    """`of_method` with a gather that is wrong on purpose in the losses."""

    def gathered(x):
        primal, tangent = forward_ad.unpack_dual(x)
        if not x.is_floating_point():
            return gather(x)
        return wrong(x) if tangent is None else forward_ad.make_dual(wrong(primal), wrong(tangent))

    with patch.object(contrastive_loss, "gather", gathered):
        return of_method(name, PLAIN, cache)


def cubes():
    """First and second derivative, and tangent, of the sum over the processes of (rank + 1) * sum of gathered x**3."""
    x = (torch.arange(3.0) + 10 * rank()).requires_grad_()
    y = gather(x)
    (slope,) = torch.autograd.grad((rank() + 1) * (y**3).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(gather(forward_ad.make_dual(x.detach(), 2 * x.detach()))).tangent
    return {"gathered": y.detach(), "slope": slope.detach(), "curvature": curvature, "tangent": tangent.clone()}


def main(cache, out):
    """All of it, by name."""
    found = cubes()
    found |= {name: of_loss(name) for name in LOSSES}
    for name in METHODS:
        for arch in BACKBONES.values():
            found |= {f"{name} {arch} {key}": value for key, value in of_method(name, arch, cache).items()}
    found |= {f"unlabelled {key}": value for key, value in of_method("uscl", PLAIN, cache, labeled=False).items()}
    for fault, wrong in WRONG.items():
        for name in METHODS:
            found |= {f"{fault} {name} {key}": value for key, value in with_wrong_gather(wrong, name, cache).items()}
    found["texts"] = torch.tensor([len(text) for text in texts("a" * (3 + rank()), CPU)])
    found["anyone"] = torch.tensor([anyone(rank() == 1, CPU), anyone(False, CPU)])
    save_file({name: value.contiguous() for name, value in found.items()}, out / f"{rank()}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    cache, out = map(Path, sys.argv[1:])
    with joined():
        main(cache, out)
        sys.argv = ["pretrain", "uscl", "--data", str(cache), "--out", str(out / "run"), "--steps", "4", "--batch", "7"]
        sys.argv += ["--augment.size", "32", "--arch", "test_resnet", "--validation", "0.25"]
        pretrain.main()
