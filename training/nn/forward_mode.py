"""A network's directional derivative at the price of two products a layer, where torch's forward mode takes three.

`Record` keeps the outputs of convolutions and linear layers of one pass. `Replay`, around a second pass of the same
network on the same input with tangents on its parameters, takes those outputs from the tape and computes the tangents
alone. Every other operator has torch's own tangent, so any network passes.
"""

from collections import deque
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

Tape = deque[tuple[Tensor, int]]  # outputs with their versions


class Record(TorchFunctionMode):
    """Keeps the outputs of convolutions and linear layers, most of which the graph holds anyway."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function in (torch.conv2d, F.linear):
            self.tape.append((output.detach(), output._version))
        return output


class Replay(TorchFunctionMode):
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
