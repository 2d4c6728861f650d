"""Features that are no medicine: the container of a file, its geometry, its border, its gray levels, a thumbnail.

What they tell of the labels, a network can learn without looking at the tissue. Each is a null row beside a backbone.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

from usbackbones.clips.files import file_kind
from usbackbones.clips.read import Clip

Facts = dict[str, float | str]
"""What is known of a file: numbers, and words that are categories. What a file does not tell is left out."""
SIDE, RING = 64, 5
"""Pixels: frames are reduced to SIDE x SIDE by area; the border is the outer RING of them."""
THUMBNAIL, LEVELS = 8, 32
"""Side of the thumbnail; bins of the gray-level histogram."""
RARE = 2
"""A category that fewer files have counts as "other": it could only be learned by heart."""


def container(path: Path, clip: Clip) -> Facts:
    """Format, codec, rate and number of frames, bit rate and JPEG tables of a file or folder; no pixel value."""
    facts: Facts = {"frames": len(clip.frames)}
    if clip.seconds_per_frame:
        facts["rate"] = 1 / clip.seconds_per_frame
    kind = file_kind(path) if path.is_file() else None
    if kind is None:
        return facts | {"format": "folder"}
    facts["format"] = kind[1]
    if kind[0] == "video":
        return facts | _stream(path, kind[1])
    if kind[0] == "image":
        return facts | _still(path, kind[1])
    return facts


def _stream(path: Path, demuxer: str) -> Facts:
    """Codec, pixel format and bit rate of a video."""
    try:
        with av.open(f"file:{path}", format=demuxer, metadata_errors="replace") as opened:
            stream = next(iter(opened.streams.video), None)
            if stream is None or stream.codec_context is None:
                return {}
            facts: Facts = {"codec": stream.codec_context.name, "pixels": str(stream.codec_context.pix_fmt)}
            facts["sound"] = "sound" if opened.streams.audio else "silent"
            if opened.duration:
                facts["bit rate"] = path.stat().st_size * 8 * av.time_base / opened.duration
            return facts
    except av.error.FFmpegError:  # the frames were read: what could be told of them stands
        return {}


def _still(path: Path, form: str) -> Facts:
    """Mode of the pixels, and a name for the quantization tables of a JPEG."""
    try:
        with Image.open(path, formats=[form]) as image:
            facts: Facts = {"pixels": image.mode}
            if tables := getattr(image, "quantization", None):
                facts["tables"] = hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:8]
                facts["progressive"] = "progressive" if image.info.get("progressive") else "baseline"
            return facts
    except (OSError, SyntaxError, ValueError):  # the same
        return {}


def geometry(clip: Clip) -> Facts:
    """Height, width and aspect of the frame in pixels, and the size of a pixel in mm where the file tells it."""
    height, width = clip.frames.shape[1:]
    facts: Facts = {"height": height, "width": width, "aspect": width / height}
    if clip.spacing_mm:
        facts["row mm"], facts["column mm"] = clip.spacing_mm
    return facts


class Noticed:
    """Facts of clips that pass by while their frames are read for something else.

    Attributes:
        facts: of each item that was read, by its number, for "container" and "geometry".
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self.facts: dict[str, dict[int, Facts]] = {"container": {}, "geometry": {}}

    def seen(self, number: int, clip: Clip) -> None:
        """Note the facts of the clip of an item."""
        self.facts["container"][number] = container(self._paths[number], clip)
        self.facts["geometry"][number] = geometry(clip)


def encoded(facts: Sequence[Mapping[str, float | str]]) -> np.ndarray:
    """Facts of files as features float64 [N, D]: categories as indicators, numbers as themselves and as logarithms.

    A number that some files lack is filled with the median of the others, and an indicator says who lacks it. Labels
    play no part, so that nothing about them reaches the features.
    """
    columns: list[np.ndarray] = []
    for name in sorted({name for of in facts for name in of}):
        values = [of.get(name) for of in facts]
        if any(isinstance(value, str) for value in values):
            words = [str(value) if value is not None else "none" for value in values]
            counts = Counter(words)
            words = [word if counts[word] >= RARE else "other" for word in words]
            columns += [np.array([word == kind for word in words], float) for kind in sorted(set(words))]
            continue
        there = np.array([value is not None for value in values])
        numbers = np.array([float(value) if value is not None else np.nan for value in values])
        numbers[~there] = np.median(numbers[there])
        columns.append(numbers)
        if (numbers > 0).all():
            columns.append(np.log(numbers))
        if not there.all():
            columns.append(there.astype(float))
    varied = [column for column in columns if np.ptp(column) > 0]
    return np.stack(varied, axis=1) if varied else np.zeros((len(facts), 1))


def reduced(frame: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A frame uint8 [H, W] reduced by area to float32 [side, side], 0..255."""
    image = Image.fromarray(frame).convert("F").resize((side, side), Image.Resampling.BOX)
    return np.asarray(image, np.float32)


def border(small: np.ndarray, ring: int = RING) -> np.ndarray:
    """The pixels of `reduced` within `ring` of its edge, float32 [D]."""
    return small[_ring(len(small), ring)]


def inner(small: np.ndarray, ring: int = RING, seed: int = 0) -> np.ndarray:
    """As many random inner pixels as the border has: what any pixels of the image tell."""
    outside = _ring(len(small), ring)
    inside = np.flatnonzero(~outside)
    chosen = np.random.default_rng(seed).choice(inside, min(int(outside.sum()), len(inside)), replace=False)
    return small.ravel()[np.sort(chosen)]


def _ring(side: int, ring: int) -> np.ndarray:
    outside = np.ones((side, side), bool)
    outside[ring:-ring, ring:-ring] = False
    return outside


def histogram(frame: np.ndarray) -> np.ndarray:
    """Share of the pixels of a frame uint8 [H, W] in each of LEVELS bins of gray, float32 [LEVELS]."""
    return (np.bincount(frame.ravel() // (256 // LEVELS), minlength=LEVELS) / frame.size).astype(np.float32)


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """A frame uint8 [H, W] as THUMBNAIL x THUMBNAIL pixels, float32 [D]."""
    return reduced(frame, THUMBNAIL).ravel()
