"""The backbone of a pretraining run: the folder that `python -m training.pretrain` writes.

Such a folder holds recipe.json (architecture, mean, std, size), checkpoint.pt (opened as tensors alone) and, when the
run is finished, summary.json.
"""

import json
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from usbackbones.hub.torch_checkpoint import load_checkpoint

GRAY_INPUT: dict[str, Any] = {"interpolation": "bilinear", "crop_mode": "squash", "crop_pct": 1.0}
"""How frames reach a network of ours: the whole frame, squashed to the square; fields of a timm pretrained_cfg."""


class RunError(FileNotFoundError, ValueError):
    """A folder that is no finished pretraining run; one line that names the file it lacks."""


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of a run.

    Raises:
        RunError: if it is not there, or damaged.
    """
    if not file.is_file():
        raise RunError(f"{file} is missing: {file.parent} is not a finished run of training.pretrain")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is no JSON ({error}): {file.parent} is damaged") from error
    return content


def state_of_run(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of the trained backbone, for one gray channel, and the recipe of the run.

    A run that keeps a moving average of its weights is evaluated and released by the average.

    Raises:
        RunError: if a file is missing.
        CheckpointError: if the checkpoint is damaged.
    """
    recipe = read_json(run / "recipe.json")
    file = run / "checkpoint.pt"
    if not file.is_file():
        raise RunError(f"{file} is missing: {run} is not a finished run of training.pretrain")
    state, prefix = load_checkpoint(file), "backbone."
    trained = {key.removeprefix(prefix): value for key, value in state["method"].items() if key.startswith(prefix)}
    return state.get("average") or trained, recipe


def backbone_of_run(run: Path, in_chans: int = 1, **model_args: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The trained backbone of a run folder, headless, in eval mode and float32, and its recipe.

    Args:
        run: the folder.
        in_chans: 1 as in training; 3 spreads the first convolution evenly, the same network on gray given three times.
        model_args: of `timm.create_model`, besides those of the recipe.

    Raises:
        RunError, CheckpointError: see `state_of_run`.
        RuntimeError: if the checkpoint does not hold exactly the tensors of the architecture.
    """
    tensors, recipe = state_of_run(run)
    args = recipe["model_args"] | model_args
    backbone = timm.create_model(recipe["arch"], num_classes=0, in_chans=in_chans, **args)
    if in_chans != 1:
        config: Any = backbone.pretrained_cfg
        first = f"{config['first_conv']}.weight"
        tensors = {**tensors, first: tensors[first].repeat(1, in_chans, 1, 1) / in_chans}
    backbone.load_state_dict(tensors)
    return backbone.eval(), recipe


def input_of_run(recipe: dict[str, Any]) -> dict[str, Any]:
    """How frames reach the network of a recipe: fields of a timm pretrained_cfg, for one gray channel."""
    side = input_side(recipe)
    return GRAY_INPUT | {"input_size": (1, side, side), "mean": (recipe["mean"],), "std": (recipe["std"],)}


def input_side(recipe: dict[str, Any]) -> int:
    """Side in pixels of the frames that the network of a recipe is to be given."""
    side: int = recipe.get("input_size") or recipe["augment"]["size"]
    return side
