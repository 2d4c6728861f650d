"""One clip -> the frames of it that a cache keeps."""

from dataclasses import dataclass

import cv2
import numpy as np

from training.data.clip_of_row import read_path
from usbackbones._evenly import evenly
from usbackbones.clips.cleaning.clean import Cleaning, clean
from usbackbones.clips.read import ClipError, iter_frames

HELD = 512
"""Frames of a clip that are held in memory at most. Of a longer one all frames go by twice, which was as fast as to
shrink each as it comes, and needs no more memory however long the clip is."""

LISTED = 100
"""Numbers of frames with writing that are kept of a clip."""


@dataclass(frozen=True)
class Picked:
    """Frames of a clip, evenly spaced from its first to its last.

    Attributes:
        frames: uint8 [H, W] each.
        seconds_per_frame: from one of them to the next; None where the file does not tell or there is but one.
        warnings: of the reader, one line each.
        found: how many frames the clip has.
    """

    frames: list[np.ndarray]
    seconds_per_frame: float | None
    warnings: tuple[str, ...]
    found: int


@dataclass(frozen=True)
class Decoded:
    """A clip as it is stored.

    Attributes:
        frames: uint8 [T, S, S].
        seconds_per_frame: as for `Picked`.
        notes: warnings of the reader, what was left out, and remarks of the cleaning, one line each.
        found: as for `Picked`.
        text_frames: numbers, from 0, of the stored frames in which the cleaning saw writing; at most `LISTED`.
    """

    frames: np.ndarray
    seconds_per_frame: float | None
    notes: tuple[str, ...]
    found: int
    text_frames: tuple[int, ...] = ()


def pick(path: str, most: int, held: int = HELD) -> Picked:
    """At most `most` frames of a clip.

    Raises:
        ClipError: if nothing can be read.
    """
    clip = read_path(path, held)
    warnings, total = list(clip.warnings), len(clip.frames)
    if total < held:
        frames = [clip.frames[number] for number in evenly(total, most)]
    else:
        total = sum(1 for _ in iter_frames(path, warn=warnings.append))
        wanted = set(evenly(total, most).tolist())
        again = iter_frames(path, warn=lambda line: None)  # each warning has come once
        frames = [frame for number, frame in enumerate(again) if number in wanted]
    seconds = clip.seconds_per_frame
    if seconds is not None:
        seconds = seconds * (total - 1) / (len(frames) - 1) if len(frames) > 1 else None
    return Picked(frames, seconds, tuple(dict.fromkeys(warnings)), total)


def decode(path: str, size: int, most: int, cleaning: Cleaning | None) -> Decoded:
    """Read a clip, keep at most `most` evenly spaced frames, clean them if wanted, squash each to size x size.

    Raises:
        ClipError: if nothing can be read, or the cleaning found nothing worth keeping.
    """
    picked = pick(path, most)
    frames, notes, text_frames = picked.frames, picked.warnings, tuple[int, ...]()
    if picked.found > len(frames):
        notes = (*notes, f"{len(frames)} of {picked.found} frames kept, evenly spaced: --max-frames {most}")
    if cleaning is not None:
        cleaned = clean(np.stack(frames), cleaning)
        if cleaned.dropped:
            raise ClipError(f"{path}: dropped by the cleaning, {cleaned.dropped}")
        frames, notes, text_frames = list(cleaned.frames), (*notes, *cleaned.notes), cleaned.text_frames[:LISTED]
    squashed = np.empty((len(frames), size, size), np.uint8)
    for frame, small in zip(frames, squashed, strict=True):
        cv2.resize(frame, (size, size), dst=small, interpolation=cv2.INTER_AREA)
    return Decoded(squashed, picked.seconds_per_frame, notes, picked.found, text_frames)
