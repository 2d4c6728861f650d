"""U-Net and Mask R-CNN with any timm backbone as encoder.

    usbackbones.segmentation.models.unet("usbackbones/resnet18.uscl_open3", classes=1, in_chans=1)
    usbackbones.segmentation.models.mask_rcnn("usbackbones/resnet18.uscl_open3", classes=1, in_chans=1)

The U-Net's decoder is segmentation_models_pytorch's, the detector torchvision's. For a ResNet the encoder is what
`smp.Unet("tu-" + name)` would build; a ViT comes with the pyramid of `feature_maps`, which smp has not.
"""

from collections import OrderedDict
from typing import Any, Literal

import torch
from segmentation_models_pytorch.base import SegmentationHead, SegmentationModel
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from timm.models import group_parameters
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from usbackbones.hub.backbone import build_backbone
from usbackbones.hub.errors import BackboneError
from usbackbones.segmentation.feature_maps import Pyramid

DECODER = (256, 128, 64, 32, 16)
"""Channels of the U-Net's decoder, from the coarsest step; smp's own."""
FPN_CHANNELS = 256
LOOKED_AT = 1000
"""Maximum number of regions that a detector looks at after training; torchvision's own."""


class Encoder(nn.Module):
    """A pyramid as an encoder of segmentation_models_pytorch: the image, then maps of strides 2 to 32.

    Args:
        pyramid: with strides 2 or 4 to 32; where stride 2 is missing, that step has no skip connection.
        in_chans: channels of the image.
    """

    output_stride = 32

    def __init__(self, pyramid: Pyramid, in_chans: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.starts_at_4 = pyramid.strides == (4, 8, 16, 32)
        if not self.starts_at_4 and pyramid.strides != (2, 4, 8, 16, 32):
            raise BackboneError(f"maps of strides {pyramid.strides}: a U-Net needs (2,) 4, 8, 16, 32")
        self.out_channels = [in_chans, *([0] if self.starts_at_4 else []), *pyramid.channels]

    def forward(self, images: Tensor) -> list[Tensor]:
        """The image [N, in_chans, H, W] and its five maps."""
        count, _, height, width = images.shape
        nothing = [images.new_empty(count, 0, height // 2, width // 2)] if self.starts_at_4 else []
        return [images, *nothing, *self.pyramid(images)]


class UNet(SegmentationModel):
    """A U-Net of smp's parts on any backbone; takes normalized images and gives logits [N, classes, H, W].

    Attributes:
        pretrained_cfg: the backbone's, with mean and std of the channels as built.
    """

    def __init__(self, pyramid: Pyramid, classes: int) -> None:
        super().__init__()
        self.pretrained_cfg: dict[str, Any] = pyramid.network.pretrained_cfg
        self.encoder = Encoder(pyramid, self.pretrained_cfg["input_size"][0])
        self.decoder = UnetDecoder(self.encoder.out_channels, DECODER, n_blocks=len(DECODER))
        self.segmentation_head = SegmentationHead(DECODER[-1], classes, kernel_size=3)
        self.classification_head = None
        self.name = "usbackbones-unet"
        self.initialize()


class _Detected(nn.Module):
    """A pyramid with torchvision's FPN on its strides 4 to 32."""

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.skip = len(pyramid.strides) - 4
        self.fpn = FeaturePyramidNetwork(list(pyramid.channels[self.skip :]), FPN_CHANNELS, LastLevelMaxPool())
        self.out_channels = FPN_CHANNELS

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.pyramid(images)[self.skip :]
        return self.fpn(OrderedDict((str(level), x) for level, x in enumerate(maps)))


def unet(name: str | nn.Module, classes: int = 1, in_chans: int = 1, *, seed: int = 0, spread: bool = False) -> UNet:
    """A U-Net on a backbone.

    Args:
        name: any that `usbackbones.build_backbone` takes, or a network that it made, which has its own channels.
        classes: channels of the logits; 1 is foreground against background.
        in_chans: 1 or 3.
        seed: of what is not pretrained.
        spread: see `usbackbones.segmentation.feature_maps.Pyramid`.

    Raises:
        BackboneError: if the backbone has no such maps.
        UnknownModel, WeightsError, RuntimeError: if it could not be loaded, see `build_backbone`.
    """
    network = name if isinstance(name, nn.Module) else build_backbone(name, in_chans, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(Pyramid(network, spread), classes)


def mask_rcnn(
    name: str | nn.Module,
    classes: int = 1,
    in_chans: int = 1,
    *,
    size: tuple[int, int] = (800, 1333),
    regions: int = 512,
    seed: int = 0,
    spread: bool = False,
) -> MaskRCNN:
    """A Mask R-CNN with a feature pyramid on a backbone; the images it takes are on the 0..1 scale.

    Args:
        name: as for `unet`.
        classes: kinds of things, without the background.
        in_chans: 1 or 3.
        size: images are scaled so that the short side is the first, unless the long one would pass the second.
        regions: of each image that the heads learn from in a step, and a quarter of those that they look at
            afterwards, of which there are 1000 at most; fewer are faster.
        seed: of what is not pretrained.
        spread: see `usbackbones.segmentation.feature_maps.Pyramid`.

    Raises:
        As `unet`.
    """
    network: Any = name if isinstance(name, nn.Module) else build_backbone(name, in_chans, seed=seed)
    cfg = network.pretrained_cfg
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MaskRCNN(
            _Detected(Pyramid(network, spread)),
            num_classes=classes + 1,
            min_size=size[0],
            max_size=size[1],
            box_batch_size_per_image=regions,
            rpn_post_nms_top_n_test=min(LOOKED_AT, 4 * regions),
            image_mean=list(cfg["mean"]),
            image_std=list(cfg["std"]),
        )


def pyramid_of(model: nn.Module) -> Pyramid:
    """The pyramid inside a model of `unet` or `mask_rcnn`."""
    return next(module for module in model.modules() if isinstance(module, Pyramid))


def freeze(model: nn.Module, blocks: int | Literal["all"] = 1) -> None:
    """Keep the first layers of the backbone as they are: a ResNet's stem and layer1, a ViT's patches and first block.

    Args:
        model: of `unet` or `mask_rcnn`.
        blocks: stages of a ResNet and the like, blocks of a ViT, beyond the stem, as timm groups them; 0 is the stem
            alone, "all" the whole backbone, of which the necks of a ViT's pyramid are no part.

    Raises:
        BackboneError: if there are not so many.
    """
    network = pyramid_of(model).network
    # Layer 0 is the stem; timm's own grouping knows every architecture.
    layer = group_parameters(network, network.group_matcher(coarse=True), reverse=True)
    last = max(layer.values())
    if blocks != "all" and blocks > last:
        raise BackboneError(f"frozen is {blocks}: this backbone has {last} stages or blocks; give fewer, or all")
    for key, parameter in network.named_parameters():
        if blocks == "all" or layer[key] <= blocks:
            parameter.requires_grad_(False)


def train_mode(model: nn.Module) -> None:
    """Put a model in train mode, but its frozen batch norms in eval mode: their statistics are frozen as well."""
    model.train()
    for module in pyramid_of(model).network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()
