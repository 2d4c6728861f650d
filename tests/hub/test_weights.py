"""From a released file to a loaded network: the same network for every way of asking, or an error that helps."""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save

import usbackbones
from tests.conftest import copy_package, python, write_weight
from usbackbones import hub

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
            "file": str(published.folder / published.vit / hub.FILE),
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
    assert not isinstance(caught.value, hub.WeightsError)  # the file is not to blame


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
    with pytest.raises(hub.WeightsNotFound):
        timm.create_model(f"usbackbones/{name}", pretrained=True)


def test_the_callers_own_weights_are_left_to_timm(tmp_path, published):
    other = {key: torch.zeros_like(value) for key, value in published.tensors[published.resnet].items()}
    write_weight(tmp_path, "resnet18.own_open1", other)
    file = tmp_path / "resnet18.own_open1" / hub.FILE
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


# What a damaged file is, and what catches it: "sum" the sha256, "read" the reader of a file whose damage was released,
# "count" the accounting of such a file.
def renamed(tensors):
    return {key.replace("blocks.3.", "layers.3."): value for key, value in tensors.items()}


FAULTS = {
    "a flipped bit": ("sum", lambda t: flip(save(t), -1000)),
    "a flipped bit in the header": ("sum", lambda t: flip(save(t), 60)),
    "truncated": ("sum", lambda t: save(t)[:-1000]),
    "empty": ("sum", lambda t: b""),
    "not safetensors": ("sum", lambda t: b"<html>not found</html>" * 100),
    "released truncated": ("read", lambda t: save(t)[:-1000]),
    "released empty": ("read", lambda t: b""),
    "released as something else": ("read", lambda t: b"<html>not found</html>" * 100),
    "a missing key": ("count", lambda t: {k: v for k, v in t.items() if k != "blocks.3.norm1.weight"}),
    "renamed keys": ("count", renamed),
    "prefixed keys": ("count", lambda t: {f"encoder.{k}": v for k, v in t.items()}),
    "keys with a prefix that timm strips": ("count", lambda t: {f"module.{k}": v for k, v in t.items()}),
    "an extra key": ("count", lambda t: t | {"projector.weight": torch.zeros(2)}),
    "a classifier": ("count", lambda t: t | {"head.weight": torch.zeros(3, 192), "head.bias": torch.zeros(3)}),
    "a wrong shape": ("count", lambda t: t | {"blocks.3.norm1.weight": torch.zeros(191)}),
    "one channel": ("count", lambda t: t | {"patch_embed.proj.weight": torch.zeros(192, 1, 16, 16)}),
    "no tensor": ("count", lambda t: {}),
}


def flip(content, at):
    content = bytearray(content)
    content[at] ^= 1
    return bytes(content)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_refused_by_name_with_a_remedy(published, tmp_path, fault):
    caught_by, damage = FAULTS[fault]
    good = published.zoo["weights"][published.vit]
    name = "vit_tiny_patch16_224.damaged_open1"
    entry = write_weight(tmp_path, name, damage(published.tensors[published.vit]))
    entry |= {"model_args": good["model_args"], "input": good["input"]}
    if caught_by == "sum":
        entry["sha256"] = good["sha256"]
    (tmp_path / "zoo.json").write_text(json.dumps({"default": None, "weights": {name: entry}}))
    usbackbones.register(tmp_path / "zoo.json")
    for kwargs in ({}, {"num_classes": 3}, {"features_only": True}):
        with pytest.raises(hub.WeightsCorrupt) as caught:
            timm.create_model(f"usbackbones/{name}", pretrained=True, **kwargs)
        message = str(caught.value)
        assert isinstance(caught.value, ValueError)
        assert name in message and str(tmp_path / name / hub.FILE) in message
        assert "elease it again" in message
        expected = {"sum": good["sha256"], "read": "cannot be read", "count": "is not a vit_tiny_patch16_224"}
        assert expected[caught_by] in message


