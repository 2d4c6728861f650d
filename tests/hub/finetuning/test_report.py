"""The report that fine-tuning leaves: what stands in it, and who is not in it unless asked for."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tests.phantoms import phantom_clip
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.run import finetune
from usbackbones.hub.timm_folder import timm_config, write_timm_folder


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Stills of twelve patients, and a tiny ViT to tune, as timm calls it."""
    folder, vit = tmp_path_factory.mktemp("stills"), tmp_path_factory.mktemp("vit")
    for patient in range(12):
        kind = ("abdomen", "heart")[patient % 2]
        (folder / kind).mkdir(exist_ok=True)
        frame = phantom_clip(patient, frames=1, size=64, kind=kind)[0]
        Image.fromarray(np.asarray(frame)).save(folder / kind / f"smith{patient:02d}_0.png")
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=0, img_size=64)
    told = {"tag": "tiny", "size": 64, "mean": [0.3] * 3, "std": [0.25] * 3, "interpolation": "bilinear"}
    told |= {"licence": "CC0-1.0", "origin_url": "", "description": "untrained"}
    config = timm_config(network, arch="test_vit", model_args={"img_size": 64}, **told)
    write_timm_folder(vit, network.state_dict(), config)
    return folder, f"local-dir:{vit}"


@pytest.mark.parametrize("pictures", [False, True])
def test_a_run_leaves_a_report(setting, tmp_path, pictures):
    data, model = setting
    spec = FineTune(epochs=2, head_epochs=1, batch=8, frames=1, margin=0)
    done = finetune(
        data, model, tmp_path, spec, group_from="^(smith[0-9]+)_", test=0.4, progress=False, pictures=pictures
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for metrics in done.metrics.values():
        low, high = (f"{metrics['auroc'][end]:.3f}" for end in ("low", "high"))
        assert f'{metrics["auroc"]["value"]:.3f} <span class="interval">[{low}, {high}]</span>' in text
    assert "validation: minus the log loss" in text and "clip, fine-tuned" in text and "frame, fine-tuned" not in text
    headings = ("Results", "Confusion", "Classes", "Reliability", "Learning", "Map of the features", "Neighbors")
    assert all(f">{heading}</h2>" in text for heading in headings)
    assert ("smith" in text) == ("data:image/jpeg" in text) == pictures
    assert ("gradient x input" in text) == ("attention rollout" in text) == pictures
    assert not (tmp_path / "frames.u8").exists()
