"""The virtual step and its derivative against the optimizers themselves."""

import pytest
import timm.optim
import torch
from torch import nn

from training.nn.optimizer_step import LookaheadError, virtual_step

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2, nesterov=True),
    "dampened": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.3),
    "adam": lambda p: torch.optim.Adam(p, 1e-2, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=1e-1),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_virtual_step_is_the_optimisers(kind):
    torch.manual_seed(0)
    first, second, unseen = (nn.Parameter(torch.randn(5, 3, dtype=torch.float64)) for _ in range(3))
    optimizer = OPTIMIZERS[kind]([{"params": [first]}, {"params": [second, unseen], "lr": 0.03, "weight_decay": 0.0}])
    for _ in range(3):
        gradients = {first: torch.randn_like(first), second: torch.randn_like(second)}
        gradients[first][0] = 0
        before = first.detach().clone(), second.detach().clone()
        stepped = virtual_step(optimizer, gradients)
        for parameter, value in zip((first, second), before, strict=True):
            assert parameter.equal(value)
        tiny = 1e-7

        def moved(parameter, by, gradients=gradients):
            shifted = {p: g + by * (p is parameter) for p, g in gradients.items()}
            return virtual_step(optimizer, shifted)[parameter][0]

        for parameter in (first, second):
            slope = torch.as_tensor(stepped[parameter][1], dtype=torch.float64).expand(5, 3)
            difference = (moved(parameter, tiny) - moved(parameter, -tiny)) / (2 * tiny)
            seen = gradients[parameter].abs() > 1e-3
            torch.testing.assert_close(slope[seen], difference[seen], rtol=1e-4, atol=1e-6)
            assert torch.isfinite(slope).all()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        optimizer.step()
        for parameter in (first, second):
            torch.testing.assert_close(stepped[parameter][0], parameter.detach(), rtol=1e-12, atol=1e-14)
    assert unseen not in stepped


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.RMSprop(p),
        lambda p: torch.optim.Adam(p, amsgrad=True),
        lambda p: torch.optim.SGD(p, 0.1, maximize=True),
        lambda p: timm.optim.create_optimizer_v2(p, opt="lars", lr=0.1),
    ],
)
def test_other_optimizers_are_refused(optimizer):
    parameter = nn.Parameter(torch.ones(2))
    with pytest.raises(LookaheadError, match=r"cannot look ahead of .*--optimiser momentum, adam or adamw"):
        virtual_step(optimizer([parameter]), {parameter: torch.ones(2)})
