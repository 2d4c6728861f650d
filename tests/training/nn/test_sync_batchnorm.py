"""BatchNorm over processes: with one process it is torch's. That n processes make one is in test_distributed.py."""

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.autograd import forward_ad

from training.errors import TrainingError
from training.nn.sync_batchnorm import SyncBatchNorm2d, SyncBatchNormAct2d, synchronize


def pair(make):
    """A norm of torch or timm, and a synchronised one with the same parameters."""
    norms = []
    for _ in range(2):
        torch.manual_seed(0)
        norm = make().double()
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias)
        norms.append(norm)
    holder = nn.Sequential(norms[1])
    synchronize(holder)
    return norms[0], holder[0]


MAKERS = {
    "plain": lambda: nn.BatchNorm2d(3),
    "with activation": lambda: BatchNormAct2d(3),
    "cumulative": lambda: nn.BatchNorm2d(3, momentum=None),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_output_gradients_and_running_statistics_are_torchs(make):
    ours, theirs = pair(make)[::-1]
    assert type(ours) in (SyncBatchNorm2d, SyncBatchNormAct2d)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = 5 + torch.randn(4, 3, 6, 5, dtype=torch.float64, generator=generator)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [norm(i) for norm, i in zip((ours, theirs), inputs, strict=True)]
        torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
        for output in outputs:
            (output**3).sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-10, atol=1e-10)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-10)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-12, atol=1e-12)


def test_it_has_a_forward_mode():
    ours, theirs = pair(MAKERS["plain"])[::-1]
    x, direction = torch.randn(2, 4, 3, 6, 5, dtype=torch.float64)
    step = 1e-6
    slope = (theirs(x + step * direction) - theirs(x - step * direction)) / (2 * step)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(ours(forward_ad.make_dual(x, direction))).tangent
    torch.testing.assert_close(tangent, slope, rtol=1e-6, atol=1e-6)


def test_bfloat16_is_normalised_in_float32():
    norm = pair(MAKERS["plain"])[1].float()
    x = (100 + torch.randn(8, 3, 16, 16)).bfloat16()
    expected = norm(x.float())
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x).float(), expected, rtol=1e-2, atol=1e-2)


def test_every_norm_of_a_network_is_replaced_and_an_unknown_one_refused():
    network = timm.create_model("test_efficientnet")
    names = [*network.state_dict()]
    synchronize(network)
    assert [*network.state_dict()] == names
    assert {type(m) for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {SyncBatchNormAct2d}
    with pytest.raises(TrainingError, match=r"0 is a BatchNorm1d.*--no-sync-batchnorm"):
        synchronize(nn.Sequential(nn.BatchNorm1d(3)))
