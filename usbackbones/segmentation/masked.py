"""An image with its masks: its pixels, and the class of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from usbackbones.clips.read import Clip, read_clip
from usbackbones.clips.region import Box
from usbackbones.clips.stored import Stored, stored_frames
from usbackbones.data.item import DataError, Item
from usbackbones.data.near_duplicates import fingerprint, near_duplicates
from usbackbones.metrics.segmentation import Spacing
from usbackbones.segmentation.mask_values import BRIGHT, Meaning, values_of


@dataclass(frozen=True)
class Masked(Item):
    """An image with its masks; its label is the folder it is in, where that tells a class, else empty.

    Attributes:
        masks: files whose union is the truth; none means that nothing is to be found.
        spacing: height and width of a pixel in mm, as a table tells it.
        meaning: of the values in the masks.
        frame: number of the frame of `path` and of its masks that this is.
        frames: how many `path` has.
        box: region of the screen that the image is, where the masks are of the whole screen.
        resize: masks of another size are brought to the image's by nearest neighbors.
    """

    masks: tuple[Path, ...] = ()
    spacing: Spacing | None = None
    meaning: Meaning = BRIGHT
    frame: int = 0
    frames: int = 1
    box: Box | None = None
    resize: bool = False

    def files(self) -> tuple[Path, ...]:
        """The image and its masks."""
        return (self.path, *self.masks)

    @property
    def name(self) -> str:
        """The file's name, with the number of the frame where there are several."""
        return self.path.name if self.frames == 1 else f"{self.path.name} frame {self.frame}"


def copies_of(items: Sequence[Masked]) -> list[tuple[int, int]]:
    """The pairs of items of different groups that are near-duplicates, closest first."""
    prints = np.concatenate([fingerprint(frame_of(item)[None]) for item in items])
    pairs = near_duplicates(prints, [item.group for item in items], progress=len(items) > 2000)
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def frame_of(item: Masked) -> np.ndarray:
    """The image, gray uint8 [H, W]."""
    return clip_of(item.path).frames[item.frame]


def spacing_of(item: Masked) -> Spacing | None:
    """Height and width of a pixel in mm, as the table or else the file tells; None where neither does."""
    return item.spacing or clip_of(item.path).spacing_mm


def mask_of(item: Masked, shape: tuple[int, int]) -> np.ndarray:
    """The union of the masks and classes, bool [H, W] of the image's shape; raises as `labels_of` does."""
    return labels_of(item, shape) > 0


def truth_of(item: Masked, shape: tuple[int, int]) -> np.ndarray:
    """The truth of an image: bool [H, W] of one class, uint8 [H, W] of several; raises as `labels_of` does."""
    return labels_of(item, shape) if len(item.meaning.names) > 1 else mask_of(item, shape)


def labels_of(item: Masked, shape: tuple[int, int]) -> np.ndarray:
    """The class of each pixel, uint8 [H, W] of the image's shape, 0 for background.

    Raises:
        DataError: if a mask has another shape than its image, or two masks give one pixel different classes.
    """
    union = np.zeros(shape, np.uint8)
    for file in item.masks:
        labels = item.meaning.labels(values_of(mask_frames(file)[item.frame], item.meaning.alpha))
        if labels.shape != shape and item.box:
            top, left, bottom, right = item.box
            labels = labels[top:bottom, left:right]
        if labels.shape != shape and item.resize:
            labels = np.array(Image.fromarray(labels).resize(shape[::-1], Image.Resampling.NEAREST))
        if labels.shape != shape:
            raise DataError(f"{file} is {labels.shape}, its image {item.name} is {shape}: make them of one size")
        if (clash := (union > 0) & (labels > 0) & (union != labels)).any():
            raise DataError(f"{file}: {clash.sum()} pixels have another class in another mask of {item.name}")
        union = np.maximum(union, labels)
    return union


def clip_of(path: Path) -> Clip:
    """The clip of a path; the last one is kept, since the frames of a stack follow one another."""
    return _clip(path, path.stat().st_mtime_ns)


def mask_frames(path: Path) -> tuple[Stored, ...]:
    """The frames of a mask as they are stored."""
    return _stored(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _clip(path: Path, _: int) -> Clip:
    return read_clip(path)


@lru_cache(maxsize=4)
def _stored(path: Path, _: int) -> tuple[Stored, ...]:
    return tuple(stored_frames(path))
