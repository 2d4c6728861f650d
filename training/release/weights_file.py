"""A weight as it is published: timm's config.json of its zoo entry, and the feature pyramid beside it."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from usbackbones.hub.timm_folder import timm_config
from usbackbones.hub.torch_checkpoint import load_checkpoint

PYRAMID = "pyramid.safetensors"


def pyramid_of_run(run: Path) -> dict[str, Tensor]:
    """The feature pyramid learned with the backbone, fp16, as `nn.feature_pyramid` names it; empty for none."""
    state = load_checkpoint(run / "checkpoint.pt")["method"]
    return {
        key.removeprefix("pyramid."): value.half().contiguous()
        for key, value in state.items()
        if key.startswith("pyramid.")
    }


def published_config(name: str, entry: dict[str, Any], backbone: nn.Module) -> dict[str, Any]:
    """config.json of a weight of ours; mean and std are the same number for all three channels."""
    given = entry["input"]
    return timm_config(
        backbone,
        arch=entry["arch"],
        model_args=entry["model_args"],
        tag=entry["tag"],
        size=given["size"],
        mean=[given["mean"]] * 3,
        std=[given["std"]] * 3,
        interpolation=given["interpolation"],
        crop_pct=given["crop_pct"],
        crop_mode=given["crop_mode"],
        licence=entry["licences"]["weights"],
        origin_url=entry["paper"]["url"],
        description=f"{name}: {entry['paper']['title']}, retrained by usbackbones",
    )
