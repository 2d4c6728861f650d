"""From a released file to a loaded network: the same network for every way of asking, or an error that helps."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

import usbackbones
from tests.conftest import write_weight
from usbackbones.hub.zoo import FILE

REVISION = "0123456789abcdef0123456789abcdef01234567"
BOTH = pytest.mark.parametrize("kind", ["resnet", "vit"])


@pytest.fixture
def load(published):
    """`load("resnet", **kwargs)`: one of the synthetic weights through timm.create_model, in eval mode."""

    def load(kind, **kwargs):
        return timm.create_model(f"usbackbones/{getattr(published, kind)}", pretrained=True, **kwargs).eval()

    return load


def gray(size, channels):
    frames = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0)) * 4 - 2
    return frames.expand(-1, channels, -1, -1)


def size_of(kind):
    return {"resnet": 64, "vit": 96}[kind]


@BOTH
def test_every_tensor_of_the_file_is_in_the_model(load, published, kind):
    stored = published.tensors[getattr(published, kind)]
    loaded = load(kind).state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[key], stored[key].to(loaded[key].dtype)) for key in stored)


@BOTH
@torch.inference_mode()
def test_one_channel_equals_three_on_gray(load, kind):
    one, three = load(kind, in_chans=1), load(kind)
    size = size_of(kind)
    difference = (one(gray(size, 1)) - three(gray(size, 3))).abs().max()
    assert difference < 1e-5 * max(1, three(gray(size, 3)).abs().max())


@BOTH
def test_a_new_classifier_leaves_the_backbone_alone(load, kind):
    plain, classifier = load(kind).state_dict(), load(kind, num_classes=3)
    assert classifier(gray(size_of(kind), 3)).shape == (2, 3)
    own = classifier.state_dict()
    assert all(torch.equal(own[key], plain[key]) for key in plain)
    assert {key.rpartition(".")[0] for key in own.keys() - plain.keys()} == {classifier.pretrained_cfg["classifier"]}


@BOTH
@pytest.mark.parametrize("channels", [1, 3])
@torch.inference_mode()
def test_features_only_gives_the_intermediates_of_the_plain_model(load, kind, channels):
    indices = {"resnet": (1, 3), "vit": (2, 7)}[kind]
    features = load(kind, features_only=True, out_indices=indices, in_chans=channels)
    x = gray(size_of(kind), channels)
    _, expected = load(kind, in_chans=channels).forward_intermediates(x, indices=list(indices))
    got = features(x)
    assert len(got) == 2
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert features.pretrained_cfg["input_size"][0] == channels


@BOTH
def test_features_only_with_timms_own_indices(load, kind):
    maps = load(kind, features_only=True)(gray(size_of(kind), 3))
    assert [tuple(m.shape[1:]) for m in maps] == {
        "resnet": [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)],
        "vit": [(192, 6, 6)] * 3,
    }[kind]


@torch.inference_mode()
def test_without_pooling_the_map_is_given(load):
    x = gray(64, 3)
    unpooled = load("resnet", global_pool="")(x)
    assert unpooled.shape == (2, 512, 2, 2)
    torch.testing.assert_close(unpooled.mean((2, 3)), load("resnet")(x))


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("pool", ["", "token"])
def test_a_vit_with_another_pooling_keeps_all_but_the_last_norm(load, pool, num_classes):
    model = load("vit", global_pool=pool, num_classes=num_classes)
    plain = load("vit").state_dict()
    own = model.state_dict()
    kept = plain.keys() - {"fc_norm.weight", "fc_norm.bias"}
    assert own.keys() - kept - {"head.weight", "head.bias"} == {"norm.weight", "norm.bias"}
    assert all(torch.equal(own[key], plain[key]) for key in kept)
    assert model(gray(96, 3)).shape == {("", 0): (2, 37, 192), ("", 3): (2, 37, 3)}.get(
        (pool, num_classes), (2, num_classes or 192)
    )


@torch.inference_mode()
def test_a_vit_takes_another_image_size(load, published):
    model = load("vit", img_size=128, in_chans=1)
    assert model(gray(128, 1)).shape == (2, 192)
    assert model.pretrained_cfg["input_size"] == (1, 128, 128)
    alone = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=True,
        pretrained_cfg_overlay={
            "file": str(published.folder / published.vit / FILE),
            "num_classes": 0,
            "input_size": (3, 96, 96),
            "custom_load": False,
        },
        img_size=128,
        global_pool="avg",
    )
    assert torch.equal(model.pos_embed, alone.pos_embed)
    overlaid = load("vit", pretrained_cfg_overlay={"input_size": (3, 128, 128)})
    assert torch.equal(overlaid.pos_embed, alone.pos_embed)


@pytest.mark.parametrize(
    ("kind", "change", "named"),
    [
        ("resnet", {"block_args": {"attn_layer": "se"}}, "without weights"),
        ("resnet", {"stem_type": "deep"}, "conv1"),
        ("vit", {"reg_tokens": 4}, "reg_token"),
        ("vit", {"class_token": False}, "1 unused (cls_token)"),
        ("vit", {"global_pool": "map"}, "global_pool='map'"),
    ],
)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_layers_that_were_not_trained_are_refused(load, kind, change, named, num_classes):
    with pytest.raises(ValueError, match="pretrained=False") as caught:
        load(kind, num_classes=num_classes, **change)
    assert named in str(caught.value)
    assert not isinstance(caught.value, usbackbones.WeightsError)  # the file is not to blame


@BOTH
@pytest.mark.parametrize("wrap", [{}, {"features_only": True}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_timms_transform_fits_the_model_as_built(load, kind, mode, wrap):
    channels = len(mode)
    model = load(kind, in_chans=channels, **wrap)
    config = timm.data.resolve_model_data_config(model)
    size = size_of(kind)
    assert config["input_size"] == (channels, size, size)
    assert (config["mean"], config["std"]) == ((0.2,) * channels, (0.25,) * channels)
    assert (config["crop_mode"], config["crop_pct"], config["interpolation"]) == ("squash", 1.0, "bilinear")
    image = Image.fromarray(np.arange(80 * 120, dtype=np.uint32).reshape(80, 120).astype(np.uint8)).convert(mode)
    batch = timm.data.create_transform(**config)(image)[None]
    assert batch.shape == (1, channels, size, size)
    model(batch)


def test_a_random_model_reads_no_file_and_has_the_released_description(tmp_path, published):
    name = "vit_tiny_patch16_224.nowhere_open1"
    entry = published.zoo["weights"][published.vit]
    usbackbones.register({"default": None, "weights": {name: entry}})
    model = timm.create_model(f"usbackbones/{name}", in_chans=1, num_classes=2)
    assert model.global_pool == "avg"
    assert model.pretrained_cfg["input_size"] == (1, 96, 96)
    assert "file" not in model.pretrained_cfg
    with pytest.raises(usbackbones.WeightsNotFound):
        timm.create_model(f"usbackbones/{name}", pretrained=True)


def test_the_callers_own_weights_are_left_to_timm(tmp_path, published):
    other = {key: torch.zeros_like(value) for key, value in published.tensors[published.resnet].items()}
    write_weight(tmp_path, "resnet18.own_open1", other)
    file = tmp_path / "resnet18.own_open1" / FILE
    model = timm.create_model(
        f"usbackbones/{published.resnet}", pretrained=True, pretrained_cfg_overlay={"file": str(file)}
    )
    assert not model.conv1.weight.any()
    assert model.pretrained_cfg["file"] == str(file)


def test_another_hub_repository_is_left_to_timm(tmp_path, published):
    zeros = {key: torch.zeros_like(value) for key, value in published.tensors[published.resnet].items()}
    snapshot = tmp_path / "models--someorg--own" / "snapshots"
    write_weight(snapshot, "resnet18.own_open1", zeros)
    (snapshot / "resnet18.own_open1").rename(snapshot / REVISION)
    overlay = {"hf_hub_id": f"someorg/own@{REVISION}"}
    model = timm.create_model(
        f"us{published.resnet}", pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=tmp_path
    )
    assert not model.conv1.weight.any()


def test_a_cfg_given_whole_is_the_same_weight(load, published):
    # timm's train.py resolves the name first and hands the cfg back as a dictionary.
    cfg = timm.models.get_pretrained_cfg(f"us{published.resnet}").to_dict()
    model = timm.create_model("usresnet18", pretrained=True, pretrained_cfg=cfg)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), load("resnet").parameters(), strict=True))


def test_an_export_loads_without_this_package(load, tmp_path):
    model = load("vit", in_chans=1)
    timm.models.save_for_hf(
        model, tmp_path, safe_serialization=True, model_config={"model_args": {"global_pool": "avg", "img_size": 96}}
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "vit_tiny_patch16_224"
    assert "file" not in config["pretrained_cfg"]
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(again(gray(96, 1)), model(gray(96, 1)))