def test_the_accounting_names_what_it_found(published, tmp_path):
    name = "vit_tiny_patch16_224.counted_open1"
    good = published.zoo["weights"][published.vit]
    tensors = renamed(published.tensors[published.vit]) | {"pos_embed": torch.zeros(1, 5, 192)}
    entry = write_weight(tmp_path, name, tensors, model_args=good["model_args"], input=good["input"])
    (tmp_path / "zoo.json").write_text(json.dumps({"default": None, "weights": {name: entry}}))
    usbackbones.register(tmp_path / "zoo.json")
    with pytest.raises(hub.WeightsCorrupt) as caught:
        timm.create_model(f"usbackbones/{name}", pretrained=True, num_classes=3)
    message = str(caught.value)
    assert "12 missing (blocks.3.attn.proj.bias, blocks.3.attn.proj.weight, blocks.3.attn.qkv.bias, ...)" in message
    assert "12 unexpected (layers.3.attn.proj.bias," in message
    assert "1 of another shape (pos_embed)" in message


def test_a_file_is_summed_once_until_it_changes(published, tmp_path):
    name = "resnet18.summed_open1"
    entry = write_weight(tmp_path, name, published.tensors[published.resnet])
    place = hub.Place(tmp_path / name / hub.FILE, "Copy it again.")
    hub.verify(place, entry["sha256"], name)
    stat = place.file.stat()
    place.file.write_bytes(flip(place.file.read_bytes(), -1000))
    os.utime(place.file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    hub.verify(place, entry["sha256"], name)  # nothing tells that it changed, so it is not read again
    os.utime(place.file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(hub.WeightsCorrupt, match="Copy it again"):
        hub.verify(place, entry["sha256"], name)


def test_usbackbones_hub_names_a_folder(published, tmp_path, monkeypatch):
    name = "resnet18.elsewhere_open1"
    entry = write_weight(tmp_path / "hub", name, published.tensors[published.resnet])
    usbackbones.register({"default": None, "weights": {name: entry}})  # a zoo without a folder
    with pytest.raises(hub.WeightsNotFound) as caught:
        timm.create_model(f"usbackbones/{name}", pretrained=True)
    assert isinstance(caught.value, FileNotFoundError)
    message = str(caught.value)
    assert (
        "not on the Hub yet" in message and f"set USBACKBONES_HUB to a folder that holds {name}/{hub.FILE}" in message
    )
    assert f"{name}.safetensors" in message and f"model_cards/{name}/{hub.FILE}" in message

    monkeypatch.setenv("USBACKBONES_HUB", str(tmp_path / "hub"))
    model = timm.create_model(f"usbackbones/{name}", pretrained=True)
    assert model.pretrained_cfg["file"] == str(tmp_path / "hub" / name / hub.FILE)

    monkeypatch.setenv("USBACKBONES_HUB", str(tmp_path / "hbu"))
    with pytest.raises(hub.WeightsNotFound, match=r"hbu', which is no folder\. Correct or unset it"):
        timm.create_model(f"usbackbones/{name}", pretrained=True)


def test_a_copied_checkout_is_its_own_hub_and_the_embedded_file_comes_first(published, tmp_path):
    other = published.zoo["weights"][published.resnet] | {"sha256": "0" * 64}
    copy_package(
        tmp_path, {"resnet18.other_open1": other, published.resnet: published.zoo["weights"][published.resnet]}
    )
    content = (published.folder / published.resnet / hub.FILE).read_bytes()
    card = tmp_path / "model_cards" / published.resnet / hub.FILE
    card.parent.mkdir(parents=True)
    card.write_bytes(content)
    embedded = tmp_path / "usbackbones" / "weights" / f"{published.resnet}.safetensors"
    printed = python(
        f"""
import time
from pathlib import Path
import timm
start = time.process_time()
import usbackbones
def load():  # the default, which is not the first
    return timm.create_model("usbackbones/resnet18", pretrained=True, num_classes=0, in_chans=1)
model = load()
print(time.process_time() - start < 5, model.num_features, model.pretrained_cfg["file"])
Path({str(embedded)!r}).parent.mkdir(exist_ok=True)
Path({str(embedded)!r}).write_bytes(Path({str(card)!r}).read_bytes())
print(load().pretrained_cfg["file"])
Path({str(embedded)!r}).write_bytes(b"damaged")
try:
    load()
except usbackbones.hub.WeightsCorrupt as error:
    print(error)
""",
        tmp_path,
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path / "empty"),
    ).splitlines()
    assert printed[:2] == [f"True 512 {card}", str(embedded)]
    assert str(embedded) in printed[2] and "Reinstall usbackbones." in printed[2]


def test_a_pinned_file_in_the_hugging_face_cache_needs_no_network(published, tmp_path):
    name = "resnet18.cached_open1"
    tensors = published.tensors[published.resnet]
    entry = write_weight(tmp_path / "made", name, tensors, revision=REVISION, hub_id="someorg/cached")
    usbackbones.register({"default": None, "weights": {name: entry}})
    assert timm.models.get_pretrained_cfg(f"us{name}").hf_hub_id == f"someorg/cached@{REVISION}"

    start = time.perf_counter()
    with pytest.raises(hub.WeightsUnavailable) as caught:
        timm.create_model(f"usbackbones/{name}", pretrained=True, cache_dir=tmp_path / "cache")
    assert time.perf_counter() - start < 5  # the retries of a connection take 23 s
    assert isinstance(caught.value, ConnectionError)
    for named in (name, "someorg/cached", REVISION, hub.FILE, "HF_HUB_OFFLINE", "USBACKBONES_HUB"):
        assert named in str(caught.value)

    snapshot = tmp_path / "cache" / "models--someorg--cached" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / hub.FILE).write_bytes((tmp_path / "made" / name / hub.FILE).read_bytes())
    model = timm.create_model(f"usbackbones/{name}", pretrained=True, cache_dir=tmp_path / "cache")
    assert model.pretrained_cfg["file"] == str(snapshot / hub.FILE)

    (snapshot / hub.FILE).write_bytes(flip((snapshot / hub.FILE).read_bytes(), -1000))
    with pytest.raises(hub.WeightsCorrupt, match="Delete it; the next call downloads it again"):
        timm.create_model(f"usbackbones/{name}", pretrained=True, cache_dir=tmp_path / "cache")


