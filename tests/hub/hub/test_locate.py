"""Where a file is looked for, in which order, and what is said when it is nowhere."""

import sys
from contextlib import contextmanager

import pytest
import timm

import usbackbones
from tests.conftest import copy_package, python, write_weight
from usbackbones.hub.zoo import FILE

_CONNECTIONS: list[object] = []
sys.addaudithook(lambda event, args: _CONNECTIONS.append(args) if event == "socket.connect" else None)


@contextmanager
def no_connections():
    """Nothing in the block may try to connect to anything."""
    before = len(_CONNECTIONS)
    try:
        yield
    finally:
        assert len(_CONNECTIONS) == before


REVISION = "0123456789abcdef0123456789abcdef01234567"


def test_usbackbones_hub_names_a_folder(published, tmp_path, monkeypatch):
    name = "resnet18.elsewhere_open1"
    entry = write_weight(tmp_path / "hub", name, published.tensors[published.resnet])
    usbackbones.register({"default": None, "weights": {name: entry}})  # a zoo without a folder
    with pytest.raises(usbackbones.WeightsNotFound) as caught:
        timm.create_model(f"usbackbones/{name}", pretrained=True)
    assert isinstance(caught.value, FileNotFoundError)
    message = str(caught.value)
    assert "not on the Hub yet" in message and f"Set USBACKBONES_HUB to a folder that holds {name}/{FILE}" in message
    assert "as model_cards of a clone does" in message
    assert f"{name}.safetensors" in message and f"model_cards/{name}/{FILE}" in message

    monkeypatch.setenv("USBACKBONES_HUB", str(tmp_path / "hub"))
    model = timm.create_model(f"usbackbones/{name}", pretrained=True)
    assert model.pretrained_cfg["file"] == str(tmp_path / "hub" / name / FILE)

    monkeypatch.setenv("USBACKBONES_HUB", str(tmp_path / "hbu"))
    with pytest.raises(usbackbones.WeightsNotFound, match=r"hbu', which is no folder\. Correct or unset it"):
        timm.create_model(f"usbackbones/{name}", pretrained=True)


def test_a_copied_checkout_is_its_own_hub_and_the_embedded_file_comes_first(published, tmp_path):
    other = published.zoo["weights"][published.resnet] | {"sha256": "0" * 64}
    copy_package(
        tmp_path, {"resnet18.other_open1": other, published.resnet: published.zoo["weights"][published.resnet]}
    )
    content = (published.folder / published.resnet / FILE).read_bytes()
    card = tmp_path / "model_cards" / published.resnet / FILE
    card.parent.mkdir(parents=True)
    card.write_bytes(content)
    embedded = tmp_path / "usbackbones" / "weights" / f"{published.resnet}.safetensors"
    printed = python(
        f"""
from pathlib import Path
import timm
import usbackbones
def load():  # the default, which is not the first
    return timm.create_model("usbackbones/resnet18", pretrained=True, num_classes=0, in_chans=1)
model = load()
print(model.num_features, model.pretrained_cfg["file"])
Path({str(embedded)!r}).parent.mkdir(exist_ok=True)
Path({str(embedded)!r}).write_bytes(Path({str(card)!r}).read_bytes())
print(load().pretrained_cfg["file"])
Path({str(embedded)!r}).write_bytes(b"damaged")
try:
    load()
except usbackbones.WeightsCorrupt as error:
    print(error)
""",
        tmp_path,
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path / "empty"),
    ).splitlines()
    assert printed[:2] == [f"512 {card}", str(embedded)]
    assert str(embedded) in printed[2] and "Reinstall usbackbones." in printed[2]


def test_a_pinned_file_in_the_hugging_face_cache_needs_no_network(published, tmp_path):
    name = "resnet18.cached_open1"
    tensors = published.tensors[published.resnet]
    entry = write_weight(tmp_path / "made", name, tensors, revision=REVISION, hub_id="someorg/cached")
    usbackbones.register({"default": None, "weights": {name: entry}})
    assert timm.models.get_pretrained_cfg(f"us{name}").hf_hub_id == f"someorg/cached@{REVISION}"

    with pytest.raises(usbackbones.WeightsUnavailable) as caught, no_connections():
        timm.create_model(f"usbackbones/{name}", pretrained=True, cache_dir=tmp_path / "cache")
    assert isinstance(caught.value, ConnectionError)
    for named in (name, "someorg/cached", REVISION, FILE, "HF_HUB_OFFLINE", "USBACKBONES_HUB"):
        assert named in str(caught.value)

    snapshot = tmp_path / "cache" / "models--someorg--cached" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / FILE).write_bytes((tmp_path / "made" / name / FILE).read_bytes())
    model = timm.create_model(f"usbackbones/{name}", pretrained=True, cache_dir=tmp_path / "cache")
    assert model.pretrained_cfg["file"] == str(snapshot / FILE)

    (snapshot / FILE).write_bytes(b"damaged")
    with pytest.raises(usbackbones.WeightsCorrupt, match="Delete it; the next call downloads it again"):
        timm.create_model(f"usbackbones/{name}", pretrained=True, cache_dir=tmp_path / "cache")
