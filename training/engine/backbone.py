"""Where a run's backbone begins: at random weights, or at any weight that timm can load."""

from difflib import get_close_matches

import timm
import torch
from torch import nn

from training.errors import TrainingError
from training.recipes import Recipe
from usbackbones.hub.entrypoints import announce


def backbone_of(recipe: Recipe) -> nn.Module:
    """The backbone of a recipe, headless, on one gray channel; random weights come from torch's generator.

    Raises:
        TrainingError: if timm has no such architecture, or `init` could not be loaded, is of another architecture, or
            does not fill every layer.
    """
    announce()  # timm knows our weights from here on
    if not timm.is_model(recipe.arch):
        near = get_close_matches(recipe.arch, timm.list_models(), 3)
        raise TrainingError(f"--arch {recipe.arch}: timm has no such model; {', '.join(near) or 'resnet18'} it has")
    backbone: nn.Module = timm.create_model(recipe.arch, num_classes=0, in_chans=1, **recipe.model_args())
    if recipe.init:
        with torch.random.fork_rng():  # so that the heads begin as they do on a random backbone
            _begin_at(backbone, recipe)
    return backbone


def _begin_at(backbone: nn.Module, recipe: Recipe) -> None:
    def create(pretrained: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(recipe.seed)
        return timm.create_model(
            recipe.init, pretrained=pretrained, num_classes=0, in_chans=1, **recipe.model_args()
        ).state_dict()

    try:
        random, start = create(pretrained=False), create(pretrained=True)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(
            f"--init {recipe.init} could not be loaded: {' '.join(str(error).split())} Use a timm model "
            "name, a usbackbones weight, local-dir:FOLDER, or --init '' for random initialization"
        ) from error
    ours = backbone.state_dict()
    other = sorted(key for key in ours.keys() | start.keys() if _shape(ours, key) != _shape(start, key))
    if other:
        raise TrainingError(
            f"--init {recipe.init} is no weight of --arch {recipe.arch}: {len(other)} tensors differ, {other[0]} for "
            "one. Choose two of one architecture, or --init '' for random weights"
        )
    # timm passes over what it does not find in the file. No trained matrix is equal to a random one.
    untouched = [key for key, value in start.items() if value.ndim > 1 and value.equal(random[key])]
    if untouched:
        raise TrainingError(
            f"--init {recipe.init} leaves {len(untouched)} tensors of {recipe.arch} random, {untouched[0]} for one: "
            "the file is not of this network. Choose another, or --init '' for random weights"
        )
    backbone.load_state_dict(start)


def _shape(tensors: dict[str, torch.Tensor], key: str) -> torch.Size | None:
    return tensors[key].shape if key in tensors else None
