"""segmentation_models_pytorch and torchvision's detectors, each built by its own library around our weight."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

import usbackbones
from usbackbones.hub import registry

NAME = f"usbackbones/{registry.default_name()}"


def prepared(stills, model):
    """Two stills as the weight expects them, [2, 1, S, S]."""
    return usbackbones.transforms(model).clip_batch(stills.frames[:2])


@pytest.mark.parametrize("decoder", ["Unet", "FPN"])
def test_smp_takes_the_name(stills, decoder):
    """The encoder of smp's own network gives our maps."""
    network = getattr(smp, decoder)(f"tu-{NAME}", encoder_weights=True, in_channels=1, classes=2).eval()
    ours = timm.create_model(NAME, pretrained=True, in_chans=1, features_only=True).eval()
    images = prepared(stills, timm.create_model(NAME, in_chans=1))
    with torch.inference_mode():
        for theirs, wanted in zip(network.encoder(images)[1:], ours(images), strict=True):
            torch.testing.assert_close(theirs, wanted)
        assert network(images).shape == (2, 2, *images.shape[2:])


class LastMap(torch.nn.Module):
    """The last feature map, as torchvision's detectors want it."""

    out_channels = 512

    def __init__(self):
        super().__init__()
        self.model = timm.create_model(NAME, pretrained=True, in_chans=1, features_only=True, out_indices=[4])

    def forward(self, images):
        return self.model(images)[0]


def test_torchvision_detects_on_our_maps(stills):
    """A Faster R-CNN of torchvision, normalizing as the weight was trained; gradients reach the backbone."""
    model = timm.create_model(NAME, in_chans=1)
    mean, std = (list(model.pretrained_cfg[key]) for key in ("mean", "std"))
    detector = FasterRCNN(
        LastMap(),
        num_classes=2,
        min_size=96,
        max_size=96,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=AnchorGenerator(((16, 32, 64),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
    ).train()
    images = [torch.from_numpy(frame)[None].float() / 255 for frame in stills.frames[:2]]
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}] * 2
    losses = detector(images, targets)
    sum(losses.values()).backward()
    assert detector.backbone.model.conv1.weight.grad.abs().max() > 0
    with torch.inference_mode():
        assert all({"boxes", "labels", "scores"} <= found.keys() for found in detector.eval()(images))
