"""Every kind of name gives the network it stands for, described as built; all else is refused in a line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants

import usbackbones
from tests.conftest import Published
from usbackbones.hub.backbone import PLAIN_MEAN, build_backbone, full_name, rebuild_args
from usbackbones.hub.describe import cfg_as_built
from usbackbones.hub.errors import BackboneError, UnknownModel, WeightsUnavailable
from usbackbones.hub.foreign_weights import overlay_for
from usbackbones.hub.timm_folder import timm_config, write_timm_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A timm folder of three channels and a classifier of two classes, as fine-tuning leaves it."""
    torch.manual_seed(3)
    network = timm.create_model("test_resnet", num_classes=2)
    place = tmp_path_factory.mktemp("tuned")
    given = {"arch": "test_resnet", "model_args": {}, "tag": "tuned", "size": 48, "interpolation": "bilinear"}
    given |= {"mean": (0.1, 0.2, 0.3), "std": (0.2, 0.3, 0.4), "licence": "MIT", "origin_url": "", "description": ""}
    write_timm_folder(place, network.state_dict(), timm_config(network, num_classes=2, **given))
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The part of a pretraining run that is needed to open it, of a network with one channel and a moving average."""
    place = tmp_path_factory.mktemp("run")
    torch.manual_seed(4)
    network = timm.create_model("test_vit", num_classes=0, in_chans=1, img_size=32, global_pool="avg")
    recipe = {"arch": "test_vit", "model_args": {"img_size": 32, "global_pool": "avg"}, "mean": 0.2, "std": 0.25}
    (place / "recipe.json").write_text(json.dumps(recipe | {"input_size": 48, "augment": {"size": 32}}))
    state = {"backbone." + key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    torch.save({"method": state, "average": network.state_dict()}, place / "checkpoint.pt")
    return place, network.eval()


def test_our_names_in_every_spelling(published):
    full = f"usbackbones/{Published.resnet}"
    assert full_name(full) == full_name(Published.resnet) == full
    assert full_name(
        "vit_tiny_patch16_224"
    ) == f"usbackbones/{timm.get_pretrained_cfg('usvit_tiny_patch16_224').tag}".replace("/", "/vit_tiny_patch16_224.")
    assert full_name("timm/resnet18") == "timm/resnet18" and full_name("resnet18.a1_in1k") == "resnet18.a1_in1k"
    for in_chans, channels in ((1, 1), (3, 3), (None, 1)):
        network = build_backbone(Published.resnet, in_chans)
        assert network.conv1.weight.shape[1] == channels
        assert (
            network.pretrained_cfg["input_size"] == (channels, 64, 64)
            and len(network.pretrained_cfg["mean"]) == channels
        )
    assert network.built.name == full


def test_a_folder_is_described_by_its_first_convolution(folder):
    for in_chans, channels in ((None, 3), (1, 1)):
        network = build_backbone(f"local-dir:{folder}", in_chans, size=40)
        cfg = network.pretrained_cfg
        assert cfg["input_size"] == (channels, 40, 40) and network.num_classes == 0
        assert usbackbones.transforms(network).channels == channels
    np.testing.assert_allclose(cfg["mean"], [0.2])
    np.testing.assert_allclose(cfg["std"], [0.3])
    whole = timm.create_model(f"local-dir:{folder}", pretrained=True, in_chans=1)  # timm says three channels
    assert whole.pretrained_cfg["input_size"][0] == 3 and cfg_as_built(whole)["input_size"] == (1, 48, 48)
    frames = np.random.default_rng(0).integers(0, 256, (2, 50, 50), dtype=np.uint8)
    assert usbackbones.embed(whole, frames).shape == (2, whole.num_features)


def test_a_classifier_is_kept_only_when_asked_for(folder):
    stored = timm.create_model(f"local-dir:{folder}", pretrained=True).get_classifier().weight
    kept, new, again = (build_backbone(f"local-dir:{folder}", 3, classes) for classes in (None, 2, 2))
    assert torch.equal(kept.get_classifier().weight, stored)
    assert not torch.equal(new.get_classifier().weight, stored)
    assert torch.equal(new.get_classifier().weight, again.get_classifier().weight)


def test_a_run_is_its_average_on_one_channel_or_on_three(run):
    place, network = run
    images = torch.rand(2, 1, 32, 32)
    one, three = (build_backbone(f"run:{place}", in_chans, img_size=32).eval() for in_chans in (None, 3))
    assert one.pretrained_cfg["input_size"] == (1, 48, 48) and one.pretrained_cfg["mean"] == (0.2,)
    with torch.no_grad():
        wanted = network(images)
        torch.testing.assert_close(one(images), wanted)
        torch.testing.assert_close(three(images.expand(-1, 3, -1, -1)), wanted, rtol=1e-4, atol=1e-5)
        assert one(torch.rand(1, 1, 64, 48)).shape == wanted[:1].shape  # a ViT takes any multiple of its patch
    again = timm.create_model("test_vit", num_classes=0, in_chans=1, **rebuild_args(one))
    again.load_state_dict(one.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(images), wanted)


def test_random_networks_are_seeded_and_leave_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, same, other = (build_backbone("random:test_resnet", seed=seed, num_classes=3) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
    assert one.pretrained_cfg["mean"] == PLAIN_MEAN[:1] and one.num_classes == 3


def test_what_cannot_be_loaded_is_told_in_a_line_with_the_ways_there_are(folder, tmp_path):
    tensors = timm.create_model("test_resnet").state_dict()
    first = next(iter(tensors))
    lacking = {name: tensor for name, tensor in tensors.items() if name != first}
    config = json.loads((folder / "config.json").read_text())
    for name, content in (("lacking", lacking), ("more", {**tensors, "odd.weight": torch.zeros(1)})):
        write_timm_folder(tmp_path / name, content, config)
    (tmp_path / "bare").mkdir()
    for name, told in (
        (
            "resnet19",
            "has this name (did you mean resnet18?), and no folder here; use a timm model name, a usbackbones weight",
        ),
        ("random:resnet19", "timm has no architecture 'resnet19'"),
        (f"local-dir:{tmp_path / 'none'}", "there is no such folder"),
        (f"local-dir:{tmp_path / 'bare'}", "lacks a config.json"),
        (f"local-dir:{tmp_path / 'lacking'}", f"1 tensors are missing ({first})"),
        (f"local-dir:{tmp_path / 'more'}", "1 tensors have no place in the network (odd.weight)"),
        (f"run:{tmp_path / 'bare'}", "recipe.json is missing"),
    ):
        with pytest.raises(BackboneError) as refusal:
            build_backbone(name)
        assert told in str(refusal.value) and "\n" not in str(refusal.value)
    with pytest.raises(UnknownModel, match="Did you mean 'usbackbones/resnet18"):
        build_backbone("resnet18.uscl_ncc2")
    with pytest.raises(BackboneError, match="in_chans is 2"):
        build_backbone("random:test_resnet", 2)
    with pytest.raises(BackboneError, match="size is 100: give a multiple of 16"):
        build_backbone("random:test_vit", size=100)


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k"])
def test_a_name_that_needs_the_network_is_refused_at_once(name, monkeypatch):
    """Offline by the variable, and where nothing listens: neither asks the Hub, whose client would try for long."""
    with pytest.raises(WeightsUnavailable, match="not on this machine, and HF_HUB_OFFLINE forbids"):
        build_backbone(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsUnavailable, match=r"127\.0\.0\.1 is not reached \(127"):
        build_backbone(name)


def test_what_the_cache_holds_needs_no_network(tmp_path, monkeypatch):
    """timm's own weight and a Hub repository, as huggingface_hub stores them."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    torch.manual_seed(5)
    network = timm.create_model("test_resnet")
    cfg = replace(timm.get_pretrained_cfg("test_resnet"))
    commit = "0" * 40
    storage = tmp_path / f"models--{cfg.hf_hub_id.replace('/', '--')}"
    (storage / "refs").mkdir(parents=True)
    (storage / "refs" / "main").write_text(commit)
    told = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": network.pretrained_cfg}
    write_timm_folder(storage / "snapshots" / commit, network.state_dict(), told)
    assert overlay_for("test_resnet")["file"].startswith(str(storage))
    for name in ("test_resnet", f"hf-hub:{cfg.hf_hub_id}"):
        found = build_backbone(name, 3, None)
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), found.parameters(), strict=True))


def test_a_folder_is_named_by_its_path_alone(folder, monkeypatch):
    """`export tuned` means the folder; a known name wins over a folder that is called like it."""
    monkeypatch.chdir(folder.parent)
    assert full_name(folder.name) == f"local-dir:{folder.name}"
    (folder.parent / "resnet18").symlink_to(folder)
    assert full_name("resnet18") != "local-dir:resnet18"
    with pytest.raises(BackboneError):
        full_name("empty")
