"""The frames of a corpus in the memory of a device: copied once, so that a batch is their numbers."""

import os
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from training.data.cache import Frames
from usbackbones._words import percent, rounded

SHARE = 0.25
"""Of the free memory of a device, that frames may take."""
_PIECE = 1 << 26  # bytes that are copied at a time


class Resident(NamedTuple):
    """Frames uint8 [F, S, S] on a device, None where there is no room for them; and a line that says so."""

    frames: Tensor | None
    told: str


def resident_frames(frames: Frames, device: torch.device, share: float = SHARE, progress: bool = False) -> Resident:
    """Copy all frames of a corpus to a device, if they take no more than a share of the memory that is free there."""
    wanted, free = len(frames) * frames.size**2, free_memory(device)
    about = f"{_gigabytes(wanted)}, {percent(wanted / free, 1)} of the {_gigabytes(free)} free on {device}"
    if wanted > share * free:
        return Resident(
            None, f"the frames stay on the host and are copied batch by batch: {about}, {share:.0%} allowed"
        )
    whole = torch.empty((len(frames), frames.size, frames.size), dtype=torch.uint8, device=device)
    done, piece = 0, max(1, _PIECE // frames.size**2)
    for shard in tqdm(frames.shards, unit="shard", desc="frames to the device", disable=not progress):
        shown = frames.view(done, shard.frames)
        for start in range(0, shard.frames, piece):
            part = shown[start : start + piece]
            whole[done + start : done + start + len(part)].copy_(torch.from_numpy(part.copy()))
        done += shard.frames
    return Resident(whole, f"the frames are on the device: {about}")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gigabytes(number: int) -> str:
    return f"{rounded(number / 1e9, 2)} GB"
