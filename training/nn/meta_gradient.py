"""The meta-gradient of a look-ahead, without a second-order graph.

A small network with parameters phi takes part in the loss L(theta, phi) on which a large one, theta, is trained. Look
one step of the optimizer ahead, theta' = step(theta, g) with g = dL/dtheta, and ask how phi should change for theta' to
do better on other data, M(theta'). Differentiating through g would build a graph of the large network's backward pass.
But the optimizers here treat each weight by itself, so

    dM/dphi = sum_j v_j * dtheta'_j/dg_j * dg_j/dphi = d/dphi <g(phi), d>,     v = dM/dtheta',  d = v * dtheta'/dg

and <g, d> is the slope of L at theta in the direction d: one pass of the large network in forward mode, whatever the
size of phi, and then only what lies behind the network's outputs is differentiated with respect to phi. This is exact.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from training.nn.distributed import averaged
from training.nn.forward_mode import Record, Replay, Tape
from training.nn.optimizer_step import LookaheadError as LookaheadError
from training.nn.optimizer_step import virtual_step
from training.nn.rng import replayed, torch_state

Outputs = tuple[Tensor, ...]
Loss = Callable[..., Tensor]


class Lookahead:
    """One step's look ahead: `forward`, then `meta_gradient`; the outputs' graph stays, to train on.

    The pass in forward mode sees the same dropout and drop path as `forward`, batch statistics without touching running
    ones, and attention in its plain form, since the fused kernels have no forward mode.

    Args:
        network: called on views; returns tensors. theta are those of its parameters that the optimizer holds.
        optimizer: SGD, Adam or AdamW of torch.optim, in the state before the step.
        autocast: makes the context in which the network is computed.
        derivative: "forward" is forward mode. "difference" is a central difference in float32 or better, for networks
            with an operator that has no forward mode; its relative error is about 1e-3 in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        autocast: Callable[[], AbstractContextManager[Any]],
        derivative: Literal["forward", "difference"] = "forward",
    ) -> None:
        self.network, self.optimizer, self.autocast, self.derivative = network, optimizer, autocast, derivative
        held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        self.parameters = {name: p for name, p in network.named_parameters() if p in held and p.requires_grad}
        self.tape: Tape = deque()

    def forward(self, views: Tensor) -> Outputs:
        """The network's outputs on the training views, as its own call would give them."""
        self.views, self.random = views, torch_state(views.device)
        with sdpa_kernel(SDPBackend.MATH), Record(self.tape), self.autocast():
            self.outputs: Outputs = self.network(views)
        return self.outputs

    def meta_gradient(
        self, inner: Loss, outer: Loss, views: Tensor, phi: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Tensor]:
        """The gradient of `outer` one step ahead with respect to phi, and the value of `outer` there.

        Args:
            inner: outputs -> L, the scalar that the step is to lower, a function of phi too.
            outer: outputs -> M, the scalar on the meta views.
            views: the meta views.
            phi: parameters that `inner` depends on.

        With several processes `inner` and `outer` are each one's share of a mean, and all get the same gradient.
        """
        theta = self.parameters
        gradients = averaged(
            torch.autograd.grad(inner(*self.outputs), list(theta.values()), retain_graph=True, materialize_grads=True)
        )
        stepped = virtual_step(self.optimizer, dict(zip(theta.values(), gradients, strict=True)))
        ahead = {name: stepped[p][0].requires_grad_() for name, p in theta.items()}
        with without_running_statistics(self.network):
            with self.autocast():
                outputs = functional_call(self.network, ahead, (views,))
            meta = outer(*outputs)
            v = averaged(torch.autograd.grad(meta, list(ahead.values()), materialize_grads=True))
            direction = {name: g * stepped[p][1] for (name, p), g in zip(theta.items(), v, strict=True)}
            slope = self._slope(inner, direction)
        return averaged(torch.autograd.grad(slope, list(phi), materialize_grads=True)), meta.detach()

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
            with Replay(self.tape), self.autocast():
                outputs = self._again(duals)
            return forward_ad.unpack_dual(inner(*outputs)).tangent

    @torch.no_grad()
    def _again(self, parameters: dict[str, Tensor]) -> Outputs:
        """The training views through other parameters, with the random numbers of `forward`."""
        with replayed(self.random, self.views.device), sdpa_kernel(SDPBackend.MATH):
            return functional_call(self.network, parameters, (self.views,))


@contextmanager
def without_running_statistics(network: nn.Module) -> Iterator[None]:
    """Within the block BatchNorm normalises as ever, but neither updates its running statistics nor counts."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
