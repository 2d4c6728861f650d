"""Optimiser, schedule and moving average of a run, from timm's factories.

Where torch has a fused kernel (SGD, Adam, AdamW) it is taken, on the CPU too: a step of AdamW on a ResNet-18 takes
8 ms of one core with it, 50 to 60 ms with a loop over the parameters or with foreach operators.
"""

import inspect
from typing import Any

import timm.optim
import timm.scheduler
import torch
from timm.utils import ModelEmaV3

from training.errors import TrainingError
from training.methods.base import Method
from training.recipes import Recipe


def optimizer_of(method: Method, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of what the engine trains of a method.

    Raises:
        TrainingError: if the recipe names one that timm does not know.
    """
    try:
        kind = timm.optim.get_optimizer_class(recipe.optimiser, bind_defaults=False)
    except ValueError as error:
        raise TrainingError(f"{error}: choose an --optimiser that timm.optim.list_optimizers() names") from error
    assert isinstance(kind, type)
    fused: dict[str, Any] = {"fused": True} if "fused" in inspect.signature(kind).parameters else {}
    return timm.optim.create_optimizer_v2(
        method.learner() if recipe.layer_decay == 1 else _decayed_groups(method, recipe),
        opt=recipe.optimiser,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        filter_bias_and_bn=not recipe.decay_all,
        **fused,
    )


def _decayed_groups(method: Method, recipe: Recipe) -> list[dict[str, Any]]:
    """The backbone's parameters by layer, as timm groups them, and the heads', which have the full rate."""
    spared: set[str] = getattr(method.backbone, "no_weight_decay", set)()
    groups = timm.optim.param_groups_layer_decay(
        method.backbone,
        recipe.weight_decay,
        no_weight_decay_list=spared,
        weight_decay_exclude_1d=not recipe.decay_all,
        layer_decay=recipe.layer_decay,
    )
    inside = set(method.backbone.parameters())
    heads = [parameter for parameter in method.learner().parameters() if parameter not in inside]
    spare = [parameter for parameter in heads if parameter.ndim <= 1 and not recipe.decay_all]
    rest = [parameter for parameter in heads if parameter.ndim > 1 or recipe.decay_all]
    return [*groups, {"params": rest}, {"params": spare, "weight_decay": 0.0}]


def schedule_of(optimizer: torch.optim.Optimizer, recipe: Recipe) -> timm.scheduler.scheduler.Scheduler:
    """Warm-up and cosine over the recipe's steps, at step 0."""
    warmup = round(recipe.warmup * recipe.steps)
    schedule = timm.scheduler.CosineLRScheduler(
        optimizer,
        t_initial=max(recipe.steps - warmup, 1),
        warmup_t=warmup,
        warmup_lr_init=recipe.lr if recipe.hold else recipe.lr / max(warmup, 1),
        warmup_prefix=True,
        t_in_epochs=False,
    )
    schedule.step_update(0)
    return schedule


def average_of(method: Method, recipe: Recipe) -> ModelEmaV3 | None:
    """The moving average of the backbone, running statistics included; None where the recipe has none.

    Early on its decay is smaller (timm's warm-up), so that the average does not hold on to the random beginning.
    """
    return ModelEmaV3(method.backbone, decay=recipe.ema, use_warmup=True) if recipe.ema else None
