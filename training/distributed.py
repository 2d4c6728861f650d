"""What one process needs to know of the others; with a single process nothing here needs any set-up or costs anything.

Every process calls the collective functions at the same point, with tensors of the same shape: all have batches of the
same size, which the sampler sees to.
"""

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """How many processes train together; 1 outside a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 .. world_size() - 1; 0 outside a process group."""
    return distributed.get_rank() if world_size() > 1 else 0


def gather(x: Tensor) -> Tensor:
    """The rows of all processes: [N, ...] -> [world_size() * N, ...], in the order of the ranks; differentiable.

    Backward *sums* over the processes what each of them wants of this one's rows: an embedding is a negative in the
    losses of the others too. Without that sum the loss is right and the gradient is not, by about 30 % on two
    processes. With a loss that is a mean over this process' anchors, and gradients that DistributedDataParallel
    averages, the outcome is the gradient of the mean over the anchors of all processes.
    """
    return x if world_size() == 1 else _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        rows = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
        distributed.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return _SumOwnRows.apply(grad)


class _SumOwnRows(torch.autograd.Function):
    """The transpose of `_Gather`, and as a function of its own so that the gradient can be differentiated again."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(world_size())[rank()].clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return _Gather.apply(grad)
