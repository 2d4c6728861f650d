"""The meta-gradient of a look-ahead, without a second-order graph.

A small network with parameters phi takes part in the loss L(theta, phi) on which a large one, theta, is trained. Look
one step of the optimiser ahead, theta' = step(theta, g) with g = dL/dtheta, and ask how phi should change for theta' to
do better on other data, M(theta'). Differentiating through g would build a graph of the large network's backward pass.
But the optimisers here treat each weight by itself, so

    dM/dphi = sum_j v_j * dtheta'_j/dg_j * dg_j/dphi = d/dphi <g(phi), d>,     v = dM/dtheta',  d = v * dtheta'/dg

and <g, d> is the slope of L at theta in the direction d: one pass of the large network in forward mode, whatever the
size of phi, and then only what lies behind the network's outputs is differentiated with respect to phi. This is exact.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

Outputs = tuple[Tensor, ...]
Loss = Callable[..., Tensor]
Tape = deque[tuple[Tensor, int]]  # outputs with their versions


class LookaheadError(ValueError):
    """An optimiser whose step cannot be looked ahead of."""


class Lookahead:
    """One step's look ahead: `forward`, then `meta_gradient`; the outputs' graph stays, to train on.

    The pass in forward mode sees the same dropout and drop path as `forward`, batch statistics without touching running
    ones, and attention in its plain form, since the fused kernels have no forward mode.

    Args:
        network: called on views; returns tensors. theta are those of its parameters that the optimiser holds.
        optimiser: SGD, Adam or AdamW of torch.optim, in the state before the step.
        autocast: makes the context in which the network is computed.
        derivative: "forward" is forward mode. "difference" is a central difference in float32 or better, for networks
            with an operator that has no forward mode; its relative error is about 1e-3 in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        autocast: Callable[[], AbstractContextManager[Any]],
        derivative: Literal["forward", "difference"] = "forward",
    ) -> None:
        self.network, self.optimiser, self.autocast, self.derivative = network, optimiser, autocast, derivative
        held = {parameter for group in optimiser.param_groups for parameter in group["params"]}
        self.parameters = {name: p for name, p in network.named_parameters() if p in held and p.requires_grad}
        self.tape: Tape = deque()

    def forward(self, views: Tensor) -> Outputs:
        """The network's outputs on the training views, as its own call would give them."""
        self.views, self.random = views, _random_state(views.device)
        with sdpa_kernel(SDPBackend.MATH), _Record(self.tape), self.autocast():
            self.outputs: Outputs = self.network(views)
        return self.outputs

    def meta_gradient(
        self, inner: Loss, outer: Loss, views: Tensor, phi: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The gradient of `outer` one step ahead with respect to phi, and the value of `outer` there.

        Args:
            inner: outputs -> L, the scalar that the step is to lower, a function of phi too.
            outer: outputs -> M, the scalar on the meta views.
            views: the meta views.
            phi: parameters that `inner` depends on.
        """
        theta = self.parameters
        gradients = torch.autograd.grad(
            inner(*self.outputs), list(theta.values()), retain_graph=True, materialize_grads=True
        )
        stepped = virtual_step(self.optimiser, dict(zip(theta.values(), gradients, strict=True)))
        ahead = {name: stepped[p][0].requires_grad_() for name, p in theta.items()}
        with _without_running_statistics(self.network):
            with self.autocast():
                outputs = functional_call(self.network, ahead, (views,))
            meta = outer(*outputs)
            v = torch.autograd.grad(meta, list(ahead.values()), materialize_grads=True)
            direction = {name: g * stepped[p][1] for (name, p), g in zip(theta.items(), v, strict=True)}
            slope = self._slope(inner, direction)
        return torch.autograd.grad(slope, list(phi), materialize_grads=True), meta.detach()

    def _slope(self, inner: Loss, direction: Mapping[str, Tensor]) -> Tensor:
        """Derivative of L(theta + t * direction) at t = 0, as a function of phi."""
        theta = {name: parameter.detach() for name, parameter in self.parameters.items()}
        if self.derivative == "difference":
            length = torch.stack([d.norm() for d in direction.values()]).norm()
            number = torch.finfo(length.dtype)
            # About 3e-4 in float32: long enough for the rounding of L, short enough for its curvature.
            t = 0.06 * number.eps ** (1 / 3) / length.clamp(min=number.tiny)
            above, below = (
                inner(*self._again({name: theta[name] + way * d for name, d in direction.items()})) for way in (t, -t)
            )
            return (above - below) / (2 * t)
        with forward_ad.dual_level():
            duals = {name: forward_ad.make_dual(theta[name], d) for name, d in direction.items()}
            with _Replay(self.tape), self.autocast():
                outputs = self._again(duals)
            return forward_ad.unpack_dual(inner(*outputs)).tangent

    @torch.no_grad()
    def _again(self, parameters: dict[str, Tensor]) -> Outputs:
        """The training views through other parameters, with the random numbers of `forward`."""
        device = self.views.device
        cuda = device.type == "cuda"
        with torch.random.fork_rng([device] if cuda else []), sdpa_kernel(SDPBackend.MATH):
            torch.set_rng_state(self.random[0])
            if cuda:
                torch.cuda.set_rng_state(self.random[1], device)
            return functional_call(self.network, parameters, (self.views,))


def virtual_step(
    optimiser: torch.optim.Optimizer, gradients: Mapping[Tensor, Tensor]
) -> dict[Tensor, tuple[Tensor, Tensor | float]]:
    """For each parameter where the optimiser's next step would put it, and dtheta'/dg, weight by weight.

    Args:
        optimiser: SGD, Adam or AdamW of torch.optim; neither it nor its state is changed.
        gradients: of the parameters that it holds.

    Raises:
        LookaheadError: for any other optimiser.
    """
    update = _UPDATES.get(type(optimiser))
    unusual = [key for key in ("amsgrad", "maximize") if any(group.get(key) for group in optimiser.param_groups)]
    if update is None or unusual:
        raise LookaheadError(
            f"cannot look ahead of {type(optimiser).__name__}{''.join(f' with {key}' for key in unusual)}: only the "
            "derivative of the steps of SGD, Adam and AdamW is known. Set --optimiser momentum, adam or adamw"
        )
    with torch.no_grad():
        return {
            parameter: update(parameter.detach(), gradients[parameter], group, optimiser.state.get(parameter, {}))
            for group in optimiser.param_groups
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


class _Record(TorchFunctionMode):
    """Keeps the outputs of convolutions and linear layers, most of which the graph holds anyway."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function in (torch.conv2d, F.linear):
            self.tape.append((output.detach(), output._version))
        return output


class _Replay(TorchFunctionMode):
    """Forward mode, made cheaper for what costs most; every other operator has torch's own tangent.

    Convolutions and linear layers take their outputs from the tape, in the same order, and compute only the tangents:
    two products instead of three. An output that was changed in place since then is computed again.
    """

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.conv2d, F.linear):
            return self._linear(function, *args, **(kwargs or {}))
        if function is F.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _linear(
        self, function: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **options: Any
    ) -> Tensor:
        output, version = self.tape.popleft()
        (x, dx), (w, dw), (b, db) = (_primal_and_tangent(part) for part in (input, weight, bias))
        if dw is None or (b is not None and db is None):  # a frozen layer
            return function(input, weight, bias, *rest, **options)
        if output._version != version:
            output = function(x, w, b, *rest, **options)
        tangent = function(x, dw, db, *rest, **options)
        if dx is not None:
            tangent += function(dx, w, None, *rest, **options)
        return forward_ad.make_dual(output, tangent)

    def _batch_norm(
        self,
        input: Tensor,
        mean: Tensor | None,
        var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Batch norm, y = w n(x) + b, and its tangent: n has a symmetric Jacobian; its backward kernel applies it."""
        (x, dx), (w, dw), (b, db) = (_primal_and_tangent(part) for part in (input, weight, bias))
        if not training or mean is not None or x is None or w is None or b is None:
            return F.batch_norm(input, mean, var, weight, bias, training, momentum, eps)
        if dx is None or dw is None or db is None:
            return F.batch_norm(input, mean, var, weight, bias, training, momentum, eps)
        output, center, scale = torch.native_batch_norm(x, w, b, None, None, True, momentum, eps)
        tangent = torch.native_batch_norm(x, dw, db, None, None, True, momentum, eps)[0]
        tangent += torch.ops.aten.native_batch_norm_backward(
            dx, x, w, None, None, center, scale, True, eps, [True, False, False]
        )[0]
        return forward_ad.make_dual(output, tangent)


def _primal_and_tangent(tensor: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if tensor is None else tuple(forward_ad.unpack_dual(tensor))


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    cpu = torch.get_rng_state()
    return (cpu, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (cpu,)


@contextmanager
def _without_running_statistics(network: nn.Module) -> Iterator[None]:
    """Within the block BatchNorm normalises as ever, but neither updates its running statistics nor counts."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
