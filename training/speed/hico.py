"""Time a step of HiCo beside one of USCL.

    OMP_NUM_THREADS=1 python -m training.speed.hico
    OMP_NUM_THREADS=1 python -m training.speed.hico --arch vit_small_patch16_224 --bf16

Both take turns in one process on one thread. The ratio is that of the medians, and in brackets that of the fastest
rounds, which a busy machine disturbs least. Time is that of the process, so a machine shared with others only adds
noise. Parameters are those that are trained, over the backbone's.
"""

from functools import partial
from typing import Any

import timm
import torch
import tyro

from training.data.batches.batch import Batch
from training.methods.base import Method
from training.methods.hico import HiCo
from training.methods.uscl import USCL
from training.speed.timing import take_turns

SPECS: dict[str, USCL | HiCo] = {"USCL": USCL(), "HiCo": HiCo(), "HiCo, pyramid of 128": HiCo(pyramid_width=128)}


def step(net: Method, data: Batch, optimizer: torch.optim.Optimizer, bf16: bool) -> None:
    """One step of training."""
    optimizer.zero_grad()
    net.step(data, lambda: torch.autocast("cpu", torch.bfloat16, enabled=bf16), optimizer)
    optimizer.step()


def main(arch: str = "resnet18", batch: int = 8, size: int = 224, rounds: int = 7, bf16: bool = False) -> None:
    """Print the table.

    Args:
        arch: timm's name of the backbone.
        batch: clips; each has two views.
        size: of the views, pixels.
        rounds: turns of every method after the one that warms up.
        bf16: compute the forward pass under autocast.
    """
    torch.set_num_threads(1)
    args: dict[str, Any] = {"img_size": size, "global_pool": "avg"} if arch.startswith("vit") else {}
    data = Batch(torch.randn(2, batch, 1, size, size), torch.arange(batch) % 3, torch.arange(batch))
    nets, racing = {}, {}
    for name, spec in SPECS.items():
        net = spec.build(timm.create_model(arch, num_classes=0, in_chans=1, **args), classes=3)
        nets[name] = net.to(memory_format=torch.channels_last)
        racing[name] = partial(step, nets[name], data, torch.optim.AdamW(net.parameters()), bf16)
    times = take_turns(racing, rounds)
    print(f"{arch}, {batch} clips, {size} px, {rounds} rounds, torch {torch.__version__}")  # noqa: T201
    print(f"{'':22s}     ms       x USCL  parameters / backbone's")  # noqa: T201
    reference = times["USCL"]
    for name, net in nets.items():
        own = times[name]
        size_ratio = sum(p.numel() for p in net.parameters()) / sum(p.numel() for p in net.backbone.parameters())
        ratios = f"{own.cpu_median / reference.cpu_median:5.2f} ({own.cpu_least / reference.cpu_least:4.2f})"
        print(f"{name:22s} {own.cpu_median * 1e3:6.0f} {ratios}  {size_ratio:5.3f}")  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
