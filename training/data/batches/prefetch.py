"""Batches whose views are made on the training's device, one batch ahead of the step that uses them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from training.data.batches.batch import Batch
from training.data.batches.sampling import batches
from training.data.batches.sketches import Sketch, Sketches


def developed(
    sketches: Sketches, first: int, workers: int, device: torch.device, resident: Tensor | None = None
) -> Iterator[Batch]:
    """As `training.data.batches.sampling.batches`, on a device, with the same gray levels.

    A thread reads and draws the next batch, and a stream of its own copies and makes it, while the step of the current
    one is computed.

    Args:
        sketches: the batches.
        first: the step to begin at.
        workers: processes that draw.
        device: where the views are made.
        resident: the frames that lie there, uint8 [F, S, S], if the sketches name them by their numbers.
    """
    drawn = batches(sketches, first, workers)
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(_next, drawn, device, stream, resident)
        while (found := coming.result()) is not None:
            coming = pool.submit(_next, drawn, device, stream, resident)
            batch, ready = found
            if ready:
                now = torch.cuda.current_stream(device)
                now.wait_event(ready)
                for tensor in vars(batch).values():
                    tensor.record_stream(now)  # or its memory could go to the next batch while it is still read
            yield batch


def _next(
    sketches: Iterator[Sketch], device: torch.device, stream: torch.cuda.Stream | None, resident: Tensor | None
) -> tuple[Batch, torch.cuda.Event | None] | None:
    """The next batch, and when it is ready, None for now; None after the last."""
    found = next(sketches, None)
    if found is None:
        return None
    if stream is None:
        return found.develop(device, resident), None
    with torch.cuda.stream(stream):  # also the GPU of this process: a new thread would use the first one
        return found.pinned().develop(device, resident), stream.record_event()
