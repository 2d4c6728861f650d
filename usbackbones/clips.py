"""Clips: a video, an animated image, a still or a folder of stills -> gray frames uint8 [T, H, W].

What a file is, its first bytes say, never its name: an mp4 called `.avi` is read as the mp4 that it is. Gray means
luma (ITU-R BT.601) over the full range 0..255 for every kind, so a video and its frames saved as PNG agree to
within the codec's loss. Damage is told, not hidden: what can be read of a broken clip is returned with a
warning, and where nothing can be read a `ClipError` names the file and the remedy.
"""

import re
import struct
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image

Warn = Callable[[str], object]
Frames = Generator[tuple[np.ndarray, float | None], None, None]
"""Gray frames uint8 [H, W], each with its time in seconds where the file tells it."""
Kind = tuple[Literal["image", "video"], str]
"""Who reads a file, and the name of its format to Pillow or of its container to FFmpeg."""

_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (  # offset, the bytes found there, what they stand for
    (0, b"\x89PNG\r\n\x1a\n", ("image", "PNG")),
    (0, b"\xff\xd8\xff", ("image", "JPEG")),
    (0, b"GIF8", ("image", "GIF")),
    (0, b"BM", ("image", "BMP")),
    (0, b"II*\x00", ("image", "TIFF")),
    (0, b"MM\x00*", ("image", "TIFF")),
    (8, b"WEBP", ("image", "WEBP")),
    (8, b"AVI ", ("video", "avi")),
    (0, b"\x00\x00\x01\xba", ("video", "mpeg")),
    (0, b"\x00\x00\x01\xb3", ("video", "mpegvideo")),
    (0, b"\x1aE\xdf\xa3", ("video", "matroska")),
    (0, b"0&\xb2u\x8ef\xcf\x11", ("video", "asf")),
    (4, b"ftyp", ("video", "mov")),  # mp4 and mov; QuickTime's older files begin with any of the next six
    *((4, atom, ("video", "mov")) for atom in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
)
_SUFFIXES = re.compile(r"\.(png|jpe?g|bmp|tiff?|webp|gif|m[4o]v|mp4|avi|mpe?g|webm|mkv|wmv)", re.IGNORECASE)
# All that Pillow's decoders raise on damaged files; they have no common base.
_PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error),
    Image.DecompressionBombError,
)
_GIVE = "give an mp4, mov, avi, mpeg, webm or gif video, a PNG, JPEG, BMP, TIFF or WebP image, or a folder of images"


class ClipError(ValueError):
    """A clip of which nothing can be read; one line that names the path, the fault and the remedy."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip in memory.

    Attributes:
        frames: uint8 [T, H, W], gray, 0..255, T >= 1.
        seconds_per_frame: time from one returned frame to the next (median); None where the file does not tell.
        spacing_mm: (row, column) size of a pixel in millimetres; None where the file does not tell.
        source: the path as it was given.
        warnings: what was wrong with the file, one line each; empty for a sound one.
    """

    frames: np.ndarray
    seconds_per_frame: float | None
    spacing_mm: tuple[float, float] | None
    source: str
    warnings: tuple[str, ...]


def read_clip(path: Path | str, *, max_frames: int | None = None, stride: int = 1) -> Clip:
    """Read a clip into memory; `iter_frames` is the form for clips too long for that.

    Args:
        path: a video, a still (T = 1), a multi-page or animated image, or a folder of stills in natural order.
        max_frames: at most this many frames are returned, and the file is read no further; None for all.
        stride: every `stride`-th frame, or file of a folder, from the first on.

    Raises:
        ClipError: if no frame can be read, or the frames differ in size.
    """
    notes: list[str] = []
    with closing(_read(Path(path), max_frames, stride, notes.append)) as timed:
        frames, times = zip(*timed, strict=True)
    seconds = _interval(times, notes.append)
    return Clip(np.stack(frames), seconds, None, str(path), tuple(notes))


