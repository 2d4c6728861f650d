"""Volumes: arrays of voxels whose slices are the frames of a clip, as NIfTI, MetaImage and NumPy keep them.

Voxels have no range of their own, so this is the rule for gray. Bytes are taken as they are, and so is every other
type whose values lie within 0..255 (0..1 for floats, times 255). All else is stretched from the least to the greatest
value of the whole file, however much of it is asked for: a frame has the same gray whether it is read alone or with
all others. That takes a pass over the file before the first frame, but never more than a frame of memory.
"""

import math
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

from usbackbones.clips.formats.base import MAX_PIXELS, ClipError, Facts, Frames, Reading, Request, luma
from usbackbones.clips.formats.upright import upright, upright_spacing
from usbackbones.clips.formats.watch import Watch

_DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Volume:
    """Where the voxels are, and what they mean.

    Attributes:
        open: opens the file and stands at the first voxel.
        dtype: of one sample, with its byte order.
        shape: (frames, rows, columns); columns run fastest, then rows.
        channels: 1, or 3 for RGB, which then run fastest of all.
        slope: stored values are multiplied by it,
        intercept: and this is added.
        seconds: from frame to frame; None where the file does not tell.
        orientation: of the stored frames, as EXIF numbers it; 1 where they stand upright.
        axes: directions in space of its axes, as the file writes them; empty where it tells none.
    """

    open: Callable[[], AbstractContextManager[BinaryIO]]
    dtype: np.dtype
    shape: tuple[int, int, int]
    channels: int = 1
    slope: float = 1.0
    intercept: float = 0.0
    seconds: float | None = None
    orientation: int = 1
    axes: tuple[float, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether stored bytes are gray levels already."""
        return self.dtype == np.uint8 and self.slope == 1 and self.intercept == 0


def check_volume(request: Request, dtype: np.dtype, shape: tuple[int, ...], channels: int) -> tuple[int, int, int]:
    """(frames, rows, columns) of an array of shape (columns, rows, frames...), as the formats with headers have it.

    Raises:
        ClipError: for what is no clip: too few or too many axes, numbers that are no gray levels, senseless sizes.
    """
    if len(shape) < 2 or sum(size != 1 for size in shape[2:]) > 1 or min(shape) < 1:
        sizes = " x ".join(map(str, shape)) or "nothing"
        raise ClipError(f"{request.path}: an array of {sizes} is no clip; save one slice over time, or one volume")
    if dtype.kind not in "buif" or channels not in (1, 3) or (channels == 3 and dtype != np.uint8):
        raise ClipError(f"{request.path}: {channels} samples of type {dtype} are no gray levels; save them as uint8")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise ClipError(f"{request.path}: frames of {shape[0]} x {shape[1]} pixels cannot be; the header is damaged")
    return math.prod(shape[2:]), shape[1], shape[0]


def believed_spacing(row: float, column: float) -> tuple[float, float] | None:
    """(row, column) in mm if both are positive and finite, else None."""
    return (row, column) if all(math.isfinite(step) and step > 0 for step in (row, column)) else None


def read_volume(request: Request, volume: Volume, spacing_mm: tuple[float, float] | None = None) -> Reading:
    """The reading of a volume whose stored pixels are of a size; frames that are cut off are told in a warning.

    Raises:
        ClipError: with the first frame, if there is not a whole one.
    """
    facts = Facts(upright_spacing(spacing_mm, volume.orientation), axes=volume.axes)
    return Reading(_frames(request, volume, Watch(request, facts)), facts)


def _frames(request: Request, volume: Volume, watch: Watch) -> Frames:
    path, promised = request.path, volume.shape[0]
    low, high, holes = (0.0, 255.0, False) if volume.is_plain or request.stored else _range(volume)
    if low > high:
        raise ClipError(f"{path}: its data end before the first frame does, or hold no numbers; copy it again")
    if holes:
        request.warn(f"{path}: some values are no finite numbers; they were made black or white")
    there = 0
    with closing(_stored(volume)) as stored:
        for index, values in enumerate(stored):
            there += 1
            if index % request.stride == 0:
                if volume.channels == 3:
                    watch.look(values)
                shown = _scaled(values, volume) if request.stored else _gray(values, volume, low, high)
                yield upright(shown, volume.orientation), None if volume.seconds is None else index * volume.seconds
    if not there:
        raise ClipError(f"{path}: its data end before the first frame does; copy it again")
    if there < promised:
        request.warn(f"{path}: damaged or cut short, {there} frames read, {promised - there} lost")


def _stored(volume: Volume) -> Generator[np.ndarray, None, None]:
    """The stored values of each whole frame, [H, W] or [H, W, 3], until the file ends or is damaged."""
    frames, *size = volume.shape
    sizes = (*size, 3) if volume.channels == 3 else tuple(size)
    length = math.prod(sizes) * volume.dtype.itemsize
    try:
        with volume.open() as stream:
            for _ in range(frames):
                content = stream.read(length)
                if len(content) < length:
                    return
                yield np.frombuffer(content, volume.dtype).reshape(sizes)
    except _DAMAGE:
        return


def _range(volume: Volume) -> tuple[float, float, bool]:
    """The values that become black and white, by the rule above, and whether some are not finite."""
    low, high, holes = math.inf, -math.inf, False
    for stored in _stored(volume):
        values = _scaled(stored, volume)
        finite = np.isfinite(values)
        if finite.any():
            low, high = min(low, float(values[finite].min())), max(high, float(values[finite].max()))
        holes = holes or not finite.all()
    if low > high:  # nothing at all
        return low, high, holes
    if volume.dtype.kind in "bf" and low >= 0 and high <= 1:
        return 0.0, 1.0, holes
    return (0.0, 255.0, holes) if low >= 0 and high <= 255 else (low, high, holes)


def _scaled(stored: np.ndarray, volume: Volume) -> np.ndarray:
    return stored.astype(np.float64) * volume.slope + volume.intercept


def _gray(stored: np.ndarray, volume: Volume, low: float, high: float) -> np.ndarray:
    if volume.is_plain:
        return luma(Image.fromarray(stored)) if volume.channels == 3 else stored.copy()
    values = np.nan_to_num(_scaled(stored, volume), nan=low, posinf=high, neginf=low)
    shown = np.clip((values - low) / (high - low or 1), 0, 1) * 255
    return np.round(shown).astype(np.uint8)
