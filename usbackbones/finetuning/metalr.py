"""MetaLR: learning rates of the layers, learned during training (Chen et al., MICCAI 2023).

Take one virtual step of plain gradient descent, theta' = theta - lr_j g_j in each group j of layers, with the gradient
g of a training batch, and ask how the loss M of another batch at theta' changes with the rates:

    dM(theta') / dlr_j = -<dM/dtheta'_j, g_j>

Both factors are first-order gradients. The rates then descend: lr_j <- lr_j - eta dM/dlr_j, within bounds. The released
code steps the other way (theta + lr g) and multiplies; this is the paper's formula.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class MetaLR:
    """How the learning rates are learned.

    Attributes:
        eta: step size of the learning rates' own descent.
        lowest: lower bound of every learning rate.
        highest: upper bound of every learning rate.
    """

    eta: float = 0.1
    lowest: float = 1e-6
    highest: float = 1e-2


def groups_of_layers(model: nn.Module) -> list[list[nn.Parameter]]:
    """Trainable parameters by layer, from the stem to the head, in the grouping that timm keeps for layer decay."""
    from timm.models import group_parameters

    named = dict(model.named_parameters())
    order = group_parameters(model, model.group_matcher(coarse=False))  # type: ignore[operator]
    groups = [[named[name] for name in names if named[name].requires_grad] for _, names in sorted(order.items())]
    return [group for group in groups if group]


def rate_gradients(
    groups: Sequence[Sequence[nn.Parameter]], rates: Sequence[float], train: Loss, meta: Loss
) -> tuple[list[float], list[list[Tensor]]]:
    """dM(theta')/dlr_j of every group of layers, and the gradient g of the training batch at theta.

    `train` and `meta` give the losses of the two batches. The parameters are put back to the bit; buffers (running
    statistics) are the caller's to freeze.
    """
    flat: list[Tensor] = [parameter for group in groups for parameter in group]
    found = torch.autograd.grad(train(), flat, allow_unused=True)
    taken = iter(g if g is not None else torch.zeros_like(p) for p, g in zip(flat, found, strict=True))
    gradients = [[next(taken) for _ in group] for group in groups]
    before = [parameter.detach().clone() for parameter in flat]
    with torch.no_grad():
        for group, own, rate in zip(groups, gradients, rates, strict=True):
            torch._foreach_add_(list(group), own, alpha=-rate)
    ahead = torch.autograd.grad(meta(), flat, allow_unused=True)
    with torch.no_grad():
        torch._foreach_copy_(flat, before)
    there = iter(ahead)
    slopes = []
    for own in gradients:
        products = [(g * v).sum() for g in own if (v := next(there)) is not None]
        slopes.append(-float(torch.stack(products).sum()) if products else 0.0)
    return slopes, gradients


def backward_and_learn_rates(optimizer: torch.optim.Optimizer, train: Loss, meta: Loss, spec: MetaLR) -> None:
    """Fill the gradients of a training batch, and step the learning rates of the groups, one a layer, that learn.

    `train` and `meta` give the losses of two batches; a layer whose parameters are all frozen keeps its learning rate.
    """
    live = [group for group in optimizer.param_groups if any(p.requires_grad for p in group["params"])]
    layers = [[p for p in group["params"] if p.requires_grad] for group in live]
    rates = [group["lr"] for group in live]
    slopes, gradients = rate_gradients(layers, rates, train, meta)
    for group, rate in zip(live, learn_rates(rates, slopes, spec), strict=True):
        group["lr"] = rate
    for layer, own in zip(layers, gradients, strict=True):
        for parameter, gradient in zip(layer, own, strict=True):
            parameter.grad = gradient


def learn_rates(rates: Sequence[float], slopes: Sequence[float], spec: MetaLR) -> list[float]:
    """The learning rates after one step of their own descent, within their bounds."""
    moved = (rate - spec.eta * slope for rate, slope in zip(rates, slopes, strict=True))
    return [min(max(rate, spec.lowest), spec.highest) for rate in moved]
