"""Lightning and transformers, which are slow to import: in one file, so that one process of the tests loads them.

What docs/compatibility.md says of `transformers` is what these tests hold.
"""

import json
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import usbackbones
from tests.conftest import REPOSITORY
from usbackbones.hub import registry

NAME = registry.default_name()


@pytest.fixture(scope="module")
def lightning():
    return pytest.importorskip("lightning", reason="the lightning extra is not installed")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def released() -> Path:
    """The folder of the default weight as the Hub gets it."""
    return REPOSITORY / "model_cards" / NAME


@pytest.fixture(scope="module")
def images(stills):
    """Prepared stills [N, 3, S, S] and their classes."""
    model = timm.create_model(f"usbackbones/{NAME}")
    return usbackbones.transforms(model).clip_batch(stills.frames), torch.from_numpy(stills.label)


def test_a_lightning_module(lightning, images, tmp_path):
    class Classifier(lightning.LightningModule):
        def __init__(self, name, classes):
            super().__init__()
            self.save_hyperparameters()
            self.model = timm.create_model(name, pretrained=True, num_classes=classes)

        def training_step(self, batch, _):
            loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def validation_step(self, batch, _):
            self.log("right", (self.model(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=3e-4)

    lightning.seed_everything(0, verbose=False)
    module = Classifier(f"usbackbones/{NAME}", 2)
    loader = DataLoader(TensorDataset(*images), batch_size=16)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, default_root_dir=tmp_path, enable_checkpointing=False, **quiet
    )
    trainer.fit(module, loader, loader)
    assert trainer.callback_metrics["right"] >= 0.75
    trainer.save_checkpoint(tmp_path / "trained.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "trained.ckpt", weights_only=True).eval()
    module.eval()
    with torch.inference_mode():
        assert torch.equal(again.model(images[0][:2]), module.model(images[0][:2]))


def test_transformers_takes_the_folder_for_features(transformers, released, images):
    model = transformers.AutoModel.from_pretrained(released, dtype=torch.float32).eval()
    assert type(model).__name__ == "TimmWrapperModel"
    ours = timm.create_model(f"usbackbones/{NAME}", pretrained=True).eval()
    with torch.inference_mode():
        features, wanted = model(images[0][:4]).pooler_output, ours(images[0][:4])
    torch.testing.assert_close(features, wanted, rtol=1e-5, atol=1e-5)


def test_transformers_prepares_as_we_do(transformers, released, stills, images):
    prepare = transformers.AutoImageProcessor.from_pretrained(released)
    from PIL import Image

    given = prepare([Image.fromarray(frame).convert("RGB") for frame in stills.frames[:2]], return_tensors="pt")
    assert torch.allclose(given["pixel_values"], images[0][:2], atol=0.05)


def test_transformers_takes_the_folder_for_a_classifier(transformers, released, images):
    model = transformers.AutoModelForImageClassification.from_pretrained(released, num_labels=2, dtype=torch.float32)
    assert type(model).__name__ == "TimmWrapperForImageClassification"
    ours = timm.create_model(f"usbackbones/{NAME}", pretrained=True).eval()
    held = {key.removeprefix("timm_model."): value for key, value in model.state_dict().items()}
    assert all(torch.equal(held[key], value) for key, value in ours.state_dict().items())
    answer = model(pixel_values=images[0][:4], labels=images[1][:4])
    assert answer.logits.shape == (4, 2)
    answer.loss.backward()


def test_feature_maps_need_their_statistics_back(transformers, released, images):
    """Since 5 transformers resets the running statistics of batch norms here; docs/compatibility.md has the remedy."""
    model = transformers.TimmBackbone.from_pretrained(f"usbackbones/{NAME}", out_indices=[1, 2, 3, 4]).eval()
    ours = timm.create_model(f"usbackbones/{NAME}", pretrained=True, features_only=True, out_indices=[1, 2, 3, 4])
    model._backbone.load_state_dict(ours.state_dict())
    with torch.inference_mode():
        maps, wanted = model(images[0][:2]).feature_maps, ours.eval()(images[0][:2])
    assert len(maps) == 4
    for one, other in zip(maps, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_what_transformers_saves_is_a_folder_again(transformers, released, images, tmp_path):
    transformers.AutoModel.from_pretrained(released, dtype=torch.float32).save_pretrained(tmp_path)
    again = transformers.AutoModel.from_pretrained(tmp_path).eval()
    ours = timm.create_model(f"usbackbones/{NAME}", pretrained=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(again(images[0][:2]).pooler_output, ours(images[0][:2]))


def test_one_channel_by_a_folder_that_has_one(transformers, released, images, tmp_path):
    """transformers adapts no first layer, but takes a folder that timm saved with one channel."""
    gray = timm.create_model(f"usbackbones/{NAME}", pretrained=True, in_chans=1).eval()
    timm.models.save_for_hf(gray, tmp_path, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"] = {"in_chans": 1}  # timm's newest writes num_classes here too, which transformers trips over
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(images[0][:2, :1]).pooler_output, gray(images[0][:2, :1]))
