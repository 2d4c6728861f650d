"""What a step of Meta-USCL costs, beside a plain contrastive step and beside double backward.

    OMP_NUM_THREADS=1 python -m training.speed.meta_step
    OMP_NUM_THREADS=1 python -m training.speed.meta_step --size 112 --bf16 --memory

All forms take turns in one process, on one thread, from the same weights. "x plain" and "released / this" compare the
medians, and in brackets the fastest rounds, which a busy machine disturbs least. Error and cosine are those of
CMW-Net's gradient against double backward in float32. Memory is each form's own peak in a fresh process, over the
network and its optimiser.
"""

import copy
import gc
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
import tyro
from torch import Tensor
from torch.func import functional_call

from training.data.sampling import Batch
from training.losses import nt_xent, weighted_mean
from training.methods.meta_uscl import MetaUSCL, MetaUSCLNet

SPEC = MetaUSCL(features="attached", symmetric=False)


class Bench:
    """A network with its optimiser, a batch, and the ways to make a step of them.

    Args:
        arch: timm's name.
        batch: training clips, and as many meta clips.
        size: of the views, pixels.
    """

    def __init__(self, arch: str, batch: int, size: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        args: dict[str, Any] = {"img_size": size, "global_pool": "avg"} if arch.startswith("vit") else {}
        backbone = timm.create_model(arch, num_classes=0, in_chans=1, **args)
        self.net = MetaUSCLNet(backbone, SPEC).to(memory_format=torch.channels_last)
        # SGD as in the paper, with the momentum buffers that every step but the first has.
        self.optimiser = torch.optim.SGD(self.net.learner().parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
        views, meta = torch.randn(2, 2, batch, 1, size, size)
        self.batch = Batch(views, torch.full((batch,), -1), torch.arange(batch), meta=meta)
        self.plain(replace(self.batch, views=views[:, :2]))
        self.state = copy.deepcopy((self.net.state_dict(), self.optimiser.state_dict()))

    def rewind(self) -> None:
        """Back to the weights and buffers of the beginning."""
        self.net.load_state_dict(self.state[0])
        self.optimiser.load_state_dict(copy.deepcopy(self.state[1]))
        self.net.zero_grad()

    def plain(self, batch: Batch, bf16: bool = False) -> None:
        """A contrastive step without weights."""
        self.optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            _, embeddings = self.net(batch.views)
        self.net.contrast(embeddings).mean().backward()
        self.optimiser.step()

    def ours(self, batch: Batch, bf16: bool = False, derivative: Literal["forward", "difference"] = "forward") -> None:
        """The step as the method has it."""
        self.net.spec = replace(SPEC, derivative=derivative)
        self.optimiser.zero_grad()
        self.net.step(batch, lambda: torch.autocast("cpu", torch.bfloat16, enabled=bf16), self.optimiser)
        self.optimiser.step()

    def difference(self, batch: Batch, bf16: bool = False) -> None:
        """The step with a finite difference."""
        self.ours(batch, bf16, "difference")

    def double_backward(self, batch: Batch, only_weights: bool = False) -> None:
        """The step with a second-order graph; the released code's backward() also goes on to every other parameter."""
        net, weigher = self.net, self.net.weigher
        theta: dict[str, torch.Tensor] = {
            name: p for name, p in net.named_parameters() if not name.startswith("weigher.")
        }
        self.optimiser.zero_grad()
        weigher.zero_grad()
        representations, embeddings = functional_call(net, theta, (batch.views,))
        loss = weighted_mean(net.contrast(embeddings), weigher(representations))
        gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        ahead = {}
        for (name, p), gradient in zip(theta.items(), gradients, strict=True):
            buffer = self.optimiser.state[p]["momentum_buffer"]
            ahead[name] = p - 0.1 * (0.9 * buffer + gradient + 1e-4 * p)
        first, second = functional_call(net, ahead, (batch.meta,))[1]
        meta = nt_xent(first, second, SPEC.temperature).mean()
        if only_weights:
            phi = list(weigher.parameters())
            for p, gradient in zip(phi, torch.autograd.grad(meta, phi), strict=True):
                p.grad = gradient
        else:
            meta.backward()
        del representations, embeddings, loss, gradients, ahead, meta
        net.weigher_optimiser.step()
        self.optimiser.zero_grad()
        representations, embeddings = net(batch.views)
        with torch.no_grad():
            weights = weigher(representations)
        weighted_mean(net.contrast(embeddings), weights).backward()
        self.optimiser.step()

    def double_backward_only_weights(self, batch: Batch) -> None:
        """As `double_backward`, but for CMW-Net's gradient alone."""
        self.double_backward(batch, only_weights=True)

    def forms(self, bf16: bool) -> dict[str, Callable[[], None]]:
        """The ways to make a step, by name."""
        steps: dict[str, Callable[..., None]] = {
            "plain": self.plain,
            "double backward, as released": self.double_backward,
            "double backward, CMW-Net only": self.double_backward_only_weights,
            "ours": self.ours,
            "ours, finite difference": self.difference,
        }
        forms: dict[str, Callable[[], None]] = {name: partial(step, self.batch) for name, step in steps.items()}
        if bf16:
            forms["plain, bf16"] = lambda: self.plain(self.batch, bf16=True)
            forms["ours, bf16"] = lambda: self.ours(self.batch, bf16=True)
        return forms

    def gradient(self) -> Tensor:
        """The last gradient of CMW-Net, or an empty one."""
        return torch.cat(
            [torch.empty(0), *[p.grad.flatten() for p in self.net.weigher.parameters() if p.grad is not None]]
        )


def peak_memory(form: str, arch: str, batch: int, size: int) -> float:
    """Peak of a form over what is there before it, MB; to be called in a fresh process."""
    bench = Bench(arch, batch, size)
    step = bench.forms(bf16=True)[form]
    gc.collect()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6


def main(
    arch: str = "resnet18", batch: int = 32, size: int = 64, rounds: int = 5, bf16: bool = False, memory: bool = False
) -> None:
    """Print the table.

    Args:
        arch: timm's name of the backbone.
        batch: training clips, and as many meta clips.
        size: of the views, pixels.
        rounds: turns of every form after the one that warms up.
        bf16: also time the steps under autocast.
        memory: also measure each form's peak, in a process of its own (Linux).
    """
    bench = Bench(arch, batch, size)
    forms = bench.forms(bf16)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    gradients = {}
    for turn in range(rounds + 1):
        for name, step in forms.items():
            bench.rewind()
            begun = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begun)
            gradients[name] = bench.gradient()
            if not turn:
                seconds[name].clear()  # warming up
    peaks: dict[str, float] = {}
    if memory:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            peaks = {name: pool.submit(peak_memory, name, arch, batch, size).result() for name in forms}
    median, least = ({n: reduce(s) for n, s in seconds.items()} for reduce in (np.median, min))
    released, exact = "double backward, as released", gradients["double backward, as released"]
    print(f"{arch}, {batch} + {batch} clips, {size} px, {rounds} rounds, torch {torch.__version__}")  # noqa: T201
    print(f"{'':30s}      ms     x plain  released/this    error   cosine    MB")  # noqa: T201
    for name in forms:
        row = f"{name:30s} {median[name] * 1e3:7.0f}"
        row += f" {median[name] / median['plain']:5.2f} ({least[name] / least['plain']:4.2f})"
        row += f"  {median[released] / median[name]:5.2f} ({least[released] / least[name]:4.2f})"
        if len(gradients[name]):
            error = float((gradients[name] - exact).norm() / exact.norm())
            row += f"  {error:7.1e} {float(torch.cosine_similarity(gradients[name], exact, dim=0)):8.5f}"
        print(row + (f" {peaks[name]:5.0f}" if peaks else ""))  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
