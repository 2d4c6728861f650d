"""Numbers of a recipe that can be typed and mean nothing, refused before anything is read."""

import math
from operator import attrgetter

from training.errors import TrainingError
from training.recipes import Recipe

_AT_LEAST = {
    "steps": 1,
    "seed": 0,
    "accumulate": 1,
    "augment.size": 8,
    "input_size": 0,
    "weight_decay": 0,
    "clip_gradient": 0,
    "warmup": 0,
    "validation": 0,
    "ema": 0,
}
_BELOW_ONE = ("validation", "ema", "warmup")
_POSITIVE = ("lr", "std", "layer_decay")


def refuse_impossible(recipe: Recipe, workers: int = 0, checkpoint_every: int = 1) -> None:
    """Refuse numbers that no run can be made of.

    Raises:
        TrainingError: naming the option, its value, and what it may be.
    """
    told = {name: attrgetter(name)(recipe) for name in {*_AT_LEAST, *_POSITIVE}}
    told |= {"workers": workers, "checkpoint_every": checkpoint_every}
    for name, least in (_AT_LEAST | {"workers": 0, "checkpoint_every": 1}).items():
        if not (math.isfinite(told[name]) and told[name] >= least):
            raise TrainingError(f"{_option(name)} is {told[name]}: give {least} or more")
    for name in _BELOW_ONE:
        if told[name] >= 1:
            raise TrainingError(f"{_option(name)} is {told[name]}: give a share below 1")
    for name in _POSITIVE:
        if not (math.isfinite(told[name]) and told[name] > 0):
            raise TrainingError(f"{_option(name)} is {told[name]}: give a number above 0")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
