"""Files that are not what was released: each kind of damage is refused, by name and with a remedy."""

import json
import os

import pytest
import timm
import torch
from safetensors.torch import save

import usbackbones
from tests.conftest import write_weight
from usbackbones.hub.locate import Place, prove
from usbackbones.hub.zoo import FILE, parse_entry


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
        with pytest.raises(usbackbones.WeightsCorrupt) as caught:
            timm.create_model(f"usbackbones/{name}", pretrained=True, **kwargs)
        message = str(caught.value)
        assert isinstance(caught.value, ValueError)
        assert name in message and str(tmp_path / name / FILE) in message
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
    with pytest.raises(usbackbones.WeightsCorrupt) as caught:
        timm.create_model(f"usbackbones/{name}", pretrained=True, num_classes=3)
    message = str(caught.value)
    assert "12 missing (blocks.3.attn.proj.bias, blocks.3.attn.proj.weight, blocks.3.attn.qkv.bias, ...)" in message
    assert "12 unexpected (layers.3.attn.proj.bias," in message
    assert "1 of another shape (pos_embed)" in message


def test_a_file_is_summed_once_until_it_changes(published, tmp_path, monkeypatch):
    name = "resnet18.summed_open1"
    weight = parse_entry(name, write_weight(tmp_path, name, published.tensors[published.resnet]))
    place = Place(tmp_path / name / FILE, "Copy it again")
    prove(place, weight)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", None)  # to sum it again would fail
        prove(place, weight)
    stat = place.file.stat()
    place.file.write_bytes(flip(place.file.read_bytes(), -1000))
    os.utime(place.file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as somebody does who wants to hide it
    with pytest.raises(usbackbones.WeightsCorrupt, match="Copy it again"):
        prove(place, weight)
