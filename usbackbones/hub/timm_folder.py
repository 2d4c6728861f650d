"""A timm folder: `config.json` and `model.safetensors`, which `timm.create_model("local-dir:...")` loads without us."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from usbackbones._files import atomic_write


def timm_config(
    backbone: nn.Module,
    *,
    arch: str,
    model_args: Mapping[str, Any],
    tag: str,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str,
    licence: str,
    origin_url: str,
    description: str,
    crop_pct: float = 1.0,
    crop_mode: str = "squash",
    num_classes: int = 0,
) -> dict[str, Any]:
    """The content of config.json for a network of three channels.

    Args:
        backbone: the network as timm built it; its own cfg names the first layer and the classifier.
        arch: timm's name of the architecture.
        model_args: what `timm.create_model` needs besides the name to build it again.
        tag: of the weight.
        size: side of the input, pixels.
        mean: of each channel, on the 0..1 scale.
        std: of each channel, on the 0..1 scale.
        interpolation: how pictures are resized, timm's name.
        licence: of the weights.
        origin_url: where the method, or the original file, is described.
        description: one line.
        crop_pct: share of the resized picture that is kept.
        crop_mode: timm's; "squash" resizes both sides to the size.
        num_classes: of the classifier in the file; 0 is none.
    """
    own: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    return {
        "architecture": arch,
        "num_classes": num_classes,
        "num_features": int(backbone.num_features),  # type: ignore[arg-type]
        "model_args": dict(model_args),
        "pretrained_cfg": {
            "tag": tag,
            "custom_load": False,
            "input_size": [len(mean), size, size],
            "fixed_input_size": own.get("fixed_input_size", False),
            "interpolation": interpolation,
            "crop_pct": crop_pct,
            "crop_mode": crop_mode,
            "mean": list(mean),
            "std": list(std),
            "num_classes": num_classes,
            "pool_size": None,
            "first_conv": own["first_conv"],
            "classifier": own["classifier"],
            "license": licence,
            "origin_url": origin_url,
            "description": description,
            "hf_hub_filename": "model.safetensors",
        },
    }


def write_timm_folder(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write the two files, the weights first, each under a temporary name that is moved into place."""
    with atomic_write(folder / "model.safetensors") as stream:
        stream.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"format": "pt"}))
    with atomic_write(folder / "config.json", "w") as stream:
        json.dump(config, stream, indent=1)
        stream.write("\n")
