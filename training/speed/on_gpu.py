"""On a GPU: a table of its own, in about two minutes: steps, training end to end, meta step, loss, features.

Parts are measured in order until the time is used up; what is left says "not run: out of time". A step's share of the
memory's bandwidth is a lower bound: what it allocates beyond what rests is written once and read once.
"""

import gc
import importlib.util
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from training.data.cache import Cache
from training.engine.dataloaders import step_batches, views_on
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.methods.meta_uscl import MetaUSCL
from training.recipes import RECIPES, Recipe
from training.speed import loss as nt_xent
from training.speed.corpus import write_corpus
from training.speed.steps import recipe_of
from usbackbones._words import percent, plural
from usbackbones.features.extract import Extractor

PEAKS = {
    "NVIDIA H200": (989e12, 4.8e12),
    "NVIDIA H100 80GB HBM3": (989e12, 3.35e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 2.0e12),
    "NVIDIA L40S": (362e12, 0.864e12),
}
"""Dense bf16 operations and bytes of memory a second, as the manufacturer states them, by the whole name: cards of one
chip differ, as an H100 on PCIe does from one on SXM."""
COMMAND = "python -m training.speed"


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        steps: (backbone, side of the views in pixels, clips) of each step.
        compiled: the one of them that is also compiled.
        meta: (backbone, side, clips) of Meta-USCL's step.
        loss: N of each loss, pairs.
        features: (backbone, side, frames).
        repeat: seconds for which each is repeated.
        budget: seconds after which nothing new is begun.
    """

    steps: tuple[tuple[str, int, int], ...] = (
        ("resnet18", 96, 48),
        ("resnet18", 96, 256),
        ("resnet18", 224, 256),
        ("resnet50", 224, 256),
        ("vit_small_patch16_224", 224, 256),
    )
    compiled: tuple[str, int, int] | None = ("resnet18", 224, 256)
    meta: tuple[str, int, int] = ("resnet18", 112, 64)
    loss: tuple[int, ...] = (256, 1024, 4096, 16384, 65536)
    features: tuple[str, int, int] = ("resnet18", 224, 2048)
    repeat: float = 1.0
    budget: float = 100.0


QUICK = Sizes((("test_resnet", 32, 4),), None, ("test_resnet", 32, 4), (8,), ("test_resnet", 32, 8), 0.0)


class Row(NamedTuple):
    """A line of the table; what a part does not have is empty."""

    part: str
    speed: str
    compared: str = ""
    share: str = ""
    memory: str = ""


@dataclass
class Gauge:
    """Times what runs on a device, and its memory."""

    device: torch.device
    sizes: Sizes
    begun: float = field(default_factory=time.perf_counter)

    def timed(self, run: Callable[[], object]) -> tuple[float, int]:
        """Seconds of one of several runs after a first one, and bytes that were allocated at most beyond the rest."""
        self._wait()
        rest = self._allocated()
        run()
        self._wait()
        peak = self._peak()
        count, begun = 0, time.perf_counter()
        while not count or time.perf_counter() - begun < self.sizes.repeat:
            run()
            count += 1
            if count % 4 == 0:
                self._wait()
        self._wait()
        return (time.perf_counter() - begun) / count, peak - rest

    def share(self, seconds: float, operations: float, moved: float) -> str:
        """What this is of the device's peaks; empty where these are not known."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        if name not in PEAKS:
            return ""
        bf16, bandwidth = PEAKS[name]
        least = math.floor(100 * moved / seconds / bandwidth)  # rounded up it would be no lower bound
        return f"{percent(operations / seconds / bf16)} of bf16, >= {least}% of bandwidth"

    @property
    def late(self) -> bool:
        """Whether nothing new is to be begun."""
        return time.perf_counter() - self.begun > self.sizes.budget

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _allocated(self) -> int:
        if self.device.type != "cuda":
            return 0
        gc.collect()
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0


