"""NT-Xent, forward and backward: ours beside lightly's (`pip install lightly`).

    python -m training.speed.loss

prints one table. Both sides run one thread, in turn, in one process, on the same embeddings; a time is the least of all
runs, since other work on the machine only ever adds. Times are CPU seconds, and the wall clock's ratio stands beside
them. Memory is what the process holds at its peak above what it held before the call, each in a process of its own.
"""

import functools
import sys
from collections.abc import Callable
from functools import partial

import torch
import tyro
from torch import Tensor

from training.nn.contrastive_loss import nt_xent
from training.speed.timing import Times, cpu_seconds, forget_peak, in_fresh_process, memory, take_turns

WIDTH = 256
TEMPERATURE = 0.5
Loss = Callable[[Tensor, Tensor], Tensor]


def ours(first: Tensor, second: Tensor) -> Tensor:
    """The mean over the anchors, dense or streamed as the size asks for."""
    return nt_xent(first, second, TEMPERATURE).mean()


@functools.cache
def _lightly() -> Loss:
    from lightly.loss import NTXentLoss

    return NTXentLoss(TEMPERATURE)


def lightly(first: Tensor, second: Tensor) -> Tensor:
    """The mean over the anchors, as lightly computes it."""
    return _lightly()(first, second)


def embeddings(pairs: int) -> tuple[Tensor, Tensor]:
    """Two views [pairs, WIDTH], leaves that want a gradient, the same in every process."""
    generator = torch.Generator().manual_seed(pairs)
    first, second = torch.randn(2, pairs, WIDTH, generator=generator)
    return first.requires_grad_(), second.requires_grad_()


def step(loss: Loss, first: Tensor, second: Tensor) -> float:
    """One forward and backward; the loss."""
    first.grad = second.grad = None
    value = loss(first, second)
    value.backward()
    return value.item()


def race(pairs: int, seconds: float) -> dict[str, Times]:
    """Both sides' times; they run in turn for `seconds`, but three times at least."""
    first, second = embeddings(pairs)
    losses = {"lightly": lightly, "ours": ours}
    theirs, mine = (step(loss, first, second) for loss in losses.values())
    if abs(theirs - mine) > 1e-4 * theirs:
        raise RuntimeError(f"the two losses differ at N = {pairs}: lightly {theirs}, ours {mine}")
    return take_turns({name: partial(step, loss, first, second) for name, loss in losses.items()}, 3, seconds)


def alone(loss: Loss, pairs: int) -> tuple[float, float]:
    """Peak memory above the base, MB, and CPU seconds of one call; to be called in a fresh process (Linux)."""
    torch.set_num_threads(1)
    step(loss, *embeddings(32))  # what is loaded at the first call is not the loss'
    first, second = embeddings(pairs)
    forget_peak()
    base, cpu = memory("VmRSS"), cpu_seconds()
    step(loss, first, second)
    return memory("VmHWM") - base, cpu_seconds() - cpu


def main(pairs: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096), seconds: float = 20.0) -> None:
    """Print the table.

    Args:
        pairs: batch sizes N at which the two race; embeddings are [N, 256].
        seconds: how long they race at each size, s; every size is run three times at least.
    """
    try:
        _lightly()
    except ImportError as error:
        sys.exit(f"error: {error}; the other side of this comparison comes with `pip install lightly`")
    torch.set_num_threads(1)
    linux = sys.platform == "linux"
    print("| N | lightly ms | ours ms | ratio | ratio, wall | lightly MB | ours MB |\n" + "|---:" * 7 + "|")  # noqa: T201
    for count in pairs:
        times = race(count, seconds)
        theirs, mine = times["lightly"], times["ours"]
        row = f"{theirs.cpu_least * 1e3:.2f} | {mine.cpu_least * 1e3:.2f} | "
        row += f"{theirs.cpu_least / mine.cpu_least:.2f} | {theirs.least / mine.least:.2f}"
        held = [
            f"{in_fresh_process(alone, loss, count)[0]:.0f}" if linux and count >= 4096 else ""
            for loss in (lightly, ours)
        ]
        print(f"| {count} | {row} | {' | '.join(held)} |", flush=True)  # noqa: T201
    if linux:
        megabytes, cpu = in_fresh_process(alone, ours, 16384)
        print(f"| 16384 | | {cpu * 1e3:.0f} | | | | {megabytes:.0f} |")  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
