"""Exports are opened by their own runtimes and compared with the model."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from tests.hub.predicting.conftest import regressor  # noqa: F401
from tests.phantoms import phantom_clip
from usbackbones.cli import main as cli
from usbackbones.exporting.export import _FORM_OF, AGREEMENT, FACTS, ExportError, _run, export
from usbackbones.exporting.quantize import cosines
from usbackbones.features.extract import embed
from usbackbones.features.transforms import transforms
from usbackbones.hub.timm_folder import timm_config, write_timm_folder

onnxruntime = pytest.importorskip("onnxruntime", reason="the export extra is not installed")


def small(arch: str = "usresnet18", channels: int = 1) -> nn.Module:
    """An untrained network for small images."""
    torch.manual_seed(0)
    size = {"img_size": 64} if "vit" in arch else {}
    model = timm.create_model(arch, num_classes=0, in_chans=channels, **size).eval()
    vars(model)["pretrained_cfg"] = {
        **model.pretrained_cfg,
        **{"input_size": (channels, 64, 64), "crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bilinear"},
    }
    return model


@pytest.mark.parametrize(
    ("arch", "channels", "form"),
    [
        ("usresnet18", 1, "onnx"),
        ("test_vit", 3, "torch"),
        pytest.param("usresnet18", 1, "torch", marks=pytest.mark.slow),
        pytest.param("test_vit", 3, "onnx", marks=pytest.mark.slow),
    ],
)
def test_frames_of_any_size(arch: str, channels: int, form: str, tmp_path: Path) -> None:
    """With the preprocessing inside, raw frames of another size and number than traced give the model's features."""
    model = small(arch, channels)
    done = export(model, tmp_path / f"program.{'onnx' if form == 'onnx' else 'pt2'}", form, preprocess=True)
    assert done.difference < 1e-4
    frames = phantom_clip(0, frames=5, size=150)[:, :130]
    if form == "onnx":
        session = onnxruntime.InferenceSession(done.file)
        features = session.run(None, {"images": frames})[0]
    else:
        features = torch.export.load(done.file).module()(torch.from_numpy(frames.copy())).detach().numpy()
    with torch.no_grad():
        wanted = model(transforms(model).clip_batch(frames)).numpy()
    assert features.shape == (5, done.features)
    assert np.abs(features - wanted).max() < 0.01 * np.abs(wanted).max()


def test_tensors(tmp_path: Path) -> None:
    """Without, it takes what the transform gives."""
    model = small()
    done = export(model, tmp_path / "program.onnx")
    images = torch.randn(3, 1, 64, 64)
    session = onnxruntime.InferenceSession(done.file)
    with torch.no_grad():
        np.testing.assert_allclose(
            session.run(None, {"images": images.numpy()})[0], model(images), rtol=1e-3, atol=1e-4
        )
    assert done.inputs == "images float32 [N, 1, 64, 64]"


class Unsteady(nn.Module):
    """Computes something else once it is traced."""

    pretrained_cfg: ClassVar = {"input_size": (1, 64, 64), "mean": (0.5,), "std": (0.25,)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) + (1 if torch.compiler.is_compiling() else 0)


def test_refusals(tmp_path: Path) -> None:
    """An export that differs is not written; a transform that has no place inside is named."""
    with pytest.raises(ExportError, match="differ from the model's"):
        export(Unsteady(), tmp_path / "program.pt2", "torch")
    model = small()
    vars(model)["pretrained_cfg"]["interpolation"] = "bicubic"
    with pytest.raises(ExportError, match="bicubic"):
        export(model, tmp_path / "program.onnx", preprocess=True)
    assert not list(tmp_path.iterdir())


class Offset(nn.Module):
    """Features that differ by less than bf16 can tell beside the offset that they share."""

    pretrained_cfg: ClassVar = Unsteady.pretrained_cfg | {
        "interpolation": "bilinear",
        "crop_mode": "squash",
        "crop_pct": 1,
    }

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.full((4,), 1000.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 20:24, 30] + self.offset


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "suffix", "share"), [("bf16", ".pt2", 0.51), ("int8", ".onnx", 0.26)])
def test_smaller_programs_agree_with_the_model(precision: str, suffix: str, share: float, tmp_path: Path) -> None:
    """The default weight in less: on frames that were neither calibrated nor judged on."""
    model = timm.create_model("usbackbones/resnet18", pretrained=True, num_classes=0, in_chans=1)
    frames = np.concatenate([phantom_clip(patient, frames=2, size=64) for patient in range(16)])
    done = export(
        model, tmp_path / f"program{suffix}", _FORM_OF[precision], True, precision, None if suffix == ".pt2" else frames
    )
    assert done.agreement is not None and AGREEMENT <= done.agreement < 1
    assert done.file.stat().st_size < share * sum(4 * p.numel() for p in model.parameters()) + 1e5
    new = np.concatenate([phantom_clip(patient, frames=2, size=90) for patient in range(100, 106)])
    wanted = embed(model, new)
    features = _run(done.file, _FORM_OF[precision], torch.from_numpy(new))
    assert features.dtype == np.float32
    assert cosines(features, wanted).min() > AGREEMENT - 0.03
    assert [path.name for path in tmp_path.iterdir()] == [done.file.name]