def iter_frames(
    path: Path | str, *, max_frames: int | None = None, stride: int = 1, warn: Warn = warnings.warn
) -> Iterator[np.ndarray]:
    """Yield the frames that `read_clip` returns one by one, uint8 [H, W], holding no more than one.

    `warn` gets each warning as one line. Errors come at the first frame, or where the size changes.
    """
    with closing(_read(Path(path), max_frames, stride, warn)) as timed:
        for pixels, _ in timed:
            yield pixels


def find_clips(path: Path | str) -> list[Path]:
    """The clips at a path, in natural order: a file is one, and so is a folder that holds stills.

    Below a folder every video is a clip of its own. A file whose name claims to be a clip is listed even if its
    content is not, so that reading it can report the fault; all other files are passed over.

    Raises:
        ClipError: if the path does not exist or is a folder without clips.
    """
    path = Path(path)
    clips = [path] if path.is_file() else list(_clips_below(path))
    if not clips:
        raise ClipError(f"{path}: a folder without clips; {_GIVE}")
    return clips


def _clips_below(folder: Path) -> Iterator[Path]:
    entries = _entries(folder)
    if any(map(_is_still, entries)):
        yield folder
    for entry in entries:
        if entry.is_dir():
            yield from _clips_below(entry)
        elif not _is_still(entry) and (_kind(entry) or _SUFFIXES.fullmatch(entry.suffix)):
            yield entry


def _read(path: Path, max_frames: int | None, stride: int, warn: Warn) -> Frames:
    """The chosen frames of any clip, checked to be of one size."""
    if stride < 1 or (max_frames is not None and max_frames < 1):
        raise ValueError(f"stride={stride}, max_frames={max_frames}: both must be at least 1")
    size: tuple[int, ...] | None = None
    with closing(_frames(path, stride, warn)) as frames:
        for pixels, seconds in islice(frames, max_frames):
            size = size or pixels.shape
            if pixels.shape != size:
                raise ClipError(
                    f"{path}: frames of different sizes, {size[1]}x{size[0]} and then "
                    f"{pixels.shape[1]}x{pixels.shape[0]} pixels; read the files one by one or bring them to one size"
                )
            yield pixels, seconds


def _frames(path: Path, stride: int, warn: Warn) -> Frames:
    """Every `stride`-th frame of any clip: the one place that knows which reader is for what."""
    if path.is_dir():
        return _folder_frames(path, stride, warn)
    if not path.exists():
        raise ClipError(f"{path}: no such file or folder; check the path")
    kind = _kind(path)
    if kind is None:
        raise ClipError(f"{path}: {_why_unknown(path)}; {_GIVE}")
    reader = {"image": _image_frames, "video": _video_frames}[kind[0]]
    return reader(path, kind[1], stride, warn)


def _kind(path: Path) -> Kind | None:
    """What the first bytes of a file stand for; None for all that is no clip or cannot be opened."""
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError:
        return None
    return next((kind for offset, found, kind in _SIGNATURES if head.startswith(found, offset)), None)


