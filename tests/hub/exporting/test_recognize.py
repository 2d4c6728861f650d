"""`convert --from auto`: checkpoints as each method's code saves them, against the network that was saved."""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from usbackbones.cli import main as cli
from usbackbones.exporting.convert_checkpoint import ConvertError, convert
from usbackbones.exporting.generic_checkpoint import generic_plan
from usbackbones.exporting.plan import Answers
from usbackbones.hub.backbone import build_backbone

GRAY = {"mean": (0.2,), "std": (0.25,)}


def drawn(network: Any) -> Any:
    """The network with weights and statistics that no initialization has, so that a lost tensor is seen."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            spread = torch.rand(value.shape, generator=generator)
            value.copy_(0.5 + spread if name.endswith("running_var") or value.ndim == 1 else 0.2 * (spread - 0.5))
    return network.eval()


def resnet(classes: int = 0, **args: Any) -> Any:
    return drawn(timm.create_model("test_resnet", num_classes=classes, **args))


def vit(arch: str = "test_vit", **args: Any) -> Any:
    return drawn(timm.create_model(arch, num_classes=0, img_size=32, **args))


def mlp(width: int, *sides: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in zip((width, *sides), sides, strict=False):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Holder(nn.Module):
    """A module with the given parts and buffers, which is all that a state dict shows of a method."""

    def __init__(self, buffers: dict[str, Tensor] | None = None, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        for name, value in (buffers or {}).items():
            self.register_buffer(name, value)


def moco(network: Any) -> Any:
    """facebookresearch/moco, version 2: two encoders with an MLP in the place of fc, a queue, DataParallel."""
    encoder = copy.deepcopy(network)
    encoder.fc = mlp(96, 96, 128)
    queue = {"queue": torch.rand(128, 16), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    whole = Holder(queue, encoder_q=encoder, encoder_k=resnet_other(encoder))
    parallel = nn.DataParallel(whole)
    optimizer = torch.optim.SGD(parallel.parameters(), 0.1, momentum=0.9)
    return {"epoch": 200, "arch": "resnet18", "state_dict": parallel.state_dict(), "optimizer": optimizer.state_dict()}


def resnet_other(network: Any) -> Any:
    """The second network of a pair, whose weights are not to be taken."""
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.data.mul_(3)
    return other


def simclr(network: Any) -> Any:
    """sthalles/SimCLR: `backbone`, whose fc is an MLP."""
    network = copy.deepcopy(network)
    network.fc = mlp(96, 96, 128)
    return {"epoch": 100, "arch": "resnet18", "state_dict": Holder(backbone=network).state_dict(), "optimizer": {}}


def byol(network: Any) -> Any:
    """lucidrains/byol-pytorch: an online and a target encoder with projectors, and a predictor."""
    online = Holder(net=copy.deepcopy(network), projector=Holder(net=mlp(96, 64, 32)))
    target = resnet_other(online)
    return Holder(online_encoder=online, target_encoder=target, online_predictor=mlp(32, 64, 32)).state_dict()


def byol_in_two(network: Any) -> Any:
    """A dict with a state dict of each network."""
    online = Holder(encoder=copy.deepcopy(network), projetion=mlp(96, 32))
    names = {"online_network_state_dict": online, "target_network_state_dict": resnet_other(online)}
    return {name: part.state_dict() for name, part in names.items()} | {"optimizer_state_dict": {"state": {}}}


def dino(network: Any) -> Any:
    """facebookresearch/dino: student under DistributedDataParallel, teacher, heads with normed weights."""
    head = Holder(mlp=mlp(64, 32, 16), last_layer=Holder({"weight_g": torch.ones(8, 1), "weight_v": torch.rand(8, 16)}))
    student, teacher = (Holder(backbone=part, head=head) for part in (resnet_other(network), network))
    names = {"student": nn.DataParallel(student), "teacher": teacher}
    return {name: part.state_dict() for name, part in names.items()} | {
        "epoch": 100, "args": argparse.Namespace(arch="vit_small"), "dino_loss": {"center": torch.zeros(1, 8)},
    }  # fmt: skip


def as_timm(network: Any) -> Any:
    """timm's training script: weights and their moving average, which timm itself prefers."""
    average, last = network.state_dict(), resnet_other(network).state_dict()
    return {"epoch": 3, "arch": "test_resnet", "state_dict": last, "state_dict_ema": average, "metric": 71.0}


