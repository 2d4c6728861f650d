"""Where a backbone begins: at random, at a published weight, at a folder; and what is refused, without a network."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from training.data.views.augment import Augment
from training.engine.backbone import backbone_of
from training.errors import TrainingError
from training.methods.simclr import SimCLR
from training.recipes import Recipe

RECIPE = Recipe(method=SimCLR(), arch="test_resnet", augment=Augment(size=96))


@pytest.fixture
def folder(tmp_path):
    """A three-channel network of ten classes in timm's own layout."""
    torch.manual_seed(5)
    save_for_hf(timm.create_model("test_resnet", num_classes=10), tmp_path, safe_serialization=True)
    return tmp_path


def test_without_a_weight_it_is_random_and_seeded():
    torch.manual_seed(0)
    expected = timm.create_model("test_resnet", num_classes=0, in_chans=1).state_dict()
    torch.manual_seed(0)
    found = backbone_of(RECIPE).state_dict()
    assert found.keys() == expected.keys() and all(found[key].equal(expected[key]) for key in found)


def test_a_folder_fills_every_layer_and_its_kernels_are_summed_over_color(folder):
    state = torch.get_rng_state()
    found = backbone_of(replace(RECIPE, init=f"local-dir:{folder}")).state_dict()
    tensors = load_file(folder / "model.safetensors")
    assert found.keys() == {key for key in tensors if not key.startswith("fc.")}
    for key, value in found.items():
        expected = tensors[key].sum(1, keepdim=True) if key == "conv1.0.weight" else tensors[key]
        torch.testing.assert_close(value, expected)
    torch.set_rng_state(state)
    backbone_of(RECIPE)
    after_random = torch.rand(1)
    torch.set_rng_state(state)
    backbone_of(replace(RECIPE, init=f"local-dir:{folder}"))
    assert torch.rand(1) == after_random  # the heads begin alike


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_ours_are_loaded_by_name(published, kind):
    name = getattr(published, kind)
    recipe = replace(RECIPE, arch=name.split(".")[0], init=f"usbackbones/{name}")
    found = backbone_of(recipe)
    expected = timm.create_model(recipe.init, pretrained=True, num_classes=0, in_chans=1, **recipe.model_args())
    images = torch.randn(2, 1, 96, 96)
    assert torch.equal(found.eval()(images), expected.eval()(images))
    stored = published.tensors[name]
    some = "layer4.1.conv2.weight" if kind == "resnet" else "blocks.11.mlp.fc2.weight"
    assert found.state_dict()[some].equal(stored[some].float())


@pytest.mark.parametrize(
    ("init", "arch", "complaint"),
    [
        ("resnet18.a1_in1k", "resnet18", "resnet18.a1_in1k could not be loaded: .* HF_HUB_OFFLINE forbids"),
        ("resnet18.nothing", "resnet18", "Unknown model 'usbackbones/resnet18.nothing'. Did you mean"),
        ("nonsense", "resnet18", "nonsense could not be loaded: no model of timm or of ours has this name"),
        ("resnt18", "resnet18", r"resnt18 could not be loaded: .* has this name \(did you mean resnet18\?\)"),
        ("local-dir:nowhere", "resnet18", "local-dir:nowhere could not be loaded: there is no such folder"),
    ],
)
def test_what_is_out_of_reach_is_named_with_the_remedy(init, arch, complaint):
    with pytest.raises(TrainingError, match=rf"--init: {complaint}(.|\n)*--init '' for random initialization"):
        backbone_of(replace(RECIPE, init=init, arch=arch))


def test_a_weight_of_another_architecture_is_refused(folder):
    with pytest.raises(TrainingError, match=r"is no weight of --arch resnet18: \d+ tensors differ, \S+ for one"):
        backbone_of(replace(RECIPE, init=f"local-dir:{folder}", arch="resnet18"))


def test_a_file_that_leaves_layers_random_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({key.replace("layer2", "stage2"): value for key, value in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(TrainingError, match=r"\d+ tensors are missing \(layer2\.\S+, .*have no place in the network"):
        backbone_of(replace(RECIPE, init=f"local-dir:{folder}"))
