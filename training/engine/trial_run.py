"""A training without a run folder, for studies and for checks."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from training.data.cache import Cache
from training.engine.dataloaders import step_batches, views_on
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.recipes import Recipe


@contextmanager
def losses_while(
    recipe: Recipe, cache: Cache, members: np.ndarray | None
) -> Iterator[tuple[nn.Module, Iterator[float]]]:
    """The backbone of a recipe, and its losses: each that is asked for is one step of the training."""
    data, _ = step_batches(recipe, cache, members)
    method = build(recipe, len(cache.classes))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = views_on("auto", recipe.augment, device)
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine(method, recipe, data, Path(scratch), device=device, views_on=place)
        method.train()

        def losses() -> Iterator[float]:
            for batch in engine.batches():
                yield engine.train_step(batch)["loss"]
                engine.step += 1
                engine.schedule.step_update(engine.step)

        yield method.backbone, losses()


def losses_of(recipe: Recipe, cache: Cache, steps: int) -> list[float]:
    """The losses of the first steps of a recipe on a corpus."""
    with losses_while(recipe, cache, None) as (_, losses):
        return list(tqdm(islice(losses, steps), total=steps, desc="its first steps", unit="step"))


def trained(recipe: Recipe, cache: Cache, members: np.ndarray, about: str) -> nn.Module:
    """The backbone after all steps of a recipe on these clips."""
    with losses_while(recipe, cache, members) as (backbone, losses):
        for _ in tqdm(losses, total=recipe.steps, desc=about, unit="step", mininterval=5):
            pass
    return backbone.eval()
