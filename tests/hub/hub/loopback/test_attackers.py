"""What an owner of the organisation and a writer of the cache can do, and what they cannot."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save

from usbackbones.hub.zoo import FILE

CONFIG = {
    "architecture": "test_resnet",
    "num_classes": 0,
    "pretrained_cfg": {
        "input_size": [3, 64, 64],
        "num_classes": 0,
        "mean": [0.2] * 3,
        "std": [0.25] * 3,
        "first_conv": "conv1.0",
        "classifier": "fc",
    },
}


@pytest.fixture
def released(client, put):
    """A weight that plain timm can load too."""
    released = put("owned1", files={"config.json": json.dumps(CONFIG).encode()})
    client("register", zoo=released.zoo)
    return released


def test_the_owner_can_change_main_for_others_and_not_for_us(hub, client, released, load, good, tiny_tensors, tmp_path):
    store, repo_id = hub.state.store, released.entry["hub_id"]
    evil = save({key: tensor * 2 for key, tensor in tiny_tensors.items()})
    store.commit(repo_id, "main", "swap", {FILE: store.put(evil, large=True)})

    def plain(revision):
        return client("load", name=f"hf-hub:{repo_id}{revision}", cache_dir=tmp_path / "plain")["digest"]

    assert plain("") != good and plain(f"@{released.entry['revision']}") == good
    assert load(released)["digest"] == good


def test_the_owner_can_take_away_but_not_from_the_cache(hub, released, load, good, tmp_path):
    assert load(released)["digest"] == good
    hub.state.store.remove(released.entry["hub_id"])
    assert load(released)["digest"] == good
    answer = load(released, cache_dir=tmp_path / "empty")
    assert answer["error"] == "WeightsAccess" and "gone" in answer["message"] and answer["remedy"]


def test_what_else_lies_in_the_cache_does_not_matter(hub, released, load, good, tmp_path):
    storage = tmp_path / "cache" / f"models--{released.entry['hub_id'].replace('/', '--')}"
    snapshot = storage / "snapshots" / released.entry["revision"]
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    (snapshot / "config.json").write_text("{")
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text("0" * 40)
    absent = storage / ".no_exist" / released.entry["revision"]
    absent.mkdir(parents=True)
    (absent / FILE).touch()
    loaded = load(released)
    assert loaded["digest"] == good and Path(loaded["file"]) == snapshot / FILE
