"""A run's backbone in the form it is published in: three gray channels, half precision, timm's config.json.

Three equal channels because every image pipeline has three; since mean and std are the same for all of them,
`in_chans=1`, which sums the first convolution over its channels, gives the network that was trained. Half precision
halves the file. Norms stay float32, since a running variance of a dead channel is too small for fp16; so does the
first convolution, since timm would round its sum to the stored type and the channels would differ by 1e-4.
"""

from pathlib import Path
from typing import Any

import torch
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


def published_tensors(backbone: nn.Module) -> dict[str, Tensor]:
    """The tensors of the file: first convolution on three channels, fp16 but for it, norms and counters.

    Raises:
        ValueError: naming a tensor that is not finite, or that fp16 cannot hold.
    """
    config: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    first = config["first_conv"] + ".weight"
    wide_ones = {first} | {
        f"{name}.{key}"
        for name, module in backbone.named_modules()
        if "norm" in type(module).__name__.lower()
        for key in module.state_dict()
    }
    tensors = {}
    for key, value in backbone.state_dict().items():
        wide = value.repeat(1, 3, 1, 1) / 3 if key == first else value
        stored = wide.half() if wide.is_floating_point() and key not in wide_ones else wide
        if not torch.isfinite(value).all():
            raise ValueError(f"{key} holds NaN or infinity: the run diverged, and is not released")
        if not torch.isfinite(stored).all():
            raise ValueError(f"{key} reaches {float(value.abs().max()):.3g}, beyond fp16: the run is not released")
        tensors[key] = stored.contiguous()
    return tensors


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
