"""From a recipe to its network: seeded, on a device, with the recipe's options; what contradicts itself is refused."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from training.engine.backbone import backbone_of
from training.errors import TrainingError
from training.methods.base import Method
from training.nn.distributed import of_first, world_size
from training.nn.rng import seed_everything
from training.nn.sync_batchnorm import synchronize
from training.recipes import Recipe


def build(recipe: Recipe, classes: int) -> Method:
    """The seeded network of a recipe, on one gray channel.

    Raises:
        TrainingError: if its positions are those of views, and it is to be given frames of another size.
    """
    if recipe.arch.startswith("vit") and recipe.input_size not in (0, recipe.augment.size):
        raise TrainingError(
            f"--input-size {recipe.input_size}: {recipe.arch} has a position for each patch of a view of "
            f"{recipe.augment.size} px and is released for that size; leave --input-size out"
        )
    seed_everything(recipe.seed)
    return recipe.method.build(backbone_of(recipe), classes)


def network_of(method: Method, recipe: Recipe, device: torch.device) -> Method:
    """The method on a device, with the recipe's options for it, and with the weights of process 0.

    Raises:
        TrainingError: if the recipe asks for what the method or its backbone cannot do.
    """
    _refuse(method, recipe)
    if recipe.checkpoint_blocks:
        _checkpoint_blocks(method, recipe)
    if recipe.sync_batchnorm and world_size() > 1:
        synchronize(method)
    method = method.to(device).to(memory_format=torch.channels_last)
    of_first([*method.parameters(), *method.buffers()])
    if recipe.compile and device.type == "cuda":
        compile_backbone(method.backbone)
    return method


def compile_backbone(backbone: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile a backbone when it is first called; what cannot be compiled is run as it is, and torch warns of it."""
    torch._dynamo.config.suppress_errors = True
    backbone.compile(backend=backend)


def _refuse(method: Method, recipe: Recipe) -> None:
    name = type(method).__name__
    if method.looks_ahead:
        reasons = {
            "clip_gradient": (recipe.clip_gradient, "--clip-gradient 0", "would change the step behind its back"),
            "accumulate": (recipe.accumulate > 1, "--accumulate 1", "has no second pass for three gradients"),
            "checkpoint_blocks": (recipe.checkpoint_blocks, "--no-checkpoint-blocks", "has no forward mode"),
            "compile": (recipe.compile, "--no-compile", "has no forward mode"),
        }
        for field, (asked, remedy, why) in reasons.items():
            if asked:
                raise TrainingError(
                    f"{name} looks ahead of the optimiser's step, and {field} = {getattr(recipe, field)} {why}: "
                    f"set {remedy}"
                )
    if not 0 <= recipe.ema < 1:
        raise TrainingError(f"ema is {recipe.ema}; it must be at least 0 (off) and below 1 (0.999 is usual)")
    if recipe.accumulate < 1:
        raise TrainingError(f"accumulate is {recipe.accumulate}; it counts the pieces of a batch, 1 is the whole")


def _checkpoint_blocks(method: Method, recipe: Recipe) -> None:
    try:
        method.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AssertionError, AttributeError, NotImplementedError) as error:
        raise TrainingError(f"{recipe.arch} cannot checkpoint its blocks: set --no-checkpoint-blocks") from error
