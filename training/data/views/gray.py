"""A batch of gray images, each with parameters of its own, on any device; in the integers that OpenCV computes in."""

import torch
import torch.nn.functional as F
from torch import Tensor

_ONE = 2048  # of OpenCV's fixed-point weights


def resampled(frames: Tensor, boxes: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """A crop of each frame stretched to [size, size], `cv2.resize(..., INTER_AREA)`, and mirrored where asked.

    Args:
        frames: uint8 [F, H, W].
        boxes: int64 [F, 4], top, left, height, width.
        mirrored: bool [F].
        size: of the results, pixels.

    Returns:
        int32 [F, size, size], 0..255.
    """
    top, left, height, width = boxes.unbind(1)
    rows, columns = _axis(top, height, size), _axis(left, width, size)
    columns = [_flipped(part, mirrored) for part in columns]
    enlarged = _enlarged(frames, rows, columns)
    if min(frames.shape[1:]) < size or max(frames.shape[1:]) == size:
        return enlarged
    shrinks = (height >= size) & (width >= size)  # only there does OpenCV average the area
    area = _averaged(frames, boxes, mirrored, size)
    return torch.where(shrinks[:, None, None], area, enlarged)


def _axis(start: Tensor, length: Tensor, size: int) -> list[Tensor]:
    """For each of `size` pixels along an axis, two neighbours in the frame and their weights, all int64 [F, size]."""
    one = torch.ones_like(length[:, None], dtype=torch.float64)
    ratio = (size * one) / length[:, None]  # a number / tensor would be rounded twice, as a reciprocal and a product
    number = torch.arange(size, device=start.device, dtype=torch.float64)
    first = (number * (one / ratio)).floor()
    second = (number + 1 - (first + 1) * ratio).float()
    second = torch.where(second <= 0, 0, second - second.floor())
    first = first.clamp(max=length[:, None] - 1)
    last = torch.minimum(first + 1, length[:, None] - 1.0)
    begin = start[:, None]
    weights = [((1 - second) * _ONE).round().long(), (second * _ONE).round().long()]
    return [first.long() + begin, last.long() + begin, *weights]


def _enlarged(frames: Tensor, rows: list[Tensor], columns: list[Tensor]) -> Tensor:
    """Weighted means of two columns, then of two rows, with the bits that OpenCV drops in between."""
    height = frames.shape[1]
    left, right, at_left, at_right = (part[:, None] for part in columns)
    wide = frames.gather(2, left.expand(-1, height, -1)).int() * at_left.int()
    wide += frames.gather(2, right.expand(-1, height, -1)).int() * at_right.int()
    wide >>= 4
    upper, lower, at_upper, at_lower = (part[:, :, None] for part in rows)
    tall = wide.gather(1, upper.expand(-1, -1, wide.shape[2])) * at_upper.int() >> 16
    tall += wide.gather(1, lower.expand(-1, -1, wide.shape[2])) * at_lower.int() >> 16
    return tall + 2 >> 2


def _averaged(frames: Tensor, boxes: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """Means over the area that each pixel covers, added up in OpenCV's order, since halves are rounded to even."""
    top, left, height, width = boxes.unbind(1)
    across, down = _taps(left, width, frames.shape[2], size), _taps(top, height, frames.shape[1], size)
    whole = ((height % size == 0) & (width % size == 0))[:, None]  # summed up first there, and then divided
    wide = torch.zeros(*frames.shape[:2], size, device=frames.device)
    for pixel, covered, share in zip(*across, strict=True):
        picked = frames.gather(2, _flipped(pixel, mirrored)[:, None].expand(-1, frames.shape[1], -1))
        wide = wide + picked * _flipped(torch.where(whole, covered, share), mirrored)[:, None]
    tall = torch.zeros(len(frames), size, size, device=frames.device)
    for pixel, covered, share in zip(*down, strict=True):
        picked = wide.gather(1, pixel[:, :, None].expand(-1, -1, size))
        tall = tall + picked * torch.where(whole, covered, share)[:, :, None]
    cells = torch.where(whole[:, 0], (height // size) * (width // size), 1)
    tall = tall * (1 / cells.double()).float()[:, None, None]
    halved = (height == 2 * size) & (width == 2 * size)  # in integers, where a half is rounded up
    return torch.where(halved[:, None, None], (tall + 0.5).floor(), tall.round()).int()


def _flipped(columns: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored[:, None], columns.flip(1), columns)


def _taps(start: Tensor, length: Tensor, side: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """What each of `size` pixels along an axis covers, one tap after the other.

    Returns:
        pixels of the frame, int64 [T, F, size]; what is covered of each and its share of all that is, both float32.
    """
    one = torch.ones_like(length[:, None], dtype=torch.float64)
    scale = one / ((size * one) / length[:, None])
    begin = torch.arange(size, device=start.device, dtype=torch.float64) * scale
    end = begin + scale
    pixel = begin.floor() + torch.arange(-(-side // size) + 1, device=start.device)[:, None, None]
    covered = (torch.minimum(end, pixel + 1) - torch.maximum(begin, pixel)).clamp(min=0)
    covered = covered.where(pixel < length[:, None], 0)
    share = covered / torch.minimum(scale, length[:, None] - begin)
    pixel = torch.minimum(pixel, length[:, None] - one).long() + start[:, None]
    return pixel, covered.round().float(), share.float()


def blurred(views: Tensor, kernels: Tensor) -> Tensor:
    """`cv2.GaussianBlur` with a kernel for each view, mirrored at the borders.

    Args:
        views: int32 [B, S, S], 0..255.
        kernels: int32 [B, K] in 1/256.
    """
    half, size = kernels.shape[1] // 2, views.shape[1]
    padded = F.pad(views.float(), (half, half, half, half), mode="reflect").int()
    wide, tall = torch.zeros_like(padded[:, :, :size]), torch.zeros_like(views)
    for tap, weight in enumerate(kernels[:, :, None, None].unbind(1)):
        wide += padded[:, :, tap : tap + size] * weight
    for tap, weight in enumerate(kernels[:, :, None, None].unbind(1)):
        tall += wide[:, tap : tap + size] * weight
    return tall + (1 << 15) >> 16


def toned(views: Tensor, brightness: Tensor, contrast: Tensor, brightness_first: Tensor, gamma: Tensor) -> Tensor:
    """Each view through the curve of `training.data.views.random_numbers.Tone`, its mask aside.

    Args:
        views: int32 [F, S, S], 0..255.
        brightness: float64 [F], a factor.
        contrast: float64 [F], a factor on distances from the view's mean.
        brightness_first: float64 [F], 1 or 0.
        gamma: float64 [F], an exponent.

    Returns:
        uint8 [F, S, S].
    """
    first = brightness_first[:, None] > 0
    levels = torch.arange(256, device=views.device, dtype=torch.float64)
    bright = (brightness[:, None] * levels).clamp(0, 255)
    before = torch.where(first, bright, levels)
    index = views.flatten(1).long()
    mean = before.gather(1, index).mean(1, keepdim=True)
    harder = contrast[:, None] * before + (1 - contrast[:, None]) * mean
    harder = harder.clamp(0, 255)
    curve = torch.where(first, harder, (brightness[:, None] * harder).clamp(0, 255))
    curve = 255 * (curve / 255) ** gamma[:, None]
    return curve.round().to(torch.uint8).gather(1, index).view_as(views)
