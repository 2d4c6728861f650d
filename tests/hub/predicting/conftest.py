"""Tiny trained models in the layout of `finetune` and `segment`, and clips to predict."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from usbackbones.data.seen import write_seen
from usbackbones.hub.timm_folder import timm_config, write_timm_folder
from usbackbones.phantom.simulator import phantom_clip


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """The folder of a classifier of heart and abdomen that nobody trained, with validation predictions of 40 groups."""
    folder = tmp_path_factory.mktemp("tuned")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=2)
    config = timm_config(
        network, arch="test_resnet", model_args={}, tag="finetuned", size=64, mean=[0.3] * 3, std=[0.25] * 3,
        interpolation="bilinear", licence="CC-BY-NC-4.0", origin_url="", description="untrained", num_classes=2,
    )  # fmt: skip
    config["label_names"] = ["abdomen", "heart"]
    write_timm_folder(folder, network.state_dict(), config)
    rng = np.random.default_rng(0)
    lines = ["path,group,part,label,predicted,p(abdomen),p(heart)"]
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
