"""Where an optimiser's next step would put the parameters, and how that depends on their gradients.

The steps of SGD, Adam and AdamW treat each weight by itself, so the derivative dtheta'/dg is one number a weight.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor


class LookaheadError(ValueError):
    """An optimizer whose step cannot be looked ahead of."""


def virtual_step(
    optimizer: torch.optim.Optimizer, gradients: Mapping[Tensor, Tensor]
) -> dict[Tensor, tuple[Tensor, Tensor | float]]:
    """For each parameter where the optimiser's next step would put it, and dtheta'/dg, weight by weight.

    Args:
        optimizer: SGD, Adam or AdamW of torch.optim; neither it nor its state is changed.
        gradients: of the parameters that it holds.

    Raises:
        LookaheadError: for any other optimizer.
    """
    update = _UPDATES.get(type(optimizer))
    unusual = [key for key in ("amsgrad", "maximize") if any(group.get(key) for group in optimizer.param_groups)]
    if update is None or unusual:
        raise LookaheadError(
            f"cannot look ahead of {type(optimizer).__name__}{''.join(f' with {key}' for key in unusual)}: only the "
            "derivative of the steps of SGD, Adam and AdamW is known. Set --optimiser momentum, adam or adamw"
        )
    with torch.no_grad():
        return {
            parameter: update(parameter.detach(), gradients[parameter], group, optimizer.state.get(parameter, {}))
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter in gradients
        }


def _sgd(theta: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> tuple[Tensor, float]:
    # theta' = theta - rate * (own * (g + decay * theta) + old * buffer)
    momentum, buffer = group["momentum"], state.get("momentum_buffer")
    own, old = 1.0 if buffer is None else 1.0 - group["dampening"], momentum
    if group["nesterov"]:
        own, old = 1 + momentum * own, momentum**2
    slope = -group["lr"] * own
    ahead = theta.mul(1 + slope * group["weight_decay"]).add_(g, alpha=slope)
    if buffer is not None:
        ahead.add_(buffer, alpha=-group["lr"] * old)
    return ahead, slope


def _adam(
    theta: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any], decoupled: bool = False
) -> tuple[Tensor, Tensor]:
    rate, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
    if group.get("decoupled_weight_decay", decoupled):
        theta = theta * (1 - rate * decay)
    else:
        g = g.add(theta, alpha=decay)
    step = float(state["step"]) + 1 if state else 1.0
    mean, square = (1 - beta1) * g, (1 - beta2) * g**2
    if state:
        mean, square = mean + beta1 * state["exp_avg"], square + beta2 * state["exp_avg_sq"]
    mean, square = mean / (1 - beta1**step), square / (1 - beta2**step)
    root = square.sqrt()
    scale = root + group["eps"]
    # Where the root is 0 no gradient was ever seen, g is 0 too, and the root does not bend.
    bend = (1 - beta2) / (1 - beta2**step) * g / root.clamp(min=torch.finfo(root.dtype).tiny)
    slope = ((1 - beta1) / (1 - beta1**step) - mean / scale * bend) / scale
    return theta - rate * mean / scale, -rate * slope


_UPDATES: dict[type, Callable[..., tuple[Tensor, Tensor | float]]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: partial(_adam, decoupled=True),
}
