"""Communication between processes; with a single process nothing here needs any set-up or costs anything.

Every process calls the collective functions at the same point, with tensors of the same shape: all have batches of the
same size, which the sampler sees to.

Gradients are averaged after the backward pass, not by torch's DistributedDataParallel. That hooks one backward() of one
forward(); a look-ahead takes three gradients and a pass in forward mode, and a batch in chunks has a backward() each.
What it would hide is the time of one all-reduce, which `training.speed.plan` adds to the step.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed
from torch.autograd import forward_ad

BUCKET = 25 * 2**20  # bytes that are averaged in one go: enough to use a network's bandwidth, a small copy

_alone = False


def world_size() -> int:
    """How many processes train together; 1 outside a process group."""
    if _alone or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def rank() -> int:
    """The number of this process, 0 .. world_size() - 1; 0 outside a process group."""
    return distributed.get_rank() if world_size() > 1 else 0


@contextmanager
def joined() -> Iterator[None]:
    """Within the block the processes that torchrun started are one group, each with a GPU of its own if it has any.

    A block within a block is of the same group: gloo cannot form a second one after the first has gone, since a process
    may find the address that another had in the first.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")
    yield
    # Not after an error: the others may be waiting in a collective that this process will never enter.
    distributed.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this process computes as if it were the only one."""
    global _alone
    earlier, _alone = _alone, True
    try:
        yield
    finally:
        _alone = earlier


def gather(x: Tensor) -> Tensor:
    """The rows of all processes: [N, ...] -> [world_size() * N, ...], in the order of the ranks; differentiable.

    Backward *sums* over the processes what each of them wants of this one's rows: an embedding is a negative in the
    losses of the others too. Without that sum the loss is right and the gradient is not, by about 30 % on two
    processes. With a loss that is a mean over this process' anchors, and gradients that are averaged over the
    processes, the outcome is the gradient of the mean over the anchors of all processes. A tangent of forward mode is
    gathered as its primal is, since gathering is linear.
    """
    if world_size() == 1:
        return x
    primal, tangent = forward_ad.unpack_dual(x)
    if tangent is None:
        return _Gather.apply(x)
    return forward_ad.make_dual(_Gather.apply(primal), _Gather.apply(tangent))


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


def averaged(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The same tensors, each now the mean over the processes; all processes hold the same bits of it."""
    if world_size() > 1:
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket])
            distributed.all_reduce(flat)
            flat /= world_size()
            for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.detach().copy_(part.view(tensor.shape))
    return tensors


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Average the gradients over the processes.

    A parameter that only some processes have used (a classifier, where only they have labels) counts as zero in the
    others; one that nobody has used keeps no gradient, so that the optimizer leaves it as a single process would.
    """
    if world_size() == 1:
        return
    held = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([parameter.grad is not None for parameter in held], dtype=torch.float32, device=held[0].device)
    distributed.all_reduce(used)
    gradients = []
    for parameter, processes in zip(held, used.tolist(), strict=True):
        if processes:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    averaged(gradients)


def anyone(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process."""
    if world_size() == 1:
        return flag
    flags = torch.tensor(float(flag), device=device)
    distributed.all_reduce(flags)
    return bool(flags)


def of_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of process 0."""
    if world_size() > 1:
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            distributed.broadcast(whole, 0)
            tensor.detach().copy_(whole)


def texts(text: str, device: torch.device) -> list[str]:
    """The texts of all processes, in the order of the ranks."""
    content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(device)
    lengths = gather(torch.tensor([len(content)], device=device)).tolist()
    rows = gather(torch.nn.functional.pad(content, (0, max(lengths) - len(content)))[None])
    return [row[:length].cpu().numpy().tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


def wait_for_all() -> None:
    """Return when every process is here."""
    if world_size() > 1:
        distributed.barrier()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type, about `BUCKET` bytes at a time."""
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        bucket: list[Tensor] = []
        for tensor in tensors:
            if tensor.dtype == dtype:
                bucket.append(tensor)
                if sum(t.nbytes for t in bucket) >= BUCKET:
                    yield bucket
                    bucket = []
        if bucket:
            yield bucket
