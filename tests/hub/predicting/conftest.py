"""Tiny trained models in the layout of `finetune` and `segment`, and clips to predict."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.phantoms import phantom_clip
from usbackbones.data.seen import write_seen
from usbackbones.hub.timm_folder import timm_config, write_timm_folder
from usbackbones.segmentation.config import Segment, blueprint, build
from usbackbones.segmentation.losses import network_input
from usbackbones.segmentation.mask_values import Meaning
from usbackbones.segmentation.models import pyramid_of


def timm_folder(folder, names, seed=0, **told):
    """A timm folder of a network that nobody trained, with an output for each name."""
    torch.manual_seed(seed)
    network = timm.create_model("test_resnet", num_classes=len(names))
    config = timm_config(
        network, arch="test_resnet", model_args={}, tag="finetuned", size=64, mean=[0.3] * 3, std=[0.25] * 3,
        interpolation="bilinear", licence="CC-BY-NC-4.0", origin_url="", description="untrained",
        num_classes=len(names),
    )  # fmt: skip
    config["label_names"] = list(names)
    config["usbackbones"] = told
    folder.mkdir(exist_ok=True)
    write_timm_folder(folder, network.state_dict(), config)
    return folder


@pytest.fixture(scope="session")
def regressor(tmp_path_factory):
    """The folder of a regressor of an ejection fraction in % that nobody trained."""
    folder = tmp_path_factory.mktemp("regressor")
    return timm_folder(folder, ["number"], task="number", label="ef", unit="%")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """The folder of a classifier of heart and abdomen that nobody trained, with validation predictions of 40 groups."""
    folder = timm_folder(tmp_path_factory.mktemp("tuned"), ["abdomen", "heart"])
    rng = np.random.default_rng(0)
    lines = ["path,group,part,label,predicted,prob_abdomen,prob_heart"]
    for number in range(40):
        p = 0.02 if rng.random() < 0.5 else 0.98  # far too sure: right in 8 of 10
        label = ("heart", "abdomen")[int((p > 0.5) == (rng.random() < 0.8))]
        lines.append(f"{number}.png,g{number},validation,{label},x,{p},{1 - p:.2f}")
    lines.append("t.png,t,test,heart,x,0.1,0.9")
    (folder / "predictions.csv").write_text("\n".join(lines))
    write_seen(folder, [], [phantom_clip(0, frames=1, size=96)[0]])
    return folder


@pytest.fixture
def clips(tmp_path):
    """Stills of three patients, one of them seen in training, an animated clip, a broken file, and a mask."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for patient in range(3):
        Image.fromarray(phantom_clip(patient, frames=1, size=96)[0]).save(folder / f"p{patient}_a.png")
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(folder / "p1_a_mask.png")
    frames = [Image.fromarray(frame) for frame in phantom_clip(5, frames=5, size=80)]
    frames[0].save(folder / "p5_cine.tif", save_all=True, append_images=frames[1:])
    (folder / "p6_broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"x" * 300)
    return folder


def structures(folder, first=0, count=9, side=64):
    """images/ and masks/ of phantoms with a nerve of value 1 and an artery of value 2, in a table with a spacing."""
    rows, columns = np.indices((side - 8, side))
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    lines = ["image,mask,patient,spacing,scanner"]
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        frame = phantom_clip(number, frames=1, size=side, kind="abdomen")[0][: side - 8]
        labels = np.zeros(frame.shape, np.uint8)
        for value, (x, y) in ((1, rng.integers(12, 26, 2)), (2, rng.integers(34, 46, 2))):
            labels[(rows - y) ** 2 + (columns - x) ** 2 < rng.integers(30, 90)] = value
        frame = np.where(labels == 1, 230, np.where(labels == 2, 10, frame // 2 + 40)).astype(np.uint8)
        Image.fromarray(frame).save(folder / "images" / f"s{number}.png")
        Image.fromarray(labels).save(folder / "masks" / f"s{number}.png")
        lines.append(f"images/s{number}.png,masks/s{number}.png,P{number // 2},0.5|0.2,{'AB'[number % 2]}")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory):
    """The folder of a U-Net of a nerve and an artery that nobody trained, with some of each in its masks."""
    folder = tmp_path_factory.mktemp("segmenter")
    spec = Segment(size=32, classes=("nerve", "artery"))
    model = build("random:resnet10t", spec).eval()
    head = model.segmentation_head[0]
    frame = Image.fromarray(phantom_clip(0, frames=1, size=64, kind="abdomen")[0]).resize((32, 32))
    with torch.no_grad():  # no class lies above the others everywhere
        logits = model(network_input(model, torch.from_numpy(np.array(frame))[None]))[0]
        spread = logits.std((1, 2))
        head.bias.copy_((head.bias - logits.mean((1, 2))) / spread)
        head.weight.div_(spread[:, None, None, None])
    return segmenter_folder(folder, model, spec, Meaning((0, 1, 2), (0, 1, 2), spec.classes))


@pytest.fixture(scope="session")
def detector(tmp_path_factory):
    """The folder of a Mask R-CNN that nobody trained, which fills the box of what it detects."""
    spec = Segment(head="mask_rcnn", size=64, regions=16)
    model = build("random:resnet10t", spec).eval()
    with torch.no_grad():
        model.roi_heads.mask_predictor.mask_fcn_logits.bias.fill_(4.0)
    return segmenter_folder(tmp_path_factory.mktemp("detector"), model, spec, Meaning((0, 255), (0, 1), spec.classes))


def segmenter_folder(folder, model, spec, masks):
    """What `segment` writes of a model on random:resnet10t."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    settings = {
        "model": "random:resnet10t", "spec": asdict(spec), "license": "none (random initialization)",
        "masks": asdict(masks), "classes": ["background", *spec.classes],
        "blueprint": blueprint(pyramid_of(model).network), "pretrained_cfg": model.pretrained_cfg,
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(settings))
    return folder