def table(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure every part that there is time for."""
    gauge = Gauge(device, sizes)
    clips = max(size[2] for size in (*sizes.steps, sizes.meta))
    side = max(size[1] for size in (*sizes.steps, sizes.meta))
    with tempfile.TemporaryDirectory() as folder:
        cache, _ = write_corpus(Path(folder), clips + clips // 2, 3, side)
        parts: list[tuple[str, Callable[[], Iterator[Row]]]] = []
        for arch, size, batch in sizes.steps:
            about = f"{arch}, {size} px, {plural(batch, 'clip')}"
            recipe = recipe_of(arch, size, batch, "bf16", 1 << 20)
            parts.append((about, partial(_steps, gauge, recipe, cache, about)))
        parts.append(("meta step", partial(_meta, gauge, cache)))
        parts += [(f"loss, N = {pairs}", partial(_loss, gauge, pairs)) for pairs in sizes.loss]
        parts.append(("features", partial(_features, gauge)))
        if sizes.compiled:  # last: compiling takes a minute on some machines
            arch, size, batch = sizes.compiled
            recipe = replace(recipe_of(arch, size, batch, "bf16", 1 << 20), compile=True)
            about = f"{arch}, {size} px, {batch} clips, compiled"
            parts.append((about, partial(_steps, gauge, recipe, cache, about)))
        for name, measure in parts:
            if gauge.late:
                yield Row(name, "not run: out of time")
                continue
            try:
                yield from measure()
            except torch.OutOfMemoryError:
                yield Row(name, "not run: out of memory")


def _engine(gauge: Gauge, recipe: Recipe, cache: Cache) -> Engine:
    data, _ = step_batches(recipe, cache)
    place = views_on("auto", recipe.augment, gauge.device)
    engine = Engine(build(recipe, len(cache.classes)), recipe, data, Path(), device=gauge.device, views_on=place)
    engine.method.train()
    return engine


def _steps(gauge: Gauge, recipe: Recipe, cache: Cache, about: str) -> Iterator[Row]:
    """A step on a batch that is there, and training with default flags."""
    engine = _engine(gauge, recipe, cache)
    source = engine.batches()
    resident = next(source).to(gauge.device)
    with FlopCounterMode(display=False) as counter:
        engine.train_step(resident)
    step, held = gauge.timed(partial(engine.train_step, resident))
    whole, _ = gauge.timed(lambda: engine.train_step(next(source)))
    source.close()
    views, share = 2 * recipe.batch, gauge.share(step, counter.get_total_flops(), 2.0 * held)
    yield Row(f"{about}: step alone", f"{views / step:,.0f} views/s", "", share, _megabytes(held))
    yield Row(f"{about}: end to end", f"{views / whole:,.0f} views/s", f"{step / whole:.2f} of the step alone")


def _meta(gauge: Gauge, cache: Cache) -> Iterator[Row]:
    """Meta-USCL's step on a batch that is there, beside the same step without the update of CMW-Net."""
    arch, size, batch = gauge.sizes.meta
    chosen = RECIPES["meta_uscl"][1]
    method, augment = MetaUSCL(meta_share=0.5), replace(chosen.augment, size=size)  # the corpus is small
    recipe = replace(chosen, method=method, arch=arch, batch=batch, precision="bf16", augment=augment, steps=1 << 20)
    engine = _engine(gauge, recipe, cache)
    source = engine.batches()
    resident = next(source).to(gauge.device)
    source.close()
    plain, plain_held = gauge.timed(partial(engine.train_step, replace(resident, meta=resident.meta[:0])))
    step, held = gauge.timed(partial(engine.train_step, resident))
    about = f"meta step, {arch}, {size} px, {batch} clips"
    yield Row(f"{about}: plain", f"{1 / plain:,.1f} steps/s", memory=_megabytes(plain_held))
    yield Row(about, f"{1 / step:,.1f} steps/s", f"{step / plain:.2f} plain steps", memory=_megabytes(held))


def _loss(gauge: Gauge, pairs: int) -> Iterator[Row]:
    """NT-Xent forward and backward on [N, 256] embeddings, beside lightly's where that is installed and fits."""
    views = [view.detach().to(gauge.device).requires_grad_() for view in nt_xent.embeddings(pairs)]
    ours, held = gauge.timed(partial(nt_xent.step, nt_xent.ours, *views))
    yield Row(f"loss, N = {pairs}: ours", f"{ours * 1e3:,.2f} ms", "", "", _megabytes(held))
    if importlib.util.find_spec("lightly") is None:
        yield Row(f"loss, N = {pairs}: lightly", "not run: pip install 'usbackbones[speed]'")
        return
    try:
        theirs, held = gauge.timed(partial(nt_xent.step, nt_xent.lightly, *views))
    except torch.OutOfMemoryError:
        yield Row(f"loss, N = {pairs}: lightly", "out of memory")
        return
    told = f"{theirs / ours:.2f} times ours"
    yield Row(f"loss, N = {pairs}: lightly", f"{theirs * 1e3:,.2f} ms", told, "", _megabytes(held))


def _features(gauge: Gauge) -> Iterator[Row]:
    """Features of frames on the host, prepared, copied and computed."""
    arch, size, count = gauge.sizes.features
    frames = np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)
    model = timm.create_model(arch, num_classes=0, in_chans=1).to(gauge.device)
    extractor = Extractor(model, batch_size=min(256, count), fast=True)
    seconds, held = gauge.timed(lambda: list(extractor.rows(frames)))
    yield Row(
        f"features, {arch}, {size} px", f"{count / seconds:,.0f} frames/s", extractor.computed, "", _megabytes(held)
    )


def _megabytes(held: int) -> str:
    return f"{math.ceil(held / 2**20):,} MiB" if held else ""


def rendered(rows: Iterator[Row]) -> str:
    """The table as Markdown."""
    head = "| part | speed | compared | share of the peaks | peak memory beyond the rest |\n|---|---:|---:|---:|---:|"
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])
