"""Settings of a segmenter, and the network that they build on a backbone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import timm
import timm.optim
import timm.scheduler
import torch
from torch import nn

from usbackbones.data.item import DataError
from usbackbones.hub.backbone import rebuild_args
from usbackbones.segmentation.models import freeze, mask_rcnn, pyramid_of, unet

INTERPOLATION = "bilinear"


@dataclass(frozen=True)
class Segment:
    """How to train a segmenter.

    Attributes:
        head: "unet", or "mask_rcnn" that detects things, of which the surest is the mask.
        size: side of the square that images are squashed to, a multiple of 32.
        in_chans: 1, or 3 for gray three times.
        epochs: maximum number of passes over the training images.
        batch: images in a batch.
        lr: peak learning rate of the head.
        layer_decay: each layer of the backbone learns at this times the learning rate of the one above.
        optimizer: a name of timm's.
        weight_decay: on all but norms and biases.
        schedule: "cosine" to zero, or "step", a tenth after every ten epochs with a warm-up over the first.
        frozen: stages above the stem of the backbone that keep their weights, with it; -1 freezes nothing, "all" the
            whole backbone.
        keep: "best" on the validation groups, or "last" after all epochs, as some protocols do.
        patience: epochs without a better validation Dice before training stops.
        regions: that a Mask R-CNN learns from in an image.
        seed: of the head, the order and the flips.
        classes: names of what the masks tell apart; a U-Net of several has a channel each, and one for background.
    """

    head: Literal["unet", "mask_rcnn"] = "unet"
    size: int = 224
    in_chans: int = 1
    epochs: int = 30
    batch: int = 8
    lr: float = 1e-3
    layer_decay: float = 1.0
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["cosine", "step"] = "cosine"
    frozen: int | Literal["all"] = -1
    keep: Literal["best", "last"] = "best"
    patience: int = 8
    regions: int = 512
    seed: int = 0
    classes: tuple[str, ...] = ("foreground",)

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32:
            raise DataError(f"size is {self.size}: give a multiple of 32")
        for name, least in (("epochs", 1), ("batch", 1), ("regions", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}: give {least} or more")
        if self.head == "mask_rcnn" and len(self.classes) > 1:
            raise DataError("--classes needs --head unet: a Mask R-CNN is trained on one foreground")
        if self.frozen != "all" and self.frozen < -1:
            raise DataError(f"frozen is {self.frozen}: give -1 for nothing, 0 or more stages, or all")
        if not 0 < self.layer_decay <= 1:
            raise DataError(f"layer_decay is {self.layer_decay}: give a number above 0, and 1 at most")
        if not 0 < self.lr < inf:
            raise DataError(f"lr is {self.lr}: give a number above 0")


UDIAT = Segment(
    head="mask_rcnn", size=800, batch=2, lr=0.005, layer_decay=1.0, optimizer="momentum", weight_decay=5e-4,
    schedule="step", frozen=1, keep="last",
)  # fmt: skip
"""As USCL and Meta-USCL train on UDIAT-B: frozen stem and layer1, the last of 30 epochs, flips only. Differences: mean
and std are the backbone's own, and the groups that others stop early on are set aside here as well, though unused."""


def build(name: str | nn.Module, spec: Segment) -> nn.Module:
    """The network of these settings before training, on the backbone of a name or one that is made, see `models`."""
    model: nn.Module
    if spec.head == "unet":
        channels = 1 if len(spec.classes) == 1 else 1 + len(spec.classes)
        model = unet(name, channels, spec.in_chans, seed=spec.seed)
    else:
        side = (spec.size, spec.size)
        model = mask_rcnn(name, 1, spec.in_chans, size=side, regions=spec.regions, seed=spec.seed)
    if spec.frozen != -1:
        freeze(model, spec.frozen)
    vars(model)["pretrained_cfg"] = _input_of(model, spec)
    return model


def _input_of(model: nn.Module, spec: Segment) -> dict[str, Any]:
    """The backbone's cfg with the input of this network, from which `usbackbones.transforms` makes its transform."""
    cfg: dict[str, Any] = dict(pyramid_of(model).network.pretrained_cfg)
    cfg |= {"input_size": (spec.in_chans, spec.size, spec.size), "interpolation": INTERPOLATION}
    cfg |= {"crop_pct": 1.0, "crop_mode": "squash"}
    if spec.head == "mask_rcnn":  # normalizes inside
        cfg |= {"mean": (0.0,) * spec.in_chans, "std": (1.0,) * spec.in_chans}
    return cfg


def blueprint(network: nn.Module) -> dict[str, Any]:
    """What `from_blueprint` builds a backbone of `build_backbone` from when its weight is out of reach; for JSON."""
    cfg: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    kept = ("architecture", "input_size", "fixed_input_size", "mean", "std")
    return {"model_args": rebuild_args(network), "pretrained_cfg": {key: cfg[key] for key in kept}}


def from_blueprint(told: Mapping[str, Any]) -> nn.Module:
    """The backbone without its weight, of channels, mean and std as it was."""
    cfg = told["pretrained_cfg"]
    args = told["model_args"] | {"num_classes": 0, "in_chans": cfg["input_size"][0]}
    return timm.create_model(cfg["architecture"], pretrained=False, pretrained_cfg=cfg, **args)


def optimizer_of(model: nn.Module, spec: Segment) -> tuple[torch.optim.Optimizer, Callable[[float], Any]]:
    """The optimizer of these settings and its schedule, a function of the epochs done so far."""
    optimizer = timm.optim.create_optimizer_v2(
        _parameter_groups(model, spec), opt=spec.optimizer, lr=spec.lr, weight_decay=spec.weight_decay, momentum=0.9
    )
    schedule: timm.scheduler.scheduler.Scheduler
    if spec.schedule == "cosine":
        # Only the first cycle is run, so what the next would be multiplied by is free; at 1 timm warns of one epoch.
        schedule = timm.scheduler.CosineLRScheduler(optimizer, t_initial=spec.epochs, cycle_mul=2.0)
    else:
        schedule = timm.scheduler.StepLRScheduler(
            optimizer, decay_t=10, decay_rate=0.1, warmup_t=1, warmup_lr_init=spec.lr / 1000
        )
    step: Any = schedule.step  # timm types whole epochs, and computes with parts of them
    return optimizer, step


def _parameter_groups(model: nn.Module, spec: Segment) -> list[dict[str, Any]]:
    """The parameters that learn, those of the backbone with learning rates that fall from layer to layer downwards."""
    network = pyramid_of(model).network
    groups = timm.optim.param_groups_layer_decay(network, spec.weight_decay, layer_decay=spec.layer_decay)
    ours = {id(parameter) for parameter in network.parameters()}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in ours]
    for wide in (False, True):
        members = [p for p in rest if (p.ndim > 1) == wide]
        groups.append({"params": members, "lr_scale": 1.0, "weight_decay": spec.weight_decay if wide else 0.0})
    return groups