def mae(network: Any) -> Any:
    """facebookresearch/mae: the encoder's names as timm's, with a decoder beside them."""
    decoder = {"mask_token": torch.zeros(1, 1, 32), "decoder_pos_embed": torch.zeros(1, 5, 32)}
    decoder |= {f"decoder_{name}": value for name, value in network.state_dict().items() if name.startswith("blocks.0")}
    tensors = network.state_dict() | decoder | {"decoder_pred.weight": torch.zeros(768, 32)}
    return {"model": tensors, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "epoch": 800}


Case = tuple[Callable[[], Any], Callable[[Any], Any], dict[str, Any], str, str, int]
CASES: dict[str, Case] = {  # network, file, answers, layout that is told, state dict that is read, tensors of heads
    "MoCo v2": (resnet, moco, {}, "MoCo ResNet", "state_dict", 4),
    "SimCLR": (resnet, simclr, {}, "SimCLR ResNet", "state_dict", 4),
    "BYOL": (resnet, byol, {}, "BYOL ResNet", "", 8),
    "BYOL in two": (resnet, byol_in_two, {}, "BYOL ResNet", "online_network_state_dict", 2),
    "DINO": (vit, dino, {"num_heads": 2}, "DINO ViT", "teacher", 6),
    "MAE": (vit, mae, {"num_heads": 2}, "MAE ViT", "model", 0),
    "timm": (lambda: resnet(7), as_timm, {}, "plain ResNet", "state_dict_ema", 2),
    "timm ViT": (vit, lambda net: {"arch": "test_vit.x", "model": net.state_dict()}, {}, "plain ViT", "model", 0),
    "compiled": (
        resnet,
        lambda net: {f"_orig_mod.module.{k}": v for k, v in net.state_dict().items()},
        {},
        "ResNet",
        "",
        0,
    ),
}


def features(network: Any, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network.forward_head(network.forward_features(images), pre_logits=True)


@pytest.mark.parametrize("case", CASES)
def test_each_method(case: str, tmp_path: Path) -> None:
    """The encoder that the method keeps is taken, to the bit; the others are heads, the other network, buffers."""
    make, lay_out, answers, layout, taken, heads = CASES[case]
    network = make()
    content = lay_out(network)
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    done = convert(tmp_path / "checkpoint.pth.tar", "auto", tmp_path / "out", **GRAY, **answers)
    assert layout in done.layout
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(features(loaded, images), features(network, images))
    assert tuple(loaded.pretrained_cfg["mean"]) == (0.2,) * 3
    assert sum(done.counts.values()) == len(content.get(taken, content))
    assert done.counts["heads"] == heads


def test_lightning(tmp_path: Path) -> None:
    """A checkpoint that Lightning itself wrote, with a classifier beside the network."""

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"rate": 0.1})
            self.model = resnet()
            self.classifier = nn.Linear(96, 5)
            self.criterion = nn.CrossEntropyLoss(weight=torch.ones(5))

        def training_step(self, batch: Any, _: int) -> Tensor:
            return self.criterion(self.classifier(self.model(batch[0])), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 1e-9)

    data = torch.utils.data.TensorDataset(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    module = Module()
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    done = convert(tmp_path / "last.ckpt", "auto", tmp_path / "out", **GRAY)
    assert "Lightning" in done.layout and done.counts["heads"] == 2 and done.counts["unused"] == 1
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(features(loaded, images), features(module.model.eval(), images))


@pytest.mark.parametrize("old", [False, True])
def test_torchvision_resnet(old: bool, tmp_path: Path) -> None:
    """torchvision's own, also as older files have it, without the counters of batch norm."""
    network = drawn(torchvision.models.resnet18(num_classes=3))
    tensors = {key: value for key, value in network.state_dict().items() if not (old and "num_batches" in key)}
    save_file(tensors, tmp_path / "a.safetensors")
    done = convert(tmp_path / "a.safetensors", "auto", tmp_path / "out", **GRAY, size=64)
    assert done.arch == "resnet18" and done.counts == {"backbone": 120, "pyramid": 0, "heads": 2, "unused": 0}
    assert any("counters" in note for note in done.notes) == old
    network.fc = nn.Identity()
    images = torch.rand(1, 3, 64, 64)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), network(images), rtol=1e-6, atol=1e-6)


