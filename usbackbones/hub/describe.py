"""Describe the input of a timm model as it was built, whichever library wrote its `pretrained_cfg`.

timm goes on saying three channels of a network that was built with one, and the released size of a ViT that was built
for another. The network itself knows better: its first convolution has the channels, its patch embedding the size.
"""

from statistics import mean
from typing import Any

from torch import nn


def channels_of(network: nn.Module) -> int | None:
    """Channels of the images that a network takes, by its first convolution; None if it has no 2-d convolution."""
    cfg = getattr(network, "pretrained_cfg", None) or {}
    first = cfg.get("first_conv")
    modules = dict(network.named_modules())
    named = modules.get(first[0] if isinstance(first, tuple | list) else str(first))
    if isinstance(named, nn.Conv2d):
        return named.in_channels
    return next((module.in_channels for module in modules.values() if isinstance(module, nn.Conv2d)), None)


def cfg_as_built(network: nn.Module) -> dict[str, Any]:
    """A copy of `pretrained_cfg` whose `input_size`, `mean` and `std` are those of the timm model as built.

    A network built with another number of channels than its weight gets the mean over the channels of the weight.

    Raises:
        TypeError: if it has no `pretrained_cfg`.
    """
    cfg = getattr(network, "pretrained_cfg", None)
    if cfg is None:
        raise TypeError(f"{type(network).__name__} has no pretrained_cfg: give a model made by timm.create_model")
    cfg = dict(cfg)
    channels, height, width = cfg["input_size"]
    channels = channels_of(network) or channels
    patches = getattr(network, "patch_embed", None)
    built = getattr(patches, "img_size", None)
    if built and getattr(patches, "strict_img_size", True):
        height, width = built
    cfg["input_size"] = (channels, height, width)
    for statistic in ("mean", "std"):
        if len(cfg[statistic]) != channels:
            cfg[statistic] = (mean(cfg[statistic]),) * channels
    return cfg


def describe_as_built(network: nn.Module, size: int | tuple[int, int] | None = None, **changes: Any) -> None:
    """Make `pretrained_cfg` and `default_cfg` of a network answer for its input as built, see `cfg_as_built`.

    Args:
        network: a timm model, changed in place.
        size: side of the input, or height and width, pixels; None keeps it.
        changes: of other fields, made before the channels are counted.
    """
    told: dict[str, Any] = dict(network.pretrained_cfg) | changes  # type: ignore[arg-type]
    told.pop("state_dict", None)  # tensors that timm was handed are no description, and would stay in memory
    vars(network)["pretrained_cfg"] = told
    cfg = cfg_as_built(network)
    if size is not None:
        cfg["input_size"] = (cfg["input_size"][0], *((size, size) if isinstance(size, int) else size))
    vars(network).update(pretrained_cfg=cfg, default_cfg=cfg)
