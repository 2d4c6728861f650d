"""The fastest way from a corpus on the host to the batches on a run's device, chosen by itself."""

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from training.data.batches.batch import Batch
from training.data.batches.prefetch import developed
from training.data.batches.resident import resident_frames
from training.data.batches.sampling import StepBatches, batches
from training.data.batches.sketches import Sketches, agrees

MOST_WORKERS = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Supply:
    """How the batches of a run reach its device.

    Attributes:
        data: whose batches.
        device: the run's.
        views_on: where views are made.
        workers: processes that draw, and make views on the CPU.
        at_once: a batch is drawn as a whole, see `training.data.batches.at_once`.
        resident: the frames that lie on the device, uint8 [F, S, S], or None.
    """

    data: StepBatches
    device: torch.device
    views_on: Literal["cpu", "device"]
    workers: int
    at_once: bool = False
    resident: Tensor | None = None

    def batches(self, first: int) -> Iterator[Batch]:
        """The batches from a step on."""
        if self.views_on == "cpu":
            return batches(self.data, first, self.workers)
        sketches = Sketches(self.data, self.at_once, self.resident is not None)
        return developed(sketches, first, self.workers, self.device, self.resident)


def supply_of(
    data: StepBatches,
    step: int,
    device: torch.device,
    place: Literal["cpu", "device"],
    workers: int | None = None,
    progress: bool = False,
) -> Supply:
    """The fastest way for batches to reach a device; on the first step it is looked up that both ways to draw agree.

    None chooses the number of workers; `progress` says where the frames are.
    """
    if place == "cpu":
        return Supply(data, device, place, enough_workers(device) if workers is None else workers)
    at_once = agrees(data, step)
    if at_once is False:
        logger.warning("a batch drawn at once is not the one drawn clip by clip: drawing clip by clip, which is slower")
    found = None
    if at_once and device.type == "cuda":
        found, told = resident_frames(data.cache.frames, device, progress=progress)
        if progress:
            tqdm.write(told, file=sys.stderr)
    chosen = 0 if found is not None else enough_workers(device)
    return Supply(data, device, place, chosen if workers is None else workers, bool(at_once), found)


def batch_on(data: StepBatches, step: int, device: torch.device, place: Literal["cpu", "device"]) -> Batch:
    """One batch on a device, from frames on the host."""
    if place == "device":
        return Sketches(data, at_once=False)[step].develop(device)
    return data[step].to(device)


def enough_workers(device: torch.device) -> int:
    """Loader processes for a GPU that waits for them, one a core but for the core that trains; none for a CPU.

    Several processes of a machine that train together share its cores.
    """
    if device.type != "cuda":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))