def test_torchvision_vit(tmp_path: Path) -> None:
    """Every tensor gets timm's name; the images that the positions are for are the input's size."""
    network = drawn(torchvision.models.VisionTransformer(48, 16, 12, 3, 192, 768, num_classes=4))
    torch.save(network.state_dict(), tmp_path / "a.pth")
    done = convert(tmp_path / "a.pth", "auto", tmp_path / "out", **GRAY)
    assert (done.arch, done.size, done.counts["heads"]) == ("vit_tiny_patch16_224", 48, 2)
    assert any("3 heads are assumed" in note for note in done.notes)
    network.heads = nn.Identity()
    images = torch.rand(2, 3, 48, 48)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()
    with torch.inference_mode():
        wanted = network(images)
        torch.testing.assert_close(loaded(images), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_one_channel_becomes_three_equal_ones(tmp_path: Path) -> None:
    """A network of gray images works with one channel and with three, as our own do."""
    network = resnet(in_chans=1)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", "auto", tmp_path / "out", **GRAY)
    images = torch.rand(2, 1, 32, 32)
    for channels in (1, 3):
        loaded = build_backbone(f"local-dir:{tmp_path / 'out'}", in_chans=channels).eval()
        shown = images.expand(-1, channels, -1, -1)
        torch.testing.assert_close(features(loaded, shown), features(network, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "args",
    [
        {"class_token": False, "global_pool": "avg", "fc_norm": False},
        {"global_pool": "avg"},
        {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.1},
        {"qkv_bias": False, "pre_norm": True},
    ],
)
def test_other_vits(args: dict[str, Any], tmp_path: Path) -> None:
    """What the names of the tensors tell is built again: tokens, pooling, norms, layer scale."""
    network = vit(**args)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", "auto", tmp_path / "out", **GRAY, num_heads=2)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(features(loaded, images), features(network, images))
    with pytest.raises(ConvertError, match="--num-heads"):
        convert(tmp_path / "a.pth", "auto", tmp_path / "none", **GRAY)


def test_moco_v3_has_twelve_heads(tmp_path: Path) -> None:
    """Its ViT-Small has twice the usual number, which no tensor tells but the name of the encoder does."""
    with torch.device("meta"):
        network = timm.create_model("vit_small_patch16_224", num_classes=0, img_size=32)
    tensors = {name: torch.zeros(()).expand(value.shape) for name, value in network.state_dict().items()}
    content = {"arch": "vit_small", "state_dict": {f"module.base_encoder.{k}": v for k, v in tensors.items()}}
    plan = generic_plan(content, Answers(**GRAY), ())
    assert "MoCo v3" in plan.layout.title
    assert plan.layout.model_args == {"img_size": 32, "num_heads": 12}


def numbered(network: Any, prefix: str) -> dict[str, Tensor]:
    sequential = nn.Sequential(*list(network.children())[:-1])
    return {f"{prefix}{key}": value for key, value in sequential.state_dict().items()}


def test_ultrasound_layouts(tmp_path: Path) -> None:
    """USCL is told by its heads; where three works name their tensors alike, the user is asked or says mean and std."""
    tensors = numbered(drawn(torchvision.models.resnet18()), "features.")
    square, out = nn.Linear(512, 512).state_dict(), nn.Linear(512, 256).state_dict()
    heads = {f"{name}.{key}": value for name, layer in (("l1", square), ("l2", out)) for key, value in layer.items()}
    file = tmp_path / "a.pth"
    torch.save(tensors | heads, file)
    with pytest.raises(ConvertError, match=r"uscl, meta-uscl, awcl.*--from"):
        convert(file, "auto", tmp_path / "none")
    done = convert(file, "auto", tmp_path / "own", **GRAY)
    assert "ResNet as a numbered Sequential" in done.layout and done.counts["heads"] == 4
    more = {
        f"{name}.{key}": value
        for name, into in (("fc", 256), ("fc1", 512))
        for key, value in nn.Linear(into, 512 if into == 512 else 12).state_dict().items()
    }
    torch.save(tensors | heads | more, file)
    assert convert(file, "auto", tmp_path / "uscl").layout.startswith("USCL")


def test_refusals(tmp_path: Path) -> None:
    """Nothing is guessed: mean and std, a second network, a stranger's key, an odd stem, a size."""
    file, tensors = tmp_path / "a.pth", resnet().state_dict()

    def refused(content: Any, told: str, **answers: Any) -> None:
        torch.save(content, file)
        with pytest.raises(ConvertError, match=told):
            convert(file, "auto", tmp_path / "out", **answers)
        assert not (tmp_path / "out").exists()

    refused(tensors, "--mean.*--std")
    refused(tensors, "--std", mean=(0.2,))
    refused(tensors, "2 numbers", mean=(0.2, 0.2), std=(0.2,))
    refused(tensors, "0..1 scale", mean=(123.7,), std=(58.0,))
    refused({"a": tensors, "b": tensors}, "2 networks.*--drop", **GRAY)
    refused(tensors | {"decoder.conv.weight": torch.zeros(3)}, "decoder.conv.weight.*--drop", **GRAY)
    refused({key: value for key, value in tensors.items() if "layer3.0.bn1" not in key}, "--arch", **GRAY)
    refused(tensors, "resnet18 has other tensors", arch="resnet18", **GRAY)
    refused(tensors, "none", num_heads=3, **GRAY)
    refused(tensors | {"conv1.0.weight": torch.full((16, 3, 3, 3), torch.nan)}, "NaN", **GRAY)
    refused({"weights": {"a.weight": torch.zeros(3)}}, "no ResNet and no ViT", **GRAY)
    refused({"epoch": 3}, "no tensors", **GRAY)
    refused(timm.create_model("vit_tiny_patch16_224", img_size=32).state_dict(), "TinyUSFM", **GRAY)
    refused(vit().state_dict(), "multiple of 16", num_heads=2, size=50, **GRAY)
    torch.save({"a": tensors, "b": tensors}, file)
    assert convert(file, "auto", tmp_path / "one", drop=("b.",), **GRAY).counts["backbone"] == len(tensors)


class Odd:
    """A class of a training script, which no reader of tensors knows."""


def test_code_is_not_run_and_named(tmp_path: Path) -> None:
    torch.save({"state_dict": resnet().state_dict(), "config": Odd()}, tmp_path / "a.pth")
    with pytest.raises(ConvertError, match=r"more than tensors.*Odd.*state_dict\(\)"):
        convert(tmp_path / "a.pth", "auto", tmp_path / "out", **GRAY)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says which layout it took and what it left, and asks in one line."""
    torch.save(moco(resnet()), tmp_path / "a.pth")
    words = ["convert", str(tmp_path / "a.pth"), "--from", "auto", "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    asked = capsys.readouterr().err
    assert len(asked.splitlines()) == 1 and "--mean" in asked
    cli.main([*words, "--mean", "0.485", "0.456", "0.406", "--std", "0.229", "0.224", "0.225", "--license", "MIT"])
    told = capsys.readouterr().out
    for word in (
        "test_resnet",
        "MoCo ResNet",
        "prefix module.encoder_q.",
        "not kept",
        "encoder_k",
        "MIT",
        "224 px",
    ):
        assert word in told, word
    assert load_file(tmp_path / "out" / "model.safetensors")
