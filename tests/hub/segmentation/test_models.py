"""Backbones below dense heads: every weight arrives, all sizes and channels fit, gradients reach what is not frozen."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torchvision.models.detection import MaskRCNN

from usbackbones.hub.backbone import build_backbone
from usbackbones.hub.errors import BackboneError
from usbackbones.segmentation.feature_maps import Pyramid
from usbackbones.segmentation.losses import dice_and_cross_entropy, foreground, loss_of, targets_of
from usbackbones.segmentation.models import freeze, mask_rcnn, pyramid_of, train_mode, unet


def names(published):
    return (f"usbackbones/{published.resnet}", f"usbackbones/{published.vit}")


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("which", [0, 1])
def test_every_weight_arrives(published, which, in_chans):
    """Tensor by tensor against the released file, the first layer summed over the channels where there is one."""
    name = names(published)[which]
    stored = published.tensors[name.removeprefix("usbackbones/")]
    for model in (unet(name, in_chans=in_chans), mask_rcnn(name, in_chans=in_chans, size=(64, 64))):
        loaded = pyramid_of(model).network.state_dict()
        assert loaded.keys() == stored.keys()
        for key, tensor in stored.items():
            wanted = tensor.float() if tensor.is_floating_point() else tensor
            if loaded[key].shape != wanted.shape:
                wanted = wanted.sum(1, keepdim=True)
            torch.testing.assert_close(loaded[key], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("spread", [False, True])
def test_strides(arch, spread):
    pyramid = Pyramid(build_backbone(f"random:{arch}", 1), spread).eval()
    with torch.no_grad():
        maps = pyramid(torch.rand(1, 1, 64, 96))
    assert pyramid.strides[-4:] == (4, 8, 16, 32)
    for x, stride, channels in zip(maps, pyramid.strides, pyramid.channels, strict=True):
        assert x.shape == (1, channels, 64 // stride, 96 // stride)


def test_a_resnet_gives_the_maps_of_smp(published):
    """The encoder that smp builds with `tu-` from our weight, on the same picture."""
    name = names(published)[0]
    theirs = smp.Unet(f"tu-{name}", encoder_weights=True, in_channels=1).encoder.eval()
    images = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for ours, other in zip(unet(name).eval().encoder(images), theirs(images), strict=True):
            torch.testing.assert_close(ours, other)


def test_stride_16_of_a_vit_is_its_last_map():
    pyramid = Pyramid(build_backbone("random:vit_tiny_patch16_224", 3)).eval()
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        tokens = pyramid.network.forward_features(images)[:, 1:]
        torch.testing.assert_close(pyramid(images)[2].flatten(2).transpose(1, 2), tokens, rtol=1e-4, atol=1e-5)


def test_a_detector_knows_the_model_as_built(published):
    model = mask_rcnn(names(published)[0], in_chans=1, size=(64, 64))
    assert isinstance(model, MaskRCNN)
    assert (model.transform.image_mean, model.transform.image_std) == ([0.2], [0.25])
    assert model.roi_heads.box_predictor.cls_score.out_features == 2


@pytest.mark.parametrize(
    ("arch", "kept", "above"),
    [
        ("resnet18", ("conv1", "bn1", "layer1."), "layer2."),
        ("vit_tiny_patch16_224", ("patch_embed", "pos_embed", "cls_token", "blocks.0."), "blocks.1."),
        ("tf_efficientnet_lite0", ("conv_stem", "bn1", "blocks.0."), "blocks.1."),
        ("convnext_atto", ("stem", "stages.0."), "stages.1."),
    ],
)
@pytest.mark.parametrize("build", [unet, mask_rcnn])
def test_gradients_stop_at_the_first_stage(arch, kept, above, build):
    options = {"size": (64, 64), "regions": 16} if build is mask_rcnn else {}
    model = build(f"random:{arch}", 1, 1, **options).train()
    freeze(model, 1)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[:, 16:48, 16:48] = True
    loss_of(model, torch.rand(2, 1, 64, 64), masks).backward()
    network = pyramid_of(model).network
    reached = {key for key, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert not {key for key in reached if key.startswith(kept)}
    assert any(key.startswith(above) for key in reached)
    assert {key for key, p in network.named_parameters() if not p.requires_grad} == {
        key for key, _ in network.named_parameters() if key.startswith(kept)
    }
    with torch.no_grad():
        seen = foreground(model.eval(), torch.rand(2, 1, 64, 64))
    assert seen.shape == (2, 64, 64) and float(seen.min()) >= 0 and float(seen.max()) <= 1


def test_more_stages_than_there_are_cannot_be_frozen():
    with pytest.raises(BackboneError, match="frozen is 5: this backbone has 4 stages"):
        freeze(unet("random:resnet18"), 5)


def test_a_frozen_backbone_learns_nothing_at_all():
    """Neither weights nor the statistics of its batch norms, while the decoder does."""
    model = unet("random:resnet10t", in_chans=1)
    freeze(model, "all")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    train_mode(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss_of(model, torch.rand(2, 1, 64, 64), torch.rand(2, 64, 64) < 0.5).backward()
    optimizer.step()
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed and not [key for key in changed if key.startswith("encoder.pyramid.network.")]


def test_targets():
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[2:6, 3:9] = mask[10:18, 20:25] = mask[0, 29] = True  # the third piece is a pixel, which is no box
    found = targets_of(mask)
    assert found["boxes"].tolist() == [[3, 2, 8, 5], [20, 10, 24, 17]]
    assert found["masks"].sum((1, 2)).tolist() == [24, 40] and found["labels"].tolist() == [1, 1]
    assert targets_of(torch.zeros(4, 4, dtype=torch.bool))["boxes"].shape == (0, 4)


def test_loss_pixel_by_pixel():
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(2, 5, 4)), rng.random((2, 5, 4)) < 0.4
    cross, dices = [], []
    for picture, mask in zip(logits, truth, strict=True):
        p = 1 / (1 + np.exp(-picture))
        cross += [-np.log(p[i]) if mask[i] else -np.log(1 - p[i]) for i in np.ndindex(5, 4)]
        dices.append((2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1))
    found = dice_and_cross_entropy(torch.tensor(logits), torch.tensor(truth, dtype=torch.float64))
    assert float(found) == pytest.approx(np.mean(cross) + 1 - np.mean(dices), rel=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="in_chans is 2"):
        unet("random:resnet18", in_chans=2)
    with pytest.raises(ValueError, match="patches of 32"):
        unet("random:vit_tiny_patch16_224".replace("tiny_patch16", "small_patch32"))
    with pytest.raises(ValueError, match="no architecture 'resnet_none'"):
        build_backbone("random:resnet_none")
    assert timm.is_model("vit_small_patch32_224")
