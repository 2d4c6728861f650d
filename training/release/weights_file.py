"""A run's backbone in the form it is published in: three gray channels, half precision, timm's config.json.

Three equal channels because every image pipeline has three; since mean and std are the same for all of them,
`in_chans=1`, which sums the first convolution over its channels, gives the network that was trained. Half precision
halves the file. Norms stay float32, since a running variance of a dead channel is too small for fp16; so does the
first convolution, since timm would round its sum to the stored type and the channels would differ by 1e-4.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from training.data.errors import CorpusError
from usbackbones.hub.timm_folder import timm_config

PYRAMID = "pyramid.safetensors"


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of a run.

    Raises:
        CorpusError: if it is not there.
    """
    if not file.is_file():
        raise CorpusError(f"{file} is missing: {file.parent} is not a finished run of training.pretrain")
    return json.loads(file.read_text())


def backbone_of_run(run: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained one-channel backbone of a run folder, in eval mode and float32, and its recipe."""
    recipe = read_json(run / "recipe.json")
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    backbone = timm.create_model(recipe["arch"], num_classes=0, in_chans=1, **recipe["model_args"])
    prefix = "backbone."
    trained = {key.removeprefix(prefix): value for key, value in state["method"].items() if key.startswith(prefix)}
    own = state.get("average") or trained  # a run with a moving average is judged and released by it
    backbone.load_state_dict(own)
    return backbone.eval(), recipe


def pyramid_of_run(run: Path) -> dict[str, Tensor]:
    """The feature pyramid learned with the backbone, fp16, as `nn.feature_pyramid` names it; empty for none."""
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["method"]
    return {
        key.removeprefix("pyramid."): value.half().contiguous()
        for key, value in state.items()
        if key.startswith("pyramid.")
    }


def input_side(recipe: dict[str, Any]) -> int:
    """Side in pixels of the frames that the network of a recipe is to be given."""
    return recipe.get("input_size") or recipe["augment"]["size"]


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