class Answers(BaseHTTPRequestHandler):
    """A repository called `status<n>` answers n; one called `good` has the file that `content` holds."""

    content = b""
    paths: list[str] = []  # noqa: RUF012

    def do_HEAD(self):
        self.paths.append(self.path)
        status = 200 if "/good/" in self.path else int(self.path.split("/status")[1][:3])
        self.send_response(status)
        self.send_header("ETag", '"etag"')
        self.send_header("X-Repo-Commit", REVISION)
        if status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        if status == 403:
            self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", str(len(self.content) if status == 200 else 0))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if "/good/" in self.path:
            self.wfile.write(self.content)

    def log_message(self, format, *args):
        pass


def test_the_hub_gives_the_pinned_file_or_an_error_of_the_right_class(published, tmp_path):
    entry = published.zoo["weights"][published.resnet] | {"revision": REVISION}
    Answers.content = (published.folder / published.resnet / hub.FILE).read_bytes()
    repositories = ["good", "status401", "status403", "status404", "status418"]
    weights = {f"resnet18.{repository}": entry | {"hub_id": f"org/{repository}"} for repository in repositories}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        printed = python(
            f"""
import json
import timm, usbackbones
usbackbones.register({{"default": None, "weights": json.loads({json.dumps(json.dumps(weights))})}})
for name in {list(weights)!r}:
    try:
        model = timm.create_model("usbackbones/" + name, pretrained=True)
        print("loaded", model.pretrained_cfg["file"])
    except usbackbones.hub.WeightsError as error:
        print(type(error).__name__, str(error).replace(chr(10), " "))
timm.create_model("usbackbones/resnet18.good", pretrained=True)
""",
            HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
            HF_HUB_OFFLINE="0",
            HF_HOME=str(tmp_path / "home"),
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
        ).splitlines()
    finally:
        server.shutdown()
    classes = ["loaded", "WeightsAccess", "WeightsAccess", "WeightsNotFound", "WeightsUnavailable"]
    assert [line.split()[0] for line in printed] == classes
    assert all(f"org/{repository}" in line for repository, line in zip(repositories[1:], printed[1:], strict=True))
    asked = [path for path in Answers.paths if "/resolve/" in path]
    assert all(path.endswith(f"/resolve/{REVISION}/{hub.FILE}") for path in asked), "only the pinned safetensors"
    # HEAD and GET at the first load, nothing at the second.
    assert sum("/good/" in path for path in asked) == 2
