"""Clips: DICOM, a video, an image, a volume or a folder or zip of stills -> gray frames uint8 [T, H, W].

What a file is, its first bytes say, never its name: an mp4 called `.avi` is read as the mp4 that it is. Gray means
luma (ITU-R BT.601) over the full range 0..255 for every kind, so a video and its frames saved as PNG agree to
within the codec's loss. Damage is told, not hidden: what can be read of a broken clip is returned with a
warning, and where nothing can be read a `ClipError` names the file and the remedy.
"""

import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from usbackbones.clips.dicom.read import open_dicom
from usbackbones.clips.formats.arrays import open_array
from usbackbones.clips.formats.base import GIVE, ClipError, Frames, Reading, Request, Warn
from usbackbones.clips.formats.kinds import file_kind, why_unknown
from usbackbones.clips.formats.metaimage import open_metaimage
from usbackbones.clips.formats.nifti import open_nifti
from usbackbones.clips.formats.stills import open_folder, open_image
from usbackbones.clips.formats.video import open_video
from usbackbones.clips.formats.zipped import open_zip, zip_holds

__all__ = ["Clip", "ClipError", "iter_frames", "read_clip"]

_READERS = {
    "dicom": open_dicom,
    "image": open_image,
    "metaimage": open_metaimage,
    "nifti": open_nifti,
    "numpy": open_array,
    "video": open_video,
}


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip in memory.

    Attributes:
        frames: uint8 [T, H, W], gray, 0..255, T >= 1.
        seconds_per_frame: time from one returned frame to the next (median); None where the file does not tell.
        spacing_mm: (row, column) size of a pixel in millimetres; None where the file does not tell.
        source: the path as it was given.
        warnings: what was wrong with the file, one line each; empty for a sound one.
        patient: pseudonym of whose it is, 16 hex digits, see `usbackbones.clips.dicom.identity`; only DICOM tells.
        study: pseudonym of the examination, likewise.
        id_source: names of the header's elements that the two were made of; None where there was none.
        color: whether it holds color Doppler, by a DICOM header or by vivid pixels in the frames returned. Of other
            files than DICOM the whole screen is looked at, vivid buttons and annotations with it.
        names: of the file that each frame was read from, in a folder or zip of stills; "" for frames of other clips.
    """

    frames: np.ndarray
    seconds_per_frame: float | None
    spacing_mm: tuple[float, float] | None
    source: str
    warnings: tuple[str, ...]
    patient: str | None = None
    study: str | None = None
    id_source: str | None = None
    color: bool = False
    names: tuple[str, ...] = ()


def read_clip(
    path: Path | str,
    *,
    max_frames: int | None = None,
    stride: int = 1,
    crop: bool = True,
    salt: str | None = None,
) -> Clip:
    """Read a clip into memory; `iter_frames` is the form for clips too long for that.

    Args:
        path: a DICOM file, a video, a still (T = 1), a multi-page or animated image, a NIfTI, MetaImage or NumPy
            volume whose slices are the frames, or a folder or zip of stills in natural order.
        max_frames: at most this many frames are returned, and the file is read no further; None for all.
        stride: every `stride`-th frame, or file of a folder, from the first on.
        crop: cut to the B-mode region where a DICOM header names one; False for the whole screen, on which masks are
            drawn: an image and its mask are then of one size, and may be cut alike afterwards.
        salt: what the pseudonyms are made with; None for $USBACKBONES_SALT or the user's own.

    Raises:
        ClipError: if no frame can be read, the frames differ in size, or the salt is too short.
        ValueError: if `max_frames` or `stride` cannot be used.
    """
    notes, names = list[str](), list[str]()
    request = Request(Path(path), stride, notes.append, crop, identify=True, salt=salt)
    reading = _open(request, max_frames)
    with closing(_named(request, max_frames, reading, names)) as timed:
        frames, times = zip(*timed, strict=True)
    seconds, facts = _interval(times, notes.append), reading.facts
    return Clip(
        np.stack(frames),
        seconds,
        facts.spacing_mm,
        str(path),
        tuple(notes),
        facts.patient,
        facts.study,
        facts.id_source,
        facts.color,
        tuple(names),
    )


def iter_frames(
    path: Path | str,
    *,
    max_frames: int | None = None,
    stride: int = 1,
    crop: bool = True,
    warn: Warn = warnings.warn,
) -> Iterator[np.ndarray]:
    """Yield the frames that `read_clip` returns one by one, uint8 [H, W], holding no more than one.

    `warn` gets each warning as one line. Errors come at the first frame, or where the size changes.
    """
    for pixels, _ in timed_frames(path, max_frames=max_frames, stride=stride, crop=crop, warn=warn):
        yield pixels


def timed_frames(
    path: Path | str,
    *,
    max_frames: int | None = None,
    stride: int = 1,
    crop: bool = True,
    warn: Warn = warnings.warn,
    names: list[str] | None = None,
    one_size: bool = True,
) -> Frames:
    """As `iter_frames`, each frame with its time in seconds from the first, None where the file does not tell.

    `names` gets the name of each frame, as `Clip.names` has it, before the frame is yielded. With `one_size` False the
    stills of a folder or zip may differ in size.
    """
    request = Request(Path(path), stride, warn, crop)
    reading = _open(request, max_frames)
    free = not one_size and holds_stills(request.path)
    with closing(_named(request, max_frames, reading, [] if names is None else names, free)) as timed:
        yield from timed


def holds_stills(path: Path | str) -> bool:
    """Whether the frames of a clip are files of their own, in a folder or a zip."""
    path = Path(path)
    kind = None if path.is_dir() else file_kind(path)
    return path.is_dir() or (kind is not None and kind[0] == "zip" and zip_holds(path) != "arrays")


def _open(request: Request, max_frames: int | None) -> Reading:
    """Open any clip: the one place that knows which reader is for what."""
    path, stride = request.path, request.stride
    if stride < 1 or (max_frames is not None and max_frames < 1):
        raise ValueError(f"stride={stride}, max_frames={max_frames}: both must be at least 1")
    if path.is_dir():
        return open_folder(request)
    if not path.exists():
        raise ClipError(f"{path}: no such file or folder; check the path")
    kind = file_kind(path)
    if kind is None:
        raise ClipError(f"{path}: {why_unknown(path)}; {GIVE}")
    if kind[0] == "zip":
        return open_array(request, "npz") if zip_holds(path) == "arrays" else open_zip(request)
    return _READERS[kind[0]](request, kind[1])


def _named(request: Request, max_frames: int | None, reading: Reading, names: list[str], free: bool = False) -> Frames:
    """The wanted frames; the name of each goes into `names`."""
    with closing(_checked(request, max_frames, reading.frames, free)) as timed:
        for frame in timed:
            names.append(reading.facts.name)
            yield frame


def _checked(request: Request, max_frames: int | None, frames: Frames, free: bool) -> Frames:
    """The wanted frames, checked to be of one size unless they are free to differ."""
    size: tuple[int, ...] | None = None
    with closing(frames):
        for pixels, seconds in islice(frames, max_frames):
            size = size or pixels.shape
            if pixels.shape != size and not free:
                raise ClipError(
                    f"{request.path}: frames of different sizes, {size[1]}x{size[0]} and then "
                    f"{pixels.shape[1]}x{pixels.shape[0]} pixels; read the files one by one or bring them to one size"
                )
            yield pixels, seconds


def _interval(times: tuple[float | None, ...], warn: Warn) -> float | None:
    """The median time between frames in seconds; None for a single frame or without a clock."""
    known = np.array([time for time in times if time is not None])
    steps = np.diff(known)
    if len(known) < len(times) or not len(steps) or np.median(steps) <= 0:
        return None
    middle = float(np.median(steps))
    if steps.max() > 1.5 * middle or steps.min() < 0.5 * middle:
        warn(f"uneven frame times: {steps.min():.4f} to {steps.max():.4f} s, most often {middle:.4f} s")
    return middle
