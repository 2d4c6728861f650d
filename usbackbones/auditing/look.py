"""One pass over the files: each is read once, and what the audit needs of it is kept at the size that it needs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from usbackbones._evenly import evenly
from usbackbones.auditing import screens
from usbackbones.auditing.privacy import noticed
from usbackbones.clips.cleaned import cleaned
from usbackbones.clips.read import Clip
from usbackbones.data.frames import FrameFile, Frames
from usbackbones.data.item import Item
from usbackbones.features.shortcuts import Facts, container, geometry, histogram, reduced, thumbnail

PER_CLIP = 4
"""Frames of a clip that are kept for twins and for the backbone."""
LONGEST = 288
"""Side in pixels that no kept frame exceeds."""


@dataclass
class View:
    """A frame at the sizes that the cheap rows need.

    Attributes:
        small: uint8 [64, 64], reduced by area.
        levels: float32 [LEVELS], gray levels.
        thumb: float32 [64], thumbnail.
    """

    small: np.ndarray
    levels: np.ndarray
    thumb: np.ndarray


@dataclass
class Seen:
    """What was seen of one file.

    Attributes:
        container, geometry, scanner: facts, see `usbackbones.features.shortcuts`.
        plain: its middle frame as it came.
        clean: the same after cleaning; None where OpenCV is missing.
        screen: None where OpenCV is missing.
        warnings: damage, one line each.
        private: keys of `privacy.KINDS`.
        known: headers and tags could be looked at.
        digest: SHA-256 of its bytes; "" for a folder.
    """

    container: Facts
    geometry: Facts
    scanner: Facts
    plain: View
    clean: View | None
    screen: screens.Screen | None
    warnings: tuple[str, ...]
    private: tuple[str, ...]
    known: bool
    digest: str


@dataclass
class Looked:
    """All files after the pass.

    Attributes:
        items: those that could be read, in order.
        seen: of each of them.
        frames: a few of each item; `frames.item` numbers `items`.
        clean: the frames that cleaning changes, after it; None where OpenCV is missing.
        changed: bool [M], which of `frames` those are.
        skipped: what could not be read, one line each.
        lost: the items that could not be read.
    """

    items: list[Item]
    seen: list[Seen]
    frames: Frames
    clean: FrameFile | None
    changed: np.ndarray
    skipped: tuple[str, ...] = ()
    lost: list[Item] = field(default_factory=list)


def look(items: Sequence[Item], root: Path, scratch: Path, progress: bool = True) -> Looked:
    """Read every item once.

    Args:
        items: from `usbackbones.data.dataset.read_items`.
        root: folder of the data; names of folders below it are looked at as those of files are.
        scratch: folder that a few reduced frames of each are written to.
        progress: show a bar.

    Raises:
        DataError: if not one of them can be read.
    """
    seen: dict[int, Seen] = {}
    clean = FrameFile(scratch / "clean.u8", LONGEST) if screens.can_look() else None
    changed: list[bool] = []

    def note(number: int, clip: Clip) -> None:
        after = None if clean is None else cleaned(clip.frames)
        seen[number] = see(items[number].path, root, clip, after)
        if clean is not None and after is not None:
            for place in evenly(len(after), PER_CLIP):
                changed.append(not np.array_equal(after[place], clip.frames[place]))
                if changed[-1]:
                    clean.add(after[place])

    frames = Frames(items, scratch / "frames.u8", PER_CLIP, LONGEST, progress, note)
    if clean is not None:
        clean.close()
    kept = sorted(seen)
    frames.item = np.searchsorted(kept, frames.item)
    lost = [item for number, item in enumerate(items) if number not in seen]
    return Looked(
        [items[n] for n in kept], [seen[n] for n in kept], frames, clean, np.array(changed), tuple(frames.skipped), lost
    )


def view_of(frame: np.ndarray) -> View:
    """A frame uint8 [H, W] at the sizes that the cheap rows need."""
    return View(reduced(frame).round().astype(np.uint8), histogram(frame), thumbnail(frame))


def see(path: Path, root: Path, clip: Clip, after: np.ndarray | None) -> Seen:
    """What the audit needs of one clip, whose frames after cleaning are uint8 [T, h, w] if it was cleaned."""
    middle = len(clip.frames) // 2
    private, scanner, known = noticed(path, root)
    return Seen(
        container(path, clip),
        geometry(clip),
        scanner,
        view_of(clip.frames[middle]),
        None if after is None else view_of(after[middle]),
        screens.look_at(clip.frames) if screens.can_look() else None,
        clip.warnings,
        tuple(private),
        known,
        digest_of(path),
    )


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes; "" for a folder, and for a file that has vanished since."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
