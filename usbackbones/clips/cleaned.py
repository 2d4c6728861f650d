"""Clean clips as networks see them with --clean: cut to the sector, what lies outside it, text and calipers black.

One setting for training and use, since a network that was tuned on clean frames is to meet clean ones. Needs OpenCV,
`pip install 'usbackbones[clean]'`.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usbackbones._evenly import evenly
from usbackbones._words import plural
from usbackbones.clips.formats.base import ClipError, Frames, Warn
from usbackbones.clips.read import holds_stills, timed_frames

if TYPE_CHECKING:
    from usbackbones.clips.cleaning.clean import Cleaning

VERSION = 1
"""Of what is done to a frame; a recorded one that differs is refused."""
PREVIEWED = 24
"""Clips on a preview."""


def why_not() -> str:
    """Why nothing can be cleaned here, with the remedy; empty where all is there."""
    return "" if find_spec("cv2") else "cleaning needs OpenCV: pip install 'usbackbones[clean]'"


def cleaned(frames: np.ndarray) -> np.ndarray:
    """The frames uint8 [T, h, w] of a clip uint8 [T, H, W], cleaned together; a clip in which no edge is seen stays."""
    from usbackbones.clips.cleaning.clean import clean

    return clean(frames, _settings()).frames


def cleaned_frames(path: Path, *, stride: int = 1, warn: Warn, names: list[str] | None = None) -> Frames:
    """As `clips.read.timed_frames`, but cleaned, which takes the whole clip into memory.

    Every still of a folder or zip is cleaned for itself; their sizes may differ.
    """
    every = list[str]()
    with closing(timed_frames(path, warn=warn, names=every, one_size=False)) as timed:
        if holds_stills(path):
            for number, (pixels, seconds) in enumerate(timed):
                if number % stride == 0:
                    if names is not None:
                        names.append(every[number])
                    yield cleaned(pixels[None])[0], seconds
            return
        frames, times = zip(*timed, strict=True)
    for pixels, seconds in zip(cleaned(np.stack(frames))[::stride], times[::stride], strict=True):
        if names is not None:
            names.append("")
        yield pixels, seconds


def _settings() -> "Cleaning":
    """Nothing is dropped: whoever gave a clip wants it."""
    from usbackbones.clips.cleaning.clean import Cleaning

    return Cleaning(drop_black=False, drop_frozen=False, overlays="black")


def record() -> dict[str, Any]:
    """What a run notes of its cleaning, for JSON."""
    return {"version": VERSION, **asdict(_settings())}


def preview(paths: Sequence[Path], sheet: Path, clips: int = PREVIEWED) -> int:
    """Write a PNG of at most `clips` clips, evenly chosen, before and after the cleaning; returns how many it shows.

    Raises:
        ClipError: if there is none, or not one could be read.
    """
    from usbackbones.clips.cleaning.clean import clean
    from usbackbones.clips.cleaning.preview import preview_sheet

    if not paths:
        raise ClipError("there are no clips to show")
    shown = []
    for number in evenly(len(paths), clips):
        try:
            every = [pixels for pixels, _ in timed_frames(paths[number], warn=lambda line: None, one_size=False)]
        except ClipError:
            continue
        frames = every[len(every) // 2][None] if holds_stills(paths[number]) else np.stack(every)
        found, middle = clean(frames, _settings()), len(frames) // 2
        one = slice(middle, middle + 1)
        shown.append((paths[number].name, frames[one].copy(), replace(found, frames=found.frames[one].copy())))
    if not shown:
        raise ClipError(f"none of {plural(min(clips, len(paths)), 'clip')} could be read: there is nothing to show")
    preview_sheet(shown, sheet)
    return len(shown)
