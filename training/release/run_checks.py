"""What must be true of a run before `training.release.commands` makes a weight of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from training.data.corpora import CORPORA
from training.data.fingerprints import Overlap
from training.data.locked_splits import drawn_splits, has_locked_part, locked_split
from usbackbones.hub.pretraining_run import input_side
from usbackbones.phantom.simulator import phantom_clip


class ReleaseError(ValueError):
    """A weight that must not be released."""


def refuse_overlap(corpus: dict[str, Any]) -> None:
    """Refuse a corpus that holds a group of a locked test part, or a dataset that is for judging alone.

    Raises:
        ReleaseError: naming the groups.
    """
    never = [source for source in corpus["sources"] if source in CORPORA and not CORPORA[source].pretrain]
    if never:
        raise ReleaseError(f"never pretrained on: {', '.join(never)}. The run is not released.")
    drawn = {group for name in corpus["sources"] if name in drawn_splits() for group in locked_split(name)["test"]}
    shared = sorted((drawn & {*corpus["groups"]}) | {*corpus.get("locked_groups", ())})
    if shared:
        raise ReleaseError(f"the run saw locked test groups: {', '.join(shared)}. It is not released.")


def refuse_seen_frames(overlaps: dict[str, Overlap]) -> None:
    """Refuse a run that saw a frame or a patient of a locked test part, whatever the clip was called.

    Raises:
        ReleaseError: naming the clips, and why they count as seen.
    """
    for name, found in overlaps.items():
        if found.clips and has_locked_part(name):
            told = "; ".join(f"{clip}: {reason}" for clip, reason in found.clips.items())
            raise ReleaseError(f"the run saw {len(found.clips)} locked test clip(s) of {name}, as {told}")


def refuse_start(init: str, tier: str, weights: Mapping[str, Any]) -> None:
    """Refuse a run that began at a weight whose data are not told here, or not free enough for its own tier.

    Args:
        init: where the run began; empty for random weights.
        tier: of the run's own data.
        weights: the zoo's, by name.

    Raises:
        ReleaseError: naming the weight.
    """
    began = weights.get(init.removeprefix("usbackbones/"))
    if init and not began:
        raise ReleaseError(f"the run began at {init}: what that weight saw, and under which licence, is not told here")
    if began and began["tier"] != tier:
        raise ReleaseError(f"the run is on {tier} data, but began at {init}, which is {began['tier']}")


@torch.inference_mode()
def check_parity(folder: Path, backbone: nn.Module, recipe: dict[str, Any]) -> None:
    """Load the folder with plain timm, with one channel and with three, and compare its features with the run's.

    Raises:
        ReleaseError: if they differ by more than fp16 storage explains, 1 % of the largest feature.
    """
    size = input_side(recipe)
    frames = torch.from_numpy(phantom_clip(0, frames=4, size=size)).float().unsqueeze(1) / 255
    frames = (frames - recipe["mean"]) / recipe["std"]
    expected = backbone(frames)
    for channels in (1, 3):
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, in_chans=channels).eval()
        got = loaded(frames.expand(-1, channels, -1, -1))
        difference = float((got - expected).abs().max() / expected.abs().max())
        if not difference < 0.01:
            raise ReleaseError(f"{folder} with {channels} channels is off by {difference:.2%} from the run's features")
