"""From names to rows: what is built, what is always there, and what is said where weights cannot be loaded."""

import json
import shutil

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.training.benchmark.conftest import SMALL
from training.benchmark.cues import is_cue
from training.benchmark.models import (
    PLAIN_INPUT,
    control_command,
    entries,
    is_imagenet,
    random_networks,
    run_folders,
    with_input,
)
from training.pretrain import Run, pretrain
from training.recipes import RECIPES
from usbackbones.features.extract import embed, fingerprint, frames_hash


@pytest.fixture(scope="module")
def simclr(cache, tmp_path_factory):
    """A finished SimCLR run of a tiny network, and a copy of it as a second seed."""
    from dataclasses import replace

    recipe = RECIPES["simclr"][1]
    recipe = replace(recipe, arch="test_resnet", steps=2, batch=4, augment=replace(recipe.augment, size=32))
    folder = tmp_path_factory.mktemp("runs") / "simclr-seed0"
    pretrain(Run(recipe=recipe, data=cache, out=folder), "simclr", "the command", progress=False)
    shutil.copytree(folder, folder.with_name("simclr-seed1"))
    return folder


def test_random_networks_are_seeded_alive_and_leave_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two = random_networks("resnet18", 2, **SMALL)
    assert torch.equal(torch.rand(1), expected)
    (again,) = random_networks("resnet18", 1, **SMALL)
    assert torch.equal(one.conv1.weight, again.conv1.weight)
    assert not torch.equal(one.conv1.weight, two.conv1.weight)
    assert all(module.weight.all() for module in one.modules() if isinstance(module, nn.BatchNorm2d))
    assert one.pretrained_cfg["input_size"] == (3, 32, 32) and one.pretrained_cfg["mean"] == PLAIN_INPUT["mean"]


def test_a_vit_is_brought_to_the_asked_size():
    model = with_input(timm.create_model("vit_tiny_patch16_224", num_classes=0), **SMALL)
    assert model.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 5, 192)


def test_the_rows_that_are_always_there(published):
    """For a weight: SimCLR with the command that makes it, ImageNet which is not here, and random networks."""
    name = f"usbackbones/{published.resnet}"
    rows = entries([name], None, 2, always=True)
    always = ("SimCLR resnet18", "resnet18.a1_in1k", "random:resnet18", "cue:container", "cue:geometry", "cue:border")
    assert [row.name for row in rows] == [name, *always]
    weight, simclr, imagenet, random, *cues = rows
    assert {row.arch for row in rows[:4]} == {"resnet18"} and not any(cue.members for cue in cues)
    assert "training.pretrain simclr --arch resnet18" in simclr.remedy and not simclr.members
    assert imagenet.why_not and not imagenet.members and not imagenet.remedy
    assert len(random.members) == 2
    assert random.members[0].pretrained_cfg["input_size"] == weight.members[0].pretrained_cfg["input_size"]
    assert random.members[0].pretrained_cfg["mean"] == weight.members[0].pretrained_cfg["mean"]
    assert [row.name for row in entries([name], None, 2)] == [name]


def test_the_control_at_equal_views_is_the_weights_own_command_with_simclr():
    told = control_command("usbackbones/resnet18.hico_open3")
    assert told.startswith("python -m training.pretrain simclr --data cache/open3 --arch resnet18 --batch 256 ")
    assert "--steps 2100" in told and "hico" not in told and "--out" not in told
    assert control_command("resnet18.a1_in1k") == control_command("random:resnet18") == ""


def test_an_imagenet_folder_brings_no_rows_of_its_own_architecture(tmp_path):
    folder = tmp_path / "lite0"
    network = timm.create_model("test_resnet")
    timm.models.save_for_hf(
        network, folder, model_config={"pretrained_cfg": {"tag": "imagenet"}}, safe_serialization=True
    )
    name = f"local-dir:{folder}"
    assert is_imagenet(name) and is_imagenet("resnet18.a1_in1k") and not is_imagenet("random:resnet18")
    rows = [row.name for row in entries([name], None, 1, always=True)]
    assert [row for row in rows if not is_cue(row)] == [name]


def test_a_control_takes_the_place_of_the_row_that_is_not_run(simclr):
    runs = f"run:{simclr.parent}/simclr-seed*"
    rows = entries(["random:test_resnet"], None, 2, always=True, controls=[runs])
    assert [row.name for row in rows][:2] == ["random:test_resnet", runs]
    control = rows[1]
    assert len(control.members) == 2 and control.arch == "test_resnet"
    assert not any(row.name.startswith("SimCLR") for row in rows)
    assert control.members[0].pretrained_cfg["input_size"] == (1, 32, 32)
    assert rows[0].members[0].pretrained_cfg["input_size"][1:] == (32, 32)


def test_random_networks_take_the_input_of_their_own_architecture(published):
    names = [f"usbackbones/{published.resnet}", f"usbackbones/{published.vit}"]
    rows = {row.name: row for row in entries(names, None, 1, always=True)}
    assert rows["random:resnet18"].members[0].pretrained_cfg["input_size"][-1] == 64
    assert rows["random:vit_tiny_patch16_224"].members[0].pretrained_cfg["input_size"][-1] == 96
    sized = entries(names, 32, 1, always=True)
    assert {row.members[0].pretrained_cfg["input_size"][-1] for row in sized if row.members} == {32}


def test_an_unfinished_run_is_named(tmp_path):
    for name in (f"run:{tmp_path}/none", f"run:{tmp_path}/none*"):
        with pytest.raises(FileNotFoundError, match="holds no finished run"):
            run_folders(name)


def test_features_are_kept_by_weights_frames_and_precision(network, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 40), dtype=np.uint8)
    first = embed(network, frames, cache=tmp_path)
    np.testing.assert_array_equal(first, embed(network, frames))
    (file,) = tmp_path.iterdir()
    with np.load(file) as arrays:
        np.testing.assert_array_equal(arrays["features"], first)
    np.savez(file, features=first + 1)
    np.testing.assert_array_equal(embed(network, frames, cache=tmp_path), first + 1)  # it was read, not computed
    embed(network, frames, bf16=True, cache=tmp_path)
    embed(network, frames[:2], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_the_hash_tells_weights_inputs_and_frames_apart():
    one, two = random_networks("resnet18", 2, **SMALL)
    hashes = {fingerprint(one), fingerprint(two)}
    (larger,) = random_networks("resnet18", 1, input_size=(3, 64, 64))
    hashes.add(fingerprint(larger))
    one.bn1.running_mean[0] += 1e-3
    hashes.add(fingerprint(one))
    assert len(hashes) == 4
    assert fingerprint(two) == fingerprint(random_networks("resnet18", 2, **SMALL)[1])
    frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert len({frames_hash(frames), frames_hash(frames.reshape(2, 4, 3)), frames_hash(frames + 1)}) == 3
    assert frames_hash(frames[:, ::-1]) == frames_hash(frames[:, ::-1].copy())


def test_a_run_tells_what_it_is(simclr):
    assert json.loads((simclr / "recipe.json").read_text())["method"]["name"] == "simclr"
    assert run_folders(f"run:{simclr}") == [simclr]
