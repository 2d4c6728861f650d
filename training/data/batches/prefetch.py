"""Batches whose views are made on the training's device, one batch ahead of the step that uses them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from training.data.batches.batch import Batch
from training.data.batches.sampling import batches
from training.data.batches.sketches import Sketch, Sketches
from usbackbones.features.ahead import made_ahead


def developed(
    sketches: Sketches, first: int, workers: int, device: torch.device, resident: Tensor | None = None
) -> Iterator[Batch]:
    """As `training.data.batches.sampling.batches`, on a device, with the same gray levels.

    A thread reads and draws the next batch, and a stream of its own copies and makes it, while the step of the current
    one is computed. Sketches may name frames by their numbers among those that are resident on the device.
    """

    def make(sketch: Sketch) -> Batch:
        return (sketch.pinned() if device.type == "cuda" else sketch).develop(device, resident)

    drawn = batches(sketches, first, workers)
    return made_ahead(drawn, make, device, lambda batch: vars(batch).values(), most=1)
