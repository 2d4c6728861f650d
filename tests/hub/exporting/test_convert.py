"""Synthetic checkpoints of each official layout, converted, against a network that was given the tensors by hand."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from usbackbones.cli import main as cli
from usbackbones.exporting.checkpoint_layouts import LAYOUTS
from usbackbones.exporting.convert_checkpoint import ConvertError, convert

Tensors = dict[str, Tensor]


def linear(out: int, into: int) -> Tensors:
    """A layer whose weight takes no room, since HiCo's are of gigabytes."""
    return {"weight": torch.zeros(1).expand(out, into), "bias": torch.zeros(out)}


def named(**layers: Tensors) -> Tensors:
    return {f"{name}.{key}": value for name, tensors in layers.items() for key, value in tensors.items()}


def resnet(make: Callable[..., nn.Module]) -> nn.Module:
    """torchvision's network with weights and statistics that no initialisation has."""
    torch.manual_seed(0)
    network = make()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.weight, 0.5, 2)
    return network.eval()


def as_sequential(network: nn.Module) -> Tensors:
    """The keys of `nn.Sequential(*list(resnet.children())[:-1])` inside `features`, as in three of the releases."""
    sequential = nn.Sequential(*list(network.children())[:-1])
    return {f"features.{key}": value for key, value in sequential.state_dict().items()}


def as_hico(network: nn.Module) -> Tensors:
    """HiCo's: the whole network under `features.R18`, and its pyramid beside it."""
    tensors = {f"features.R18.{key}": value for key, value in network.state_dict().items()}
    convolutions = {"toplayer": (512, 1), "latlayer1": (256, 1), "latlayer2": (128, 1), "latlayer3": (64, 1)}
    convolutions |= dict.fromkeys(("smooth1", "smooth2", "smooth3"), (256, 3))
    for name, (into, kernel) in convolutions.items():
        layer = nn.Conv2d(into, 256, kernel)
        tensors |= {f"features.{name}.{key}": value for key, value in layer.state_dict().items()}
    flat = {f"l{level}": linear(256, 256 * side**2) for level, side in zip((2, 3, 4, 5), (56, 28, 14, 7), strict=True)}
    square = dict.fromkeys(("l22", "l33", "l55"), linear(256, 256))
    return tensors | named(**flat, **square, lf=linear(256, 512), fc=linear(12, 256))


def uscl(network: nn.Module) -> Tensors:
    width = network.fc.in_features
    square, out = linear(width, width), linear(256, width)
    return as_sequential(network) | named(l1=square, l2=out, fc=linear(12, 256), fc1=square, fc2=linear(12, width))


def meta_uscl(network: nn.Module) -> Tensors:
    return as_sequential(network) | named(l1=linear(512, 512), l2=linear(128, 512))


def mae(arch: str, prefix: str = "", **args: object) -> tuple[nn.Module, Tensors]:
    torch.manual_seed(0)
    network = timm.create_model(arch, num_classes=0, **args).eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5) if parameter.ndim == 1 else nn.init.normal_(parameter, std=0.1)
    return network, {f"{prefix}{key}": value for key, value in network.state_dict().items()}


CASES = {
    "uscl": (torchvision.models.resnet18, uscl, lambda tensors: tensors),
    "uscl of 50 layers": (torchvision.models.resnet50, uscl, lambda tensors: {"weight": tensors}),
    "uscl of the older form": (
        torchvision.models.resnet18,
        lambda network: as_sequential(network) | named(linear=linear(256, 512), fc=linear(12, 256)),
        lambda tensors: {f"module.{key}": value for key, value in tensors.items()},
    ),
    "meta-uscl": (
        torchvision.models.resnet18,
        meta_uscl,
        lambda tensors: {"epoch": 3, "state_dict": tensors, "optimizer": {"state": {}}},
    ),
    "hico": (torchvision.models.resnet18, as_hico, lambda tensors: tensors),
    "awcl": (
        torchvision.models.resnet18,
        lambda network: meta_uscl(network) | {"total_ops": torch.zeros(1), "features.0.total_params": torch.zeros(1)},
        lambda tensors: tensors,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_resnets(case: str, tmp_path: Path) -> None:
    """The folder loads through timm alone, with the features of torchvision's network that has the same tensors."""
    make, lay_out, wrap = CASES[case]
    network = resnet(make)
    torch.save(wrap(lay_out(network)), tmp_path / "best_model.pth")
    source = case.split(" of ")[0]
    keep = source != "hico"
    converted = convert(tmp_path / "best_model.pth", source, tmp_path / "folder", heads=keep)
    assert (tmp_path / "folder" / "heads.safetensors").exists() == keep
    assert converted.counts["backbone"] == len(network.state_dict()) - 2  # 120 of ResNet-18
    model = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=0).eval()
    images = torch.randn(2, 3, 64, 64)
    network.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(model(images), network(images), rtol=1e-6, atol=1e-6)
    layout = LAYOUTS[source]
    assert tuple(model.pretrained_cfg["mean"]) == layout.mean
    assert tuple(model.pretrained_cfg["input_size"]) == (3, layout.size, layout.size)
    assert converted.counts["heads"] == 2 * len(converted.heads) > 0


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    """Mixed-precision training leaves half tensors, which would not run on a CPU."""
    tensors = {
        k: v.half() if v.is_floating_point() else v for k, v in uscl(resnet(torchvision.models.resnet18)).items()
    }
    torch.save(tensors, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", "uscl", tmp_path / "folder")
    assert load_file(tmp_path / "folder" / "model.safetensors")["conv1.weight"].dtype == torch.float32


def test_hico_pyramid_has_our_names(tmp_path: Path) -> None:
    """toplayer reads c5, latlayer1 c4 and so on; smooth1 follows p4."""
    tensors = as_hico(resnet(torchvision.models.resnet18))
    torch.save(tensors, tmp_path / "a.pth")
    converted = convert(tmp_path / "a.pth", "hico", tmp_path / "folder")
    pyramid = load_file(tmp_path / "folder" / "pyramid.safetensors")
    pairs = {"lateral.p5": "toplayer", "lateral.p4": "latlayer1", "lateral.p3": "latlayer2", "lateral.p2": "latlayer3"}
    pairs |= {"smooth.p4": "smooth1", "smooth.p3": "smooth2", "smooth.p2": "smooth3"}
    assert len(pyramid) == 2 * len(pairs)
    for ours, theirs in pairs.items():
        assert torch.equal(pyramid[f"{ours}.weight"], tensors[f"features.{theirs}.weight"])
    assert converted.heads["l2.weight"] == "projection of a flattened level of the pyramid"
    assert converted.heads["lf.weight"] == "projection of the representation"


@pytest.mark.parametrize(
    ("source", "prefix", "args"), [("usf-mae", "", {}), ("tinyusfm", "module.model.", {"num_heads": 12})]
)
def test_transformers(source: str, prefix: str, args: dict[str, int], tmp_path: Path) -> None:
    """The decoder is left out by name; TinyUSFM gets its twelve heads, without which the output is another."""
    network, tensors = mae(LAYOUTS[source].arch, prefix, **args)
    if source == "usf-mae":
        tensors |= {"mask_token": torch.zeros(1, 1, 512), "decoder_pred.bias": torch.zeros(768)}
    torch.save({"model": tensors, "args": argparse.Namespace(lr=1e-3), "epoch": 99}, tmp_path / "a.pth")
    converted = convert(tmp_path / "a.pth", source, tmp_path / "folder")
    assert converted.counts["unused"] == (2 if source == "usf-mae" else 0)
    model = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=0).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model(images), network(images), rtol=1e-6, atol=1e-6)
        if args:
            other = timm.create_model(LAYOUTS[source].arch, num_classes=0).eval()
            other.load_state_dict(network.state_dict())
            assert (other(images) - network(images)).abs().max() > 1e-3


