"""Two gloo processes against one, in float64: every loss and every gradient, and gathers that are wrong on purpose."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.distributed import gather, rank, world_size
from training.losses import (
    contrastive,
    labelled_cross_entropy,
    nt_xent,
    other_view,
    same_class,
    weighted_mean,
)

WORLD = 2
CLIPS = 8
TEMPERATURE = 0.2


class OwnRowsOnly(torch.autograd.Function):
    """Gathers, and in backward forgets what the other processes want of this one's rows."""

    @staticmethod
    def forward(ctx, x):
        return gather(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.chunk(WORLD)[rank()]


def by_hand(z, gathered, positives):
    """NT-Xent of z [2, N, C] as a cross-entropy over the keys that `gathered` gives; positives index them."""
    z = nn.functional.normalize(z.flatten(0, 1), dim=1)
    keys = gathered(z)
    first = rank() * len(z) if len(keys) > len(z) else 0
    logits = z @ keys.T / TEMPERATURE
    itself = torch.arange(len(z))[:, None] + first == torch.arange(len(keys))
    return nn.functional.cross_entropy(logits.masked_fill(itself, float("-inf")), positives)


def halves(count, first):
    """Where the other views are if `count` keys that begin at `first` are all first views and then all second."""
    return first + (torch.arange(count) + count // 2) % count


RIGHT = {
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
    "labels": lambda net, x, labels, z: labelled_cross_entropy(net.classifier(z[0]), labels),
    "by hand": lambda net, x, labels, z: by_hand(z, gather, halves(2 * z.shape[1], rank() * 2 * z.shape[1])),
}
WRONG = {
    "no gather": lambda net, x, labels, z: by_hand(z, lambda keys: keys, halves(2 * z.shape[1], 0)),
    "no reduce": lambda net, x, labels, z: by_hand(
        z, OwnRowsOnly.apply, halves(2 * z.shape[1], rank() * 2 * z.shape[1])
    ),
    "wrong order": lambda net, x, labels, z: by_hand(z, gather, halves(WORLD * 2 * z.shape[1], 0).chunk(WORLD)[rank()]),
}


class Network(nn.Module):
    """A projector, a weigher of pairs and a classifier, the same in every process."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.projector = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
        self.weigher = nn.Linear(6, 1)
        self.classifier = nn.Linear(5, 3)
        self.double()

    def forward(self, loss, x, labels):
        return loss(self, x, labels, self.projector(x))


def outcome(loss, module, x, labels):
    """The loss and all gradients as one vector."""
    module.zero_grad()
    value = module(loss, x, labels)
    value.backward()
    value = value.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(value)
    gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return torch.cat([value[None] / world_size(), *gradients])


def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, CLIPS, 6, dtype=torch.float64, generator=generator)
    # the two halves have different numbers of labelled clips, and of clips a class
    return x, torch.tensor([0, 1, 1, 2, -1, 0, -1, -1])


def process(number, folder):
    """One of two processes: all losses on its half of the batch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=WORLD)
    x, labels = batch()
    mine = slice(number * CLIPS // WORLD, (number + 1) * CLIPS // WORLD)
    found = {}
    for name, loss in (RIGHT | WRONG).items():
        # made anew, since a loss does not use all parameters and each uses others
        module = DistributedDataParallel(Network(), find_unused_parameters=True)
        found[name] = outcome(loss, module, x[:, mine], labels[mine])
    found |= cubes(number)
    save_file(found, folder / f"{number}.safetensors")
    distributed.destroy_process_group()


def cubes(number):
    """First and second derivative of the sum over the processes of (number + 1) * sum of y**3, y the gathered x."""
    x = (torch.arange(3.0) + 10 * number).requires_grad_()
    y = gather(x)
    (slope,) = torch.autograd.grad((number + 1) * (y**3).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    return {"gathered": y.detach(), "slope": slope.detach(), "curvature": curvature}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of the two processes found, by name."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(process, (folder,), nprocs=WORLD)
    return [load_file(folder / f"{number}.safetensors") for number in range(WORLD)]


def relative_error(value, truth):
    return float((value - truth).norm() / truth.norm())


@pytest.mark.parametrize("name", RIGHT)
def test_two_processes_give_the_loss_and_gradients_of_one(found, name):
    one = outcome(RIGHT[name], Network(), *batch())
    assert one[1:].norm() > 1e-3
    for result in found:
        assert relative_error(result[name][:1], one[:1]) < 1e-12
        assert relative_error(result[name][1:], one[1:]) < 1e-12


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gather_is_seen_in_the_gradient(found, name):
    one = outcome(RIGHT["by hand"], Network(), *batch())
    for result in found:
        assert relative_error(result[name][1:], one[1:]) > 0.05


def test_a_gather_without_reduce_cannot_be_seen_in_the_loss(found):
    one = outcome(RIGHT["by hand"], Network(), *batch())
    for result in found:
        assert relative_error(result["no reduce"][:1], one[:1]) < 1e-12


def test_gather_is_in_the_order_of_the_ranks_and_twice_differentiable(found):
    for number, result in enumerate(found):
        x = torch.arange(3.0) + 10 * number
        assert result["gathered"].tolist() == [0, 1, 2, 10, 11, 12]
        torch.testing.assert_close(result["slope"], 3 * x**2 * (1 + 2))
        torch.testing.assert_close(result["curvature"], 6 * x * (1 + 2))


def test_a_single_process_needs_no_group_and_copies_nothing():
    x = torch.randn(3, 2)
    assert (world_size(), rank()) == (1, 0)
    assert gather(x) is x
