"""Batches whose views are made on the training's device, one batch ahead of the step that uses them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import Dataset

from training.data.batches.batch import Batch
from training.data.batches.device_views import Sketch, sketch
from training.data.batches.sampling import StepBatches, batches


class Sketches(Dataset[Sketch]):
    """Map from step to a batch whose views are still to be made."""

    def __init__(self, data: StepBatches) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, step: int) -> Sketch:
        return sketch(self.data, step)


def developed(data: StepBatches, first: int, workers: int, device: torch.device) -> Iterator[Batch]:
    """As `training.data.batches.sampling.batches`, on a device, with the same gray levels.

    A thread reads and draws the next batch, and a stream of its own copies and makes it, while the step of the current
    one is computed.
    """
    sketches = batches(Sketches(data), first, workers)
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(_next, sketches, device, stream)
        while (found := coming.result()) is not None:
            coming = pool.submit(_next, sketches, device, stream)
            batch, ready = found
            if ready:
                now = torch.cuda.current_stream(device)
                now.wait_event(ready)
                for tensor in vars(batch).values():
                    tensor.record_stream(now)  # or its memory could go to the next batch while it is still read
            yield batch


def _next(
    sketches: Iterator[Sketch], device: torch.device, stream: torch.cuda.Stream | None
) -> tuple[Batch, torch.cuda.Event | None] | None:
    """The next batch, and when it is ready, None for now; None after the last."""
    found = next(sketches, None)
    if found is None:
        return None
    if stream is None:
        return found.develop(device), None
    with torch.cuda.stream(stream):  # also the GPU of this process: a new thread would use the first one
        return found.pinned().develop(device), stream.record_event()