class Payload:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A strange key, a missing one, another shape, another layout, code, rubbish: all are named, none is loaded."""
    good = uscl(resnet(torchvision.models.resnet18))
    file = tmp_path / "a.pth"

    def refused(content: object, *told: str, source: str = "uscl", drop: tuple[str, ...] = ()) -> None:
        torch.save(content, file)
        with pytest.raises(ConvertError) as caught:
            convert(file, source, tmp_path / "folder", drop=drop)
        assert all(word in str(caught.value) for word in told), caught.value
        assert not (tmp_path / "folder").exists()

    refused(good | {"surprise.weight": torch.zeros(2)}, "surprise.weight", "--drop")
    refused({k: v for k, v in good.items() if k != "features.0.weight"}, "1 missing", "conv1.weight")
    refused(good | {"features.0.weight": torch.zeros(64, 1, 7, 7)}, "1 of another shape", "conv1.weight")
    refused(good | {"features.0.weight": torch.full((64, 3, 7, 7), torch.nan)}, "NaN", "conv1.weight")
    refused(good | named(l1=linear(7, 999)), "l1.weight", "[7, 999]")
    refused(good, "keys are not of hico's layout", source="hico")
    refused({"epoch": 3}, "no state dict")
    refused([1, 2], "no state dict but a list")
    refused(Payload(), "more than tensors")
    assert "run" not in capsys.readouterr().out
    torch.save(good | {"surprise.weight": torch.zeros(2)}, file)
    assert convert(file, "uscl", tmp_path / "kept", drop=("surprise",)).counts["unused"] == 1
    file.write_bytes(file.read_bytes()[:5000])
    for broken, told in ((file, "cannot be read|more than tensors"), (tmp_path / "none.pth", "not a file")):
        with pytest.raises(ConvertError, match=told):
            convert(broken, "uscl", tmp_path / "folder")
    with pytest.raises(ConvertError, match="no layout 'nobody'; there are uscl"):
        convert(file, "nobody", tmp_path / "folder")


def test_config_is_the_published_form(tmp_path: Path) -> None:
    """The licence, the source and the size that was asked for stand in the folder."""
    torch.save(meta_uscl(resnet(torchvision.models.resnet18)), tmp_path / "resnet18_64.pth")
    convert(tmp_path / "resnet18_64.pth", "meta-uscl", tmp_path / "folder", size=64)
    cfg = json.loads((tmp_path / "folder" / "config.json").read_text())["pretrained_cfg"]
    assert cfg["input_size"] == [3, 64, 64]
    assert cfg["mean"] == [0.18] * 3
    assert cfg["license"] == LAYOUTS["meta-uscl"].licence
    assert "resnet18_64.pth" in cfg["description"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command tells what was kept, whose licence it is and how to load it; a refusal is one line and code 2."""
    torch.save(meta_uscl(resnet(torchvision.models.resnet18)), tmp_path / "a.pth")
    cli.main(["convert", str(tmp_path / "a.pth"), "--from", "meta-uscl", "-o", str(tmp_path / "folder")])
    told = capsys.readouterr().out
    assert "120 backbone, 0 pyramid, 4 heads, 0 unused" in told
    assert "README says MIT" in told
    assert "local-dir:" in told
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", str(tmp_path / "a.pth"), "--from", "hico", "-o", str(tmp_path / "other")])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