def test_agreement_is_the_cosine_about_the_mean() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(6, 5)) + 100
    features = exact + 0.3 * rng.normal(size=(6, 5))
    slow = []
    for row, other in zip(features, exact, strict=True):
        a = [x - sum(exact[:, j]) / 6 for j, x in enumerate(row)]
        b = [x - sum(exact[:, j]) / 6 for j, x in enumerate(other)]
        dot, lengths = sum(x * y for x, y in zip(a, b, strict=True)), (sum(x * x for x in a), sum(x * x for x in b))
        slow.append(dot / (lengths[0] * lengths[1]) ** 0.5)
    np.testing.assert_allclose(cosines(features, exact), slow, atol=1e-12)
    np.testing.assert_allclose(cosines(exact, exact), 1)
    assert np.isnan(cosines(np.full_like(exact, np.nan), exact)).all()


def test_smaller_programs_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"bf16 the features .* cosine of only .* \(--frames CLIPS, .* keep fp32"):
        export(Offset(), tmp_path / "program.pt2", "torch", precision="bf16")
    for form, precision in (("onnx", "bf16"), ("torch", "int8")):
        with pytest.raises(ExportError, match=f"no {precision} program in the form '{form}'"):
            export(Offset(), tmp_path / "program", form, precision=precision)
    with pytest.raises(ExportError, match=r"uint8 \[3, 8, 8\]; give uint8 \[N, H, W\], 16 at least"):
        export(Offset(), tmp_path / "x.onnx", precision="int8", frames=np.zeros((3, 8, 8), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [(), ("--preprocess",), ("--channels", "3")])
def test_command_with_a_timm_folder(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """timm's cfg of a folder says 3 channels whatever is built; the program has the channels that were asked for."""
    means, stds = (0.1, 0.2, 0.3), (0.2, 0.2, 0.5)
    cfg = {"input_size": (3, 64, 64), "crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bilinear"}
    cfg |= {"mean": means, "std": stds}
    made = timm.create_model("test_resnet", num_classes=0, pretrained_cfg_overlay=cfg)
    timm.models.save_for_hf(made, tmp_path / "folder", safe_serialization=True)
    cli.main(["export", f"local-dir:{tmp_path / 'folder'}", "-o", str(tmp_path / "a.onnx"), *options, "--json"])
    channels = 3 if "3" in options else 1
    told = json.loads(capsys.readouterr().out)["inputs"]
    assert told == (
        "images uint8 [N, H, W]" if options[:1] == ("--preprocess",) else f"images float32 [N, {channels}, 64, 64]"
    )
    frames = phantom_clip(0, frames=3, size=64)
    gray = torch.from_numpy(frames)[:, None].float() / 255
    mean, std = (torch.tensor(v if channels == 3 else [sum(v) / 3])[:, None, None] for v in (means, stds))
    images = (gray - mean) / std
    network = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=0, in_chans=channels)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    features = session.run(None, {"images": frames if "--preprocess" in options else images.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(features, network.eval()(images), rtol=1e-3, atol=1e-4)


def test_command_with_frames_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the refusal of int8 advises: frames of every clip given reach the calibration, at the size of the input."""
    for patient, side in enumerate((90, 70)):
        np.save(tmp_path / f"{patient}.npy", phantom_clip(patient, frames=20 + 200 * patient, size=side))
    seen = []
    monkeypatch.setattr(
        "usbackbones.exporting.export.export", lambda *args, **told: seen.append(args) or export(args[0], args[1])
    )
    command = ["export", "-o", str(tmp_path / "a.onnx"), "--precision", "int8", "--frames"]
    cli.main([*command, str(tmp_path / "0.npy"), str(tmp_path / "1.npy")])
    precision, frames = seen[0][-2:]
    height, width = seen[0][0].pretrained_cfg["input_size"][1:]
    assert (precision, frames.dtype, frames.shape) == ("int8", np.uint8, (20 + 128, height, width))
    first = Image.fromarray(np.load(tmp_path / "0.npy")[0]).resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(frames[0], np.asarray(first))
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, str(tmp_path / "absent.mp4")])
    assert stop.value.code == 2 and "absent.mp4" in capsys.readouterr().err


def test_command(tmp_path: Path, published: object, capsys: pytest.CaptureFixture[str]) -> None:
    """The default weight becomes a program; a name that decides no form is refused in a line."""
    cli.main(["export", "-o", str(tmp_path / "backbone.onnx"), "--preprocess", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["inputs"] == "images uint8 [N, H, W]"
    assert Path(told["file"]).stat().st_size > 1000
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", "-o", str(tmp_path / "backbone.pth")])
    assert stop.value.code == 2
    assert ".onnx or .pt2" in capsys.readouterr().err


def props(file: Path) -> dict[str, str]:
    return onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map


def test_a_tuned_folder_gives_logits_with_its_classes_and_license(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(2)
    network = timm.create_model("test_resnet", num_classes=2).eval()
    given: dict[str, Any] = {"arch": "test_resnet", "model_args": {}, "tag": "tuned", "size": 64, "num_classes": 2}
    given |= {"mean": (0.2,) * 3, "std": (0.3,) * 3, "interpolation": "bilinear", "origin_url": "", "description": ""}
    config = timm_config(network, licence="CC-BY-NC-4.0", **given) | {"label_names": ["benign", "malignant"]}
    write_timm_folder(tmp_path / "tuned", network.state_dict(), config)
    name, out = f"local-dir:{tmp_path / 'tuned'}", tmp_path / "tuned.onnx"
    cli.main(["export", name, "-o", str(out)])
    assert "logits float32 [N, 2]" in capsys.readouterr().out
    told = props(out)
    assert json.loads(told["classes"]) == ["benign", "malignant"] and json.loads(told["size"]) == [64, 64]
    assert json.loads(told["mean"]) == pytest.approx([0.2]) and json.loads(told["std"]) == pytest.approx([0.3])
    assert (told["interpolation"], told["crop_mode"], told["crop_pct"]) == ("bilinear", "squash", "1.0")
    assert told["license"].startswith("CC-BY-NC-4.0") and "non-commercial" in told["license"]
    assert str(tmp_path) not in json.dumps(told)
    (taken,), (gives,) = (getattr(onnxruntime.InferenceSession(out), f"get_{end}")() for end in ("inputs", "outputs"))
    assert (taken.name, taken.shape[0], gives.name, gives.shape) == ("images", "batch", "logits", ["batch", 2])
    images = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        wanted = network(images.expand(-1, 3, -1, -1)).numpy()
    found = onnxruntime.InferenceSession(out).run(None, {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    cli.main(["export", name, "-o", str(tmp_path / "tuned.pt2"), "--backbone", "--json"])
    assert json.loads(capsys.readouterr().out)["output"] == "features"
    held = {FACTS: ""}
    torch.export.load(tmp_path / "tuned.pt2", extra_files=held)
    assert json.loads(held[FACTS])["classes"] == "[]"


def test_a_regressor_gives_its_value_in_its_unit(
    regressor: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Logits of one class would be 1 after a softmax, whatever was measured; predict gives the same number."""
    cli.main(["export", str(regressor), "-o", str(tmp_path / "ef.onnx"), "--preprocess"])
    assert "-> value float32 [N, 1]" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "ef.onnx")
    told = session.get_modelmeta().custom_metadata_map
    assert (told["output"], told["classes"], told["label"], told["unit"]) == ("value", "[]", "ef", "%")
    frame = phantom_clip(0, frames=1, size=64)
    Image.fromarray(frame[0]).save(tmp_path / "still.png")
    cli.main(["predict", str(regressor), str(tmp_path / "still.png"), "-o", str(tmp_path / "p.csv")])
    ((name, value),) = [pair for pair in read_row(tmp_path / "p.csv").items() if pair[0].startswith("value")]
    (found,) = session.run(["value"], {"images": frame})
    assert name == "value_ef_%" and found.item() == pytest.approx(float(value), rel=1e-3)


def read_row(file: Path) -> dict[str, str]:
    (row,) = csv.DictReader(file.open(newline=""))
    return row


def test_a_segmenter_gives_masks_and_a_silent_license_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = pytest.importorskip("usbackbones.segmentation.config", reason="the dense extra is not installed")
    models = pytest.importorskip("usbackbones.segmentation.models")
    spec = config.Segment(size=32)
    model = config.build("random:test_resnet", spec).eval()
    settings = {"model": "random:test_resnet", "spec": asdict(spec)}
    settings["blueprint"] = config.blueprint(models.pyramid_of(model).network)
    (tmp_path / "model.json").write_text(json.dumps(settings))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    out = tmp_path / "unet.onnx"
    cli.main(["export", f"local-dir:{tmp_path}", "-o", str(out)])
    assert "masks float32 [N, 1, 32, 32]" in capsys.readouterr().out
    images = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        wanted = model(images).numpy()
    found = onnxruntime.InferenceSession(out).run(None, {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    assert json.loads(props(out)["classes"]) == ["foreground"]
    for options, told in ((["--channels", "3"], "takes 1 channel(s), not 3"), (["--backbone"], "is a segmenter")):
        with pytest.raises(SystemExit):
            cli.main(["export", f"local-dir:{tmp_path}", "-o", str(out), *options])
        assert told in capsys.readouterr().err
