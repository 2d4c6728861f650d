"""On a GPU: training end to end, beside its step alone on a batch that is there; and the share of the peak."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.data.cache import open_cache
from training.engine.dataloaders import step_batches
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.speed.corpus import write_corpus
from training.speed.steps import recipe_of

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bf16 operations a second, as the manufacturer states them."""
_BATCH = 256  # clips


def lines(arch: str, size: int, quick: bool) -> Iterator[tuple[str, str, str]]:
    """For each backbone its lines: what, how fast, and what that is of something else."""
    batch, steps = (8, 4) if quick else (_BATCH, 40)
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), batch, 3, size)
        for name in (arch,) if quick else (arch, "vit_small_patch16_224"):
            yield from _backbone(name, size, batch, steps, Path(folder) / "cache")


def _backbone(arch: str, size: int, batch: int, steps: int, cache: Path) -> Iterator[tuple[str, str, str]]:
    recipe = recipe_of(arch, size, batch, "bf16", 3 * steps)
    opened, device = open_cache(cache), torch.device("cuda")
    data, _ = step_batches(recipe, opened)
    engine = Engine(build(recipe, len(opened.classes)), recipe, data, cache, device=device, views_on="device")
    engine.method.train()
    source = engine.batches()
    resident = next(source)
    with FlopCounterMode(display=False) as counter:
        engine.train_step(resident)
    alone, whole = [], []
    for _ in range(3):  # in turn
        alone.append(_timed(lambda: engine.train_step(resident), steps // 2))
        whole.append(_timed(lambda: engine.train_step(next(source)), steps // 2))
    views = 2.0 * batch
    step, end = min(alone), min(whole)
    peak = next((peak for name, peak in PEAKS.items() if name in torch.cuda.get_device_name()), None)
    share = f"{counter.get_total_flops() / step / peak:.0%} of the bf16 peak" if peak else "peak not known"
    yield f"{arch}, bf16, step alone", f"{views / step:,.0f} views/s", share
    yield f"{arch}, bf16, end to end", f"{views / end:,.0f} views/s", f"{step / end:.2f} of the step alone"


def _timed(run: Callable[[], object], count: int) -> float:
    """Seconds of one of `count` runs."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(count):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / count
