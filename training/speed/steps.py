"""A whole epoch of USCL and its step alone: ours, and the plain form that people write."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, cast

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader

from training.data.batches.batch import Batch
from training.data.batches.sampling import batches
from training.data.cache import open_cache
from training.data.views.augment import USCL
from training.engine.dataloaders import step_batches
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.engine.process import keep_pages
from training.nn.contrastive_loss import nt_xent
from training.nn.heads import projector
from training.recipes import RECIPES, Recipe
from training.speed.loaders import PlainUSCL
from training.speed.timing import cpu_seconds, forget_peak, memory

Precision = Literal["fp32", "bf16"]


class Epoch(NamedTuple):
    """What an epoch took: seconds, MB at its peak, and the share of the time in which the step waited for data."""

    wall: float
    cpu: float
    peak: float
    waited: float


class Plain(nn.Module):
    """ResNet-18 in three channels with USCL's two heads, which passes each view twice, once for each loss.

    So do the released codes: once for the label loss, and again for the contrast.
    """

    def __init__(self, arch: str) -> None:
        super().__init__()
        self.backbone = timm.create_model(arch, num_classes=0)
        width = cast("int", self.backbone.num_features)
        self.projector, self.classifier = projector(width, width, 256), nn.Linear(width, 3)
        self.optimizer = torch.optim.Adam(self.parameters(), 3e-4, weight_decay=1e-4)

    def step(self, first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor) -> float:
        """One step on two views [N, 3, S, S]; the loss."""
        self.optimizer.zero_grad()
        seen = [self.classifier(self.backbone(view)) for view in (first, second)]
        label = sum(nn.functional.cross_entropy(logits, labels) for logits in seen)
        embedded = [self.projector(self.backbone(view)) for view in (first, second)]
        loss = nt_xent(embedded[0], embedded[1], 0.5).mean() + 0.2 * label
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def recipe_of(arch: str, size: int, batch: int, precision: Precision, steps: int) -> Recipe:
    """USCL with Adam, as in the plain form."""
    chosen = RECIPES["uscl-released"][1]
    augment = replace(USCL, size=size)
    return replace(
        chosen, arch=arch, augment=augment, batch=batch, precision=precision, steps=steps, validation=0.0, warmup=0.0
    )


def plain_epoch(files: Sequence[Sequence[Path]], arch: str, size: int, batch: int, steps: int, threads: int) -> Epoch:
    """Two loader processes, float32; to be called in a fresh process."""
    torch.set_num_threads(threads)
    net = Plain(arch)
    data = DataLoader(PlainUSCL(files, size, batch * steps), batch, num_workers=2)
    return _timed(data, lambda found: net.step(*found))


def our_epoch(cache: Path, arch: str, size: int, batch: int, precision: Precision, steps: int, threads: int) -> Epoch:
    """The engine as training.pretrain runs it, without the checkpoint; to be called in a fresh process."""
    keep_pages()
    torch.set_num_threads(threads)
    recipe = recipe_of(arch, size, batch, precision, steps)
    opened = open_cache(cache)
    data, _ = step_batches(recipe, opened)
    with TemporaryDirectory() as folder:
        engine = Engine(build(recipe, len(opened.classes)), recipe, data, Path(folder))
        engine.method.train()
        return _timed(batches(data, 0, 0), engine.train_step)


def _timed(data: Any, step: Callable[[Any], object]) -> Epoch:
    forget_peak()
    begun, cpu, waited = time.perf_counter(), cpu_seconds(), 0.0
    asked = begun
    source = iter(data)
    while (found := next(source, None)) is not None:
        waited += time.perf_counter() - asked
        step(found)
        asked = time.perf_counter()
    del source  # its processes end, and their seconds are counted
    wall = time.perf_counter() - begun
    return Epoch(wall, cpu_seconds() - cpu, memory("VmHWM"), waited / wall)


def model_steps(cache: Path, arch: str, size: int, batch: int) -> dict[str, Callable[[], object]]:
    """The step alone, on a random batch that is there, by name."""
    views = torch.randn(2, batch, 1, size, size)
    labels = torch.arange(batch) % 3
    three = views.expand(-1, -1, 3, -1, -1).contiguous()
    net = Plain(arch)
    racing: dict[str, Callable[[], object]] = {
        "plain, fp32, two passes a view": lambda: net.step(three[0], three[1], labels)
    }
    for precision in ("fp32", "bf16"):
        recipe = recipe_of(arch, size, batch, precision, 1000)
        opened = open_cache(cache)
        engine = Engine(build(recipe, 3), recipe, step_batches(recipe, opened)[0], cache, device=torch.device("cpu"))
        racing[f"ours, {precision}"] = partial(engine.train_step, Batch(views, labels, torch.arange(batch)))
    return racing


def features(arch: str, size: int, batch: int) -> dict[str, Callable[[], object]]:
    """Features of a batch of frames, by name."""
    images = torch.randn(batch, 3, size, size)
    net = timm.create_model(arch, num_classes=0).eval()
    fast = timm.create_model(arch, num_classes=0).eval().to(memory_format=torch.channels_last)

    def run(model: nn.Module, bf16: bool, layout: torch.memory_format) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(images.contiguous(memory_format=layout))

    return {
        "timm, eager, fp32": partial(run, net, False, torch.contiguous_format),
        "ours, fp32": partial(run, fast, False, torch.channels_last),
        "ours, bf16": partial(run, fast, True, torch.channels_last),
    }
