"""From a corpus to the batches of a run: opened, divided by groups, drawn."""

import hashlib
import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from training.data.batches.batch import MetaPairs
from training.data.batches.device_views import only_on_cpu
from training.data.batches.sampling import StepBatches
from training.data.cache import Cache, open_cache
from training.data.errors import CorpusError
from training.data.manifest import read_manifest
from training.data.prepare.run import prepare
from training.data.views.augment import Augment
from training.errors import TrainingError
from training.nn.distributed import rank, world_size
from training.recipes import Recipe
from usbackbones._words import plural
from usbackbones.data.splits import holdout

logger = logging.getLogger(__name__)

ViewsOn = Literal["auto", "cpu", "device"]
"""Where views are made; "auto" is on the device if that is a GPU and the augmentation has a form for it."""


def views_on(asked: ViewsOn, augment: Augment, device: torch.device) -> Literal["cpu", "device"]:
    """Where to make the views.

    Raises:
        TrainingError: if the device is asked for what only the CPU path can do.
    """
    unknown = only_on_cpu(augment)
    if asked == "auto":
        return "device" if device.type == "cuda" and not unknown else "cpu"
    if asked == "device" and unknown:
        raise TrainingError(f"--views-on device has no form for {', '.join(unknown)} of --augment: set --views-on cpu")
    return asked


def open_data(data: Path) -> Cache:
    """Open a prepared folder, or prepare a manifest into a folder named after it and its content."""
    if data.is_dir():
        return open_cache(data)
    rows = read_manifest(data)
    folder = data.with_name(f"{data.stem}-cache-{hashlib.sha256(data.read_bytes()).hexdigest()[:8]}")
    if (folder / "index.json").is_file():
        return open_cache(folder)
    if world_size() > 1:
        raise CorpusError(
            f"{data} is not prepared, and {world_size()} processes would each do it: first run "
            f"python -m training.data.prepare {data} -o {folder}"
        )
    return prepare(rows, folder)


def divide(
    recipe: Recipe, cache: Cache, members: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips to train on, to validate on, and for the meta loss, as indices; groups are never divided.

    The recipe says how large the shares are; by default all clips are divided.
    """

    def keep_out(members: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        if not share:
            return members, members[:0]
        rows = [cache.clips[index].row for index in members]
        _, held = holdout([row.group for row in rows], [row.label for row in rows], share, recipe.seed)
        out = np.array([row.group in held for row in rows])
        return members[~out], members[out]

    train, held = keep_out(np.arange(len(cache.clips)) if members is None else members, recipe.validation)
    train, meta = keep_out(train, recipe.method.meta_share if isinstance(recipe.method, MetaPairs) else 0)
    return train, held, meta


def step_batches(
    recipe: Recipe, cache: Cache, members: np.ndarray | None = None
) -> tuple[StepBatches, StepBatches | None]:
    """The training batches, and the fixed validation batches where the recipe keeps some groups out; see `divide`."""
    train, held, meta = divide(recipe, cache, members)
    least = max(2, world_size())
    if min(len(train), recipe.batch) < least:
        raise CorpusError(
            f"{plural(len(train), 'clip')} to train on in batches of {recipe.batch}: a contrastive loss needs at least "
            f"2 in a batch, and every one of the processes, {world_size()} here, one"
        )
    if isinstance(recipe.method, MetaPairs) and recipe.method.meta_share and len(meta) < least:
        raise CorpusError(
            f"{plural(len(meta), 'clip')} for the meta loss, it needs at least {least}: raise --method.meta-share "
            f"(now {recipe.method.meta_share}), give more groups, or set it to 0 to do without"
        )

    if recipe.validation and len(held) < 2:
        asked = f"--validation {recipe.validation:g} keeps out {plural(len(held), 'clip')}"
        logger.warning("%s, too few for a loss, so there is no validation: raise it, or set it to 0", asked)

    def dataset(members: np.ndarray, meta: np.ndarray, steps: int, frozen: bool) -> StepBatches:
        return StepBatches(
            cache,
            members,
            recipe.method,
            recipe.augment,
            batch=recipe.batch,
            seed=recipe.seed,
            mean=recipe.mean,
            std=recipe.std,
            steps=steps,
            frozen=frozen,
            meta=meta,
            part=(0, 1) if frozen else (rank(), world_size()),
            draw=recipe.draw,
        )

    validation = dataset(held, meta[:0], -(-len(held) // recipe.batch), True) if len(held) > 1 else None
    return dataset(train, meta, recipe.steps, False), validation