def _why_unknown(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return "neither a video nor an image" if stream.read(1) else "the file is empty"
    except OSError as error:
        return f"cannot be opened ({error.strerror})"


def _video_frames(path: Path, demuxer: str, stride: int, warn: Warn) -> Frames:
    """Decode a video with FFmpeg. Frames that the decoder knows to be incomplete are dropped and counted."""
    good = bad = missing = 0
    last: float | None = None
    reason = ""
    try:
        # "file:" keeps a colon in the name from being taken for a protocol.
        with av.open(f"file:{path}", format=demuxer, metadata_errors="replace") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context is None:
                raise ClipError(f"{path}: {'unknown codec' if stream else 'no video stream'} in it; {_GIVE}")
            # Threads gain nothing on frames of this size, and cost much where many processes read at once.
            stream.codec_context.thread_count = 1
            missing = stream.frames  # what the header promises; 0 where it does not say
            for packet in container.demux(stream):
                missing -= packet.size > 0
                try:
                    decoded = packet.decode()
                except av.error.InvalidDataError:
                    bad += 1
                    continue
                for frame in decoded:
                    if frame.is_corrupt:
                        bad += 1
                        continue
                    if good % stride == 0:
                        yield frame.to_ndarray(format="gray"), frame.time
                    good, last = good + 1, frame.time
            # Matroska and webm do not count their frames, but they state how long they last.
            rate = stream.average_rate if demuxer == "matroska" and len(container.streams) == 1 else None
            if rate and last is not None and container.duration:
                missing = round((container.duration / av.time_base - last) * rate) - 1
    except av.error.FFmpegError as error:
        reason = f" ({error.strerror})"
    if not good:
        raise ClipError(f"{path}: broken {demuxer} video, no frame can be decoded{reason}; copy or export it again")
    if bad or reason or missing > 0:
        warn(f"{path}: damaged or cut short, {good} frames read, {max(bad, missing)} lost{reason}")


def _image_frames(path: Path, format_name: str, stride: int, warn: Warn) -> Frames:
    """Decode a still, or every page of an animated GIF, PNG or WebP or of a TIFF stack, with Pillow."""
    good, seconds = 0, 0.0
    try:
        with Image.open(path, formats=[format_name]) as image:
            # The further pictures of a JPEG are a camera's thumbnails and depth maps, not frames.
            for page in range(1) if format_name == "JPEG" else count():
                try:
                    image.seek(page)
                except EOFError:  # Pillow's way to say that there was no further page
                    break
                pixels, duration = _gray(image, path), image.info.get("duration")
                if page % stride == 0:
                    yield pixels, seconds if duration else None
                good, seconds = good + 1, seconds + (duration or 0) / 1000
            if not good:
                raise ClipError(f"{path}: {format_name} image without a picture; copy or export it again")
    except ClipError:
        raise
    except _PILLOW_ERRORS as error:
        reason = " ".join(str(error).split())
        if not good:
            raise ClipError(f"{path}: broken {format_name} image ({reason}); copy or export it again") from error
        warn(f"{path}: damaged or cut short, {good} frames read ({reason})")


def _gray(image: Image.Image, path: Path) -> np.ndarray:
    """Luma uint8 [H, W]; 16-bit pixels are scaled 65535 -> 255, where Pillow's own conversion would clip them."""
    if image.mode.startswith("I;16"):
        return (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise ClipError(f"{path}: pixels of mode {image.mode} have no known range; save them with 8 or 16 bits")
    return np.array(image.convert("L"))


def _folder_frames(folder: Path, stride: int, warn: Warn) -> Frames:
    """The stills of a folder in natural order; whatever else lies there is named in a warning."""
    files = [entry for entry in _entries(folder) if entry.is_file()]
    stills = [file for file in files if _is_still(file)]
    others = [file.name for file in files if not _is_still(file)]
    read = 0
    for still in stills[::stride]:
        try:
            for pixels, _ in _frames(still, 1, warn):
                yield pixels, None
                read += 1
        except ClipError as error:
            warn(f"left out {error}")
    if not read:
        held = f"{len(stills)} broken ones" if stills else (_shortened(others) if others else "nothing")
        raise ClipError(f"{folder}: a folder without readable images, it holds {held}; {_GIVE}")
    if others:
        warn(f"{folder}: left out {len(others)} files that are not stills: {_shortened(others)}")


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, hidden files left out, in natural order: frame2 before frame10."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise ClipError(f"{folder}: cannot be listed ({error.strerror}); check the path and its rights") from error
    return sorted(entries, key=lambda entry: (_natural(entry.stem), entry.name))


def _natural(name: str) -> list[str | int]:
    """A sort key in which runs of digits count as numbers."""
    parts = re.split(r"([0-9]+)", name.casefold())  # every second part is a number
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def _is_still(path: Path) -> bool:
    """True for an image file by content, but not for a GIF, which counts as a video."""
    family, format_name = _kind(path) or ("", "")
    return family == "image" and format_name != "GIF"


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


def _shortened(names: list[str], show: int = 3) -> str:
    return ", ".join(names[:show]) + (f" and {len(names) - show} more" if len(names) > show else "")
