"""Time a step of Meta-USCL beside a plain contrastive step and beside double backward.

    OMP_NUM_THREADS=1 python -m training.speed.meta_step
    OMP_NUM_THREADS=1 python -m training.speed.meta_step --size 112 --bf16 --memory

All forms take turns in one process, on one thread, from the same weights. "x plain" and "released / this" compare the
medians, and in brackets the fastest rounds, which a busy machine disturbs least. Error and cosine are those of
CMW-Net's gradient against double backward in float32. Memory is each form's own peak in a fresh process, over the
network and its optimizer.
"""

import copy
import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
import timm
import torch
import tyro
from torch import Tensor
from torch.func import functional_call

from training.data.batches.batch import Batch
from training.methods.meta_uscl import MetaUSCL, MetaUSCLNet
from training.nn.contrastive_loss import nt_xent, weighted_mean
from training.speed.timing import in_fresh_process, memory, take_turns
from usbackbones.phantom.simulator import phantom_clip

SPEC = MetaUSCL(features="attached", symmetric=False)


class Phantoms:
    """Pairs of simulated frames, cropped, turned over and dimmed: on plain noise the gradients soon mean nothing."""

    def __init__(self, size: int) -> None:
        self.size, self.rng = size, np.random.default_rng(0)
        self.clips = [phantom_clip(patient, frames=4) for patient in range(16)]

    def pairs(self, count: int) -> Tensor:
        """Views float [2, count, 1, size, size]."""
        return torch.stack([torch.stack([self._view(clip) for _ in range(2)]) for clip in self._draw(count)], 1)

    def _draw(self, count: int) -> list[np.ndarray]:
        return [self.clips[number] for number in self.rng.integers(len(self.clips), size=count)]

    def _view(self, clip: np.ndarray) -> Tensor:
        frame = clip[self.rng.integers(len(clip))]
        side = self.rng.integers(len(frame) * 2 // 3, len(frame) + 1)
        top, left = self.rng.integers(len(frame) - side + 1, size=2)
        view = cv2.resize(frame[top : top + side, left : left + side], (self.size, self.size))
        view = view[:, :: self.rng.choice((-1, 1))] / 255 * self.rng.uniform(0.6, 1.4)
        return torch.from_numpy((view[None] - 0.3) / 0.25).float()


class Bench:
    """A network with its optimizer, a batch, and the ways to make a step of them.

    Args:
        arch: timm's name.
        batch: training clips, and as many meta clips.
        size: of the views, pixels.
        warm: plain steps before the beginning; the gradients of a fresh network are ill-conditioned.
    """

    def __init__(self, arch: str, batch: int, size: int, warm: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        args: dict[str, Any] = {"img_size": size, "global_pool": "avg"} if arch.startswith("vit") else {}
        backbone = timm.create_model(arch, num_classes=0, in_chans=1, **args)
        self.net = MetaUSCLNet(backbone, SPEC).to(memory_format=torch.channels_last)
        # SGD as in the paper; a small step makes the momentum buffers, which only the first step of a run is without.
        self.optimizer = torch.optim.SGD(self.net.learner().parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
        phantoms = Phantoms(size)
        unlabeled, clips = torch.full((batch,), -1), torch.arange(batch)
        self.batch = Batch(phantoms.pairs(batch), unlabeled, clips, meta=phantoms.pairs(batch))
        self.plain(replace(self.batch, views=self.batch.views[:, :2]))
        for _ in range(warm):
            self.plain(replace(self.batch, views=phantoms.pairs(batch)))
        self.state = copy.deepcopy((self.net.state_dict(), self.optimizer.state_dict()))

    def rewind(self) -> None:
        """Back to the weights and buffers of the beginning."""
        self.net.load_state_dict(self.state[0])
        self.optimizer.load_state_dict(copy.deepcopy(self.state[1]))
        self.net.zero_grad()

    def plain(self, batch: Batch, bf16: bool = False) -> None:
        """A contrastive step without weights."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            _, embeddings = self.net(batch.views)
        self.net.anchor_losses(embeddings).mean().backward()
        self.optimizer.step()

    def ours(self, batch: Batch, bf16: bool = False, derivative: Literal["forward", "difference"] = "forward") -> None:
        """The step as the method has it."""
        self.net.spec = replace(SPEC, derivative=derivative)
        self.optimizer.zero_grad()
        self.net.step(batch, lambda: torch.autocast("cpu", torch.bfloat16, enabled=bf16), self.optimizer)
        self.optimizer.step()

    def difference(self, batch: Batch, bf16: bool = False) -> None:
        """The step with a finite difference."""
        self.ours(batch, bf16, "difference")

    def double_backward(self, batch: Batch, only_weights: bool = False) -> None:
        """The step with a second-order graph; the released code's backward() also goes on to every other parameter."""
        net, weigher = self.net, self.net.weigher
        theta: dict[str, torch.Tensor] = {
            name: p for name, p in net.named_parameters() if not name.startswith("weigher.")
        }
        self.optimizer.zero_grad()
        weigher.zero_grad()
        representations, embeddings = functional_call(net, theta, (batch.views,))
        loss = weighted_mean(net.anchor_losses(embeddings), weigher(representations))
        gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        ahead = {}
        for (name, p), gradient in zip(theta.items(), gradients, strict=True):
            buffer = self.optimizer.state[p]["momentum_buffer"]
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
        net.weigher_optimizer.step()
        self.optimizer.zero_grad()
        representations, embeddings = net(batch.views)
        with torch.no_grad():
            weights = weigher(representations)
        weighted_mean(net.anchor_losses(embeddings), weights).backward()
        self.optimizer.step()

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
            [
                torch.empty(0, dtype=torch.float64),
                *[p.grad.flatten().double() for p in self.net.weigher.parameters() if p.grad is not None],
            ]
        )


def peak_memory(form: str, arch: str, batch: int, size: int) -> float:
    """Peak of a form over what is there before it, MB; to be called in a fresh process."""
    step = Bench(arch, batch, size, warm=0).forms(bf16=True)[form]
    gc.collect()
    before = memory("VmRSS")
    step()
    return memory("VmHWM") - before


def main(
    arch: str = "resnet18",
    batch: int = 32,
    size: int = 64,
    rounds: int = 5,
    warm: int = 40,
    bf16: bool = False,
    memory: bool = False,
) -> None:
    """Print the table.

    Args:
        arch: timm's name of the backbone.
        batch: training clips, and as many meta clips.
        size: of the views, pixels.
        rounds: turns of every form after one that is not counted.
        warm: plain steps that bring the network to where the turns begin.
        bf16: also time the steps under autocast.
        memory: also measure each form's peak, in a process of its own (Linux).
    """
    bench = Bench(arch, batch, size, warm)
    forms = bench.forms(bf16)
    gradients = {}
    for name, step in forms.items():
        bench.rewind()
        step()
        gradients[name] = bench.gradient()
    times = take_turns(forms, rounds, before=bench.rewind)
    peaks: dict[str, float] = {}
    if memory:
        peaks = {name: in_fresh_process(peak_memory, name, arch, batch, size) for name in forms}
    median = {name: found.median for name, found in times.items()}
    least = {name: found.least for name, found in times.items()}
    released, exact = "double backward, as released", gradients["double backward, as released"]
    print(f"{arch}, {batch} + {batch} clips, {size} px, {rounds} rounds, torch {torch.__version__}")  # noqa: T201
    print(f"{'':30s}      ms     x plain  released/this    error   cosine    MB")  # noqa: T201
    for name in forms:
        row = f"{name:30s} {median[name] * 1e3:7.0f}"
        row += f" {median[name] / median['plain']:5.2f} ({least[name] / least['plain']:4.2f})"
        row += f"  {median[released] / median[name]:5.2f} ({least[released] / least[name]:4.2f})"
        if len(gradients[name]):
            ours, length = gradients[name], exact.norm()
            row += f"  {float((ours - exact).norm() / length):7.1e} {float(ours @ exact / ours.norm() / length):8.5f}"
        print(row + (f" {peaks[name]:5.0f}" if peaks else ""))  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
