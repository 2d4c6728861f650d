"""Losses of a segmenter and a detector, and the foreground that either of them predicts."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops import masks_to_boxes

SMALLEST = 2
"""Side in pixels below which a piece of a mask is no box that a detector can learn from."""


def loss_of(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    """The loss of a batch, in train mode.

    Args:
        model: of `usbackbones.segmentation.config.build`.
        images: float [N, C, H, W], as `usbackbones.transforms(model)` makes them.
        masks: bool [N, H, W], or of several classes uint8 [N, H, W], 0 for background.
    """
    if isinstance(model, MaskRCNN):
        return sum(model(list(images), [targets_of(mask) for mask in masks]).values(), images.new_zeros(()))
    logits = model(images).float()
    if logits.shape[1] > 1:
        return dice_and_cross_entropy_of_classes(logits, masks.long())
    return dice_and_cross_entropy(logits[:, 0], masks.float())


def dice_and_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy plus one minus the soft Dice of each image, logits and truth [N, H, W].

    One pixel is added above and below the fraction, so that an empty image has a finite best prediction: nothing.
    """
    probability = logits.sigmoid()
    shared = (probability * truth).sum((1, 2))
    total = probability.sum((1, 2)) + truth.sum((1, 2))
    soft_dice = (2 * shared + 1) / (total + 1)
    return F.binary_cross_entropy_with_logits(logits, truth) + (1 - soft_dice).mean()


def dice_and_cross_entropy_of_classes(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy plus one minus the soft Dice of each image and class, the background left out of the Dice.

    One pixel is added above and below each fraction, as in `dice_and_cross_entropy`.

    Args:
        logits: float [N, 1 + C, H, W], background first.
        truth: int [N, H, W], 0 for background.
    """
    probability = logits.softmax(1)[:, 1:]
    wanted = F.one_hot(truth, logits.shape[1]).movedim(3, 1)[:, 1:].to(probability.dtype)
    shared, total = (probability * wanted).sum((2, 3)), probability.sum((2, 3)) + wanted.sum((2, 3))
    return F.cross_entropy(logits, truth) + (1 - (2 * shared + 1) / (total + 1)).mean()


def targets_of(mask: Tensor) -> dict[str, Tensor]:
    """The pieces of a mask, bool [H, W], as a detector's targets: boxes [K, 4], labels [K] of 1, masks [K, H, W]."""
    from scipy.ndimage import label

    pieces, count = label(mask.cpu().numpy())
    masks = (
        torch.stack([torch.from_numpy(pieces == piece) for piece in range(1, count + 1)]) if count else mask[None][:0]
    )
    masks = masks.to(mask.device)
    boxes = masks_to_boxes(masks) if len(masks) else torch.zeros(0, 4, device=mask.device)
    large = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST).all(1)
    return {
        "boxes": boxes[large],
        "labels": torch.ones(int(large.sum()), dtype=torch.int64, device=mask.device),
        "masks": masks[large].to(torch.uint8),
    }


def network_input(model: Any, gray: Tensor) -> Tensor:
    """Frames uint8 [N, S, S] as a network takes them: gray on every channel, normalized, float [N, C, S, S]."""
    cfg = model.pretrained_cfg
    images = gray[:, None].float() / 255
    mean, std = (images.new_tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
    return (images.expand(-1, cfg["input_size"][0], -1, -1).contiguous() - mean) / std


def classes_of(model: nn.Module, images: Tensor) -> Tensor:
    """Probability of background and each class, float [N, 1 + C, H, W], in eval mode, of a U-Net of several classes."""
    return model(images).float().softmax(1)


def foreground(model: nn.Module, images: Tensor) -> Tensor:
    """Probability of foreground of each pixel, float [N, H, W], in eval mode: any class, or the surest detection.

    Images are float [N, C, H, W], as `usbackbones.transforms(model)` makes them.
    """
    if not isinstance(model, MaskRCNN):
        logits = model(images).float()
        return logits[:, 0].sigmoid() if logits.shape[1] == 1 else 1 - logits.softmax(1)[:, 0]
    heads: Any = model.roi_heads
    most, heads.detections_per_img = heads.detections_per_img, 1  # the masks of all others would be drawn for nothing
    try:
        found = model(list(images))
    finally:
        heads.detections_per_img = most
    nothing = images.new_zeros(images.shape[-2:])
    return torch.stack([each["masks"][0, 0] if len(each["masks"]) else nothing for each in found])


def detections(model: nn.Module, images: Tensor) -> list[dict[str, Tensor]]:
    """Detections of a Mask R-CNN in images float [N, C, H, W], 0..1, in eval mode.

    Of each image: boxes [K, 4], labels [K], scores [K], masks bool [K, H, W].
    """
    return [
        {key: value.cpu() for key, value in (found | {"masks": found["masks"][:, 0] > 0.5}).items()}
        for found in model(list(images))
    ]
