"""Where a run's backbone begins: at random weights, or at any weight that `build_backbone` can load."""

from difflib import get_close_matches

import timm
import torch
from torch import nn

from training.errors import TrainingError
from training.recipes import Recipe
from usbackbones.hub.backbone import build_backbone
from usbackbones.hub.errors import BackboneError, UnknownModel, WeightsError


def backbone_of(recipe: Recipe) -> nn.Module:
    """The backbone of a recipe, headless, on one gray channel; random weights come from torch's generator.

    Raises:
        TrainingError: if timm has no such architecture, or `init` could not be loaded, is of another architecture, or
            does not fill every layer.
    """
    if not timm.is_model(recipe.arch):
        near = get_close_matches(recipe.arch, timm.list_models(), 3)
        raise TrainingError(f"--arch {recipe.arch}: timm has no such model; {', '.join(near) or 'resnet18'} it has")
    backbone: nn.Module = timm.create_model(recipe.arch, num_classes=0, in_chans=1, **recipe.model_args())
    if recipe.init:
        _begin_at(backbone, recipe)
    return backbone


def _begin_at(backbone: nn.Module, recipe: Recipe) -> None:
    try:
        start = build_backbone(recipe.init, seed=recipe.seed, **recipe.model_args()).state_dict()
    except (BackboneError, UnknownModel, WeightsError) as error:
        raise TrainingError(f"--init: {str(error).rstrip('.')}; or --init '' for random initialization") from error
    ours = backbone.state_dict()
    other = sorted(key for key in ours.keys() | start.keys() if _shape(ours, key) != _shape(start, key))
    if other:
        raise TrainingError(
            f"--init {recipe.init} is no weight of --arch {recipe.arch}: {len(other)} tensors differ, {other[0]} for "
            "one. Choose two of one architecture, or --init '' for random initialization"
        )
    backbone.load_state_dict(start)


def _shape(tensors: dict[str, torch.Tensor], key: str) -> torch.Size | None:
    return tensors[key].shape if key in tensors else None
