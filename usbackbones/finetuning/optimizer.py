"""AdamW with a learning rate for each layer, which falls from layer to layer or is learned, and its schedule."""

from collections.abc import Callable
from typing import Any

import timm.optim
import timm.scheduler
import torch
from torch import nn

from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.metalr import MetaLR, groups_of_layers

REFERENCE_LAYERS = 10
"""Layers of ResNet-18 in timm's grouping: stem, eight blocks, classifier."""


def layerwise_adamw(model: nn.Module, spec: FineTune) -> tuple[torch.optim.Optimizer, Callable[[float], Any]]:
    """The optimizer and its schedule, a function of the epochs done so far.

    With `spec.rates` "decay" a cosine schedule takes every learning rate to zero, epoch by epoch. With "metalr" there
    is a parameter group a layer, whose learning rate `metalr.backward_and_learn_rates` sets, and no schedule.
    """
    if spec.rates == "metalr":
        groups = [{"params": layer, "lr": min(spec.lr, MetaLR().highest)} for layer in groups_of_layers(model)]
        return torch.optim.AdamW(groups, weight_decay=spec.weight_decay), lambda epochs: None
    decay = decay_for_depth(spec.layer_decay, len(groups_of_layers(model)))
    optimizer = timm.optim.create_optimizer_v2(
        model, opt="adamw", lr=spec.lr, weight_decay=spec.weight_decay, layer_decay=decay
    )
    cosine = timm.scheduler.CosineLRScheduler(optimizer, t_initial=max(spec.epochs, 2))  # of one epoch timm warns
    return optimizer, lambda epochs: cosine.step(int(epochs))


def decay_for_depth(layer_decay: float, layers: int) -> float:
    """The layer decay with which the lowest of `layers` layers learns as slowly as that of a network of ten."""
    return layer_decay if layers <= REFERENCE_LAYERS else layer_decay ** ((REFERENCE_LAYERS - 1) / (layers - 1))
