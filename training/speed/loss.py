"""NT-Xent, forward and backward: ours beside lightly's (`pip install lightly`).

    python -m training.speed.loss

prints one table. Both sides run one thread, in turn, in one process, on the same embeddings; a time is the least of all
runs, since other work on the machine only ever adds. Times are CPU seconds, and the wall clock's ratio stands beside
them. Memory is what the process holds at its peak above what it held before the call, each in a process of its own.
"""

import functools
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from torch import Tensor

from training.losses import nt_xent

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


def step(loss: Loss, first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """One forward and backward: the loss, CPU seconds, wall seconds."""
    first.grad = second.grad = None
    cpu, wall = time.process_time(), time.perf_counter()
    value = loss(first, second)
    value.backward()
    return value.item(), time.process_time() - cpu, time.perf_counter() - wall


def race(pairs: int, seconds: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Least (CPU, wall) seconds of lightly and of ours, which run in turn for `seconds`, but three times at least."""
    first, second = embeddings(pairs)
    losses = lightly, ours
    runs: list[list[tuple[float, float, float]]] = [[], []]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(runs[0]) < 3:
        for loss, done in zip(losses, runs, strict=True):
            done.append(step(loss, first, second))
    theirs, mine = (run[0][0] for run in runs)
    if abs(theirs - mine) > 1e-4 * theirs:
        raise RuntimeError(f"the two losses differ at N = {pairs}: lightly {theirs}, ours {mine}")
    least = [(min(cpu for _, cpu, _ in run), min(wall for _, _, wall in run)) for run in runs]
    return least[0], least[1]


def alone(loss: Loss, pairs: int) -> tuple[float, float]:
    """Peak memory above the base, MB, and CPU seconds of one call in a process of its own (Linux)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_alone, (loss, pairs))


def _alone(loss: Loss, pairs: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    step(loss, *embeddings(32))  # what is loaded at the first call is not the loss'
    first, second = embeddings(pairs)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    base = _resident("VmRSS")
    _, cpu, _ = step(loss, first, second)
    return (_resident("VmHWM") - base) / 1e6, cpu


def _resident(field: str) -> int:
    """Bytes of this process' memory: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


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
        (their_cpu, their_wall), (our_cpu, our_wall) = race(count, seconds)
        times = f"{their_cpu * 1e3:.2f} | {our_cpu * 1e3:.2f} | {their_cpu / our_cpu:.2f} | {their_wall / our_wall:.2f}"
        memory = [f"{alone(loss, count)[0]:.0f}" if linux and count >= 4096 else "" for loss in (lightly, ours)]
        print(f"| {count} | {times} | {' | '.join(memory)} |", flush=True)  # noqa: T201
    if linux:
        megabytes, cpu = alone(ours, 16384)
        print(f"| 16384 | | {cpu * 1e3:.0f} | | | | {megabytes:.0f} |")  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
