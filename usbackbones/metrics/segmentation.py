"""Segmentation metrics: overlap, surface distance, circumference, COCO precision, with intervals over groups.

Empty masks are defined, not left to a division: both empty is perfect agreement (Dice 1, IoU 1, distance 0); one of
the two empty is Dice 0, IoU 0, and the picture's diagonal as distance, the worst that there can be.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from usbackbones.metrics.resampling import Ids, draw_groups, with_interval

Spacing = tuple[float, float]
"""Height and width of a pixel, mm; (1, 1) leaves distances in pixels."""


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Twice the shared area over the sum of the areas of two masks, bool [H, W]."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else 1.0


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """The shared area over the joint area of two masks, bool [H, W]."""
    joint = int((predicted | truth).sum())
    return int((predicted & truth).sum()) / joint if joint else 1.0


def hd95(predicted: np.ndarray, truth: np.ndarray, spacing: Spacing = (1.0, 1.0)) -> float:
    """The greater of the two 95th percentiles of distances from one outline's pixels to the other outline.

    Masks are bool [H, W]; the distance is in the unit of `spacing`.
    """
    from scipy.ndimage import distance_transform_edt

    if not predicted.any() and not truth.any():
        return 0.0
    if not predicted.any() or not truth.any():
        return float(np.hypot(*(side * step for side, step in zip(truth.shape, spacing, strict=True))))
    first, second = _outline(predicted), _outline(truth)
    to_first = distance_transform_edt(~first, sampling=spacing)
    to_second = distance_transform_edt(~second, sampling=spacing)
    return float(max(np.percentile(to_second[first], 95), np.percentile(to_first[second], 95)))


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a neighbour, of four, outside it; beyond the picture is outside."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def ellipse_circumference(mask: np.ndarray, spacing: Spacing = (1.0, 1.0)) -> float:
    """The circumference of the ellipse with area and moments of the largest blob of a mask, bool [H, W], 0 if empty.

    Moments use every pixel of the filled head and not its jagged edge alone; the axes of an ellipse are four times
    the square roots of its variances. The perimeter is Ramanujan's second formula (1914), in the unit of `spacing`.
    """
    from scipy.ndimage import label

    blobs, count = label(mask)
    if not count:
        return 0.0
    sizes = np.bincount(blobs.ravel())[1:]
    rows, columns = np.nonzero(blobs == 1 + sizes.argmax())
    points = np.stack([rows * spacing[0], columns * spacing[1]])
    # A pixel is a square, not a point: its own variance is a twelfth of its side squared.
    covariance = np.cov(points, bias=True) + np.diag(np.square(spacing)) / 12
    short, long = 2 * np.sqrt(np.linalg.eigvalsh(covariance))
    return ramanujan(float(short), float(long))


def ramanujan(first: float, second: float) -> float:
    """The perimeter of an ellipse with these half axes, to a relative error below 1e-6 up to axes of 1 to 3."""
    squeezed = ((first - second) / (first + second)) ** 2
    return float(np.pi * (first + second) * (1 + 3 * squeezed / (10 + np.sqrt(4 - 3 * squeezed))))


def coco_ap(pictures: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, float]:
    """COCO's average precision of boxes and masks, IoU 0.5 to 0.95, by torchmetrics and pycocotools (extra `dense`).

    Args:
        pictures: what was found in each, boxes [K, 4] as x1 y1 x2 y2, masks bool [K, H, W], scores [K] and labels
            [K], with the truth: boxes, masks and labels. Masks are kept as run lengths.

    Returns:
        {"box_ap", "box_ap50", "mask_ap", "mask_ap50"}, 0..1; nan where there is nothing to find.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(iou_type=("bbox", "segm"))
    for found_there, truth in pictures:
        metric.update([found_there], [truth])
    found = metric.compute()
    return {
        f"{told}_ap{suffix}": value if value >= 0 else float("nan")  # COCO's word for it is -1
        for told, kind in (("box", "bbox"), ("mask", "segm"))
        for suffix in ("", "50")
        for value in [float(found[f"{kind}_map{'_50' if suffix else ''}"])]
    }


def mean_interval(values: np.ndarray, groups: Ids, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """The mean of values float [N] over images and its 95 % interval under resampling of whole groups [N]."""
    group, times = draw_groups(groups, resamples, seed)
    total, count = np.bincount(group, values, times.shape[1]), np.bincount(group, minlength=times.shape[1])
    return with_interval(float(values.mean()), (times @ total) / (times @ count))
