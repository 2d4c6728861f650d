"""One pass over the files: each is read once, and what the audit needs of it is kept at the size that it needs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from usbackbones.auditing import screens
from usbackbones.auditing.privacy import noticed
from usbackbones.clips.read import Clip
from usbackbones.data.frames import Frames
from usbackbones.data.item import Item
from usbackbones.features.shortcuts import Facts, container, geometry, histogram, reduced, thumbnail

PER_CLIP = 4
"""Frames of a clip that are kept for twins and for the backbone."""
LONGEST = 288
"""Side in pixels that no kept frame exceeds."""


@dataclass
class Seen:
    """What was seen of one file.

    Attributes:
        container, geometry, scanner: facts, see `usbackbones.features.shortcuts`.
        small: uint8 [64, 64], its middle frame reduced by area.
        levels: float32 [LEVELS], its gray levels.
        thumb: float32 [64], its thumbnail.
        screen: None where OpenCV is missing.
        warnings: damage, one line each.
        private: keys of `privacy.KINDS`.
        digest: SHA-256 of its bytes; "" for a folder.
    """

    container: Facts
    geometry: Facts
    scanner: Facts
    small: np.ndarray
    levels: np.ndarray
    thumb: np.ndarray
    screen: screens.Screen | None
    warnings: tuple[str, ...]
    private: tuple[str, ...]
    digest: str


@dataclass
class Looked:
    """All files after the pass.

    Attributes:
        items: those that could be read, in order.
        seen: of each of them.
        frames: a few of each item; `frames.item` numbers `items`.
        skipped: what could not be read, one line each.
        lost: the items that could not be read.
    """

    items: list[Item]
    seen: list[Seen]
    frames: Frames
    skipped: tuple[str, ...] = ()
    lost: list[Item] = field(default_factory=list)


def look(items: Sequence[Item], scratch: Path, progress: bool = True) -> Looked:
    """Read every item once.

    Args:
        items: from `usbackbones.data.dataset.read_items`.
        scratch: file that a few reduced frames of each are written to.
        progress: show a bar.

    Raises:
        DataError: if not one of them can be read.
    """
    seen: dict[int, Seen] = {}

    def note(number: int, clip: Clip) -> None:
        seen[number] = see(items[number].path, clip)

    frames = Frames(items, scratch, PER_CLIP, LONGEST, progress, note)
    kept = sorted(seen)
    frames.item = np.searchsorted(kept, frames.item)
    lost = [item for number, item in enumerate(items) if number not in seen]
    return Looked([items[n] for n in kept], [seen[n] for n in kept], frames, tuple(frames.skipped), lost)


def see(path: Path, clip: Clip) -> Seen:
    """What the audit needs of one clip."""
    middle = clip.frames[len(clip.frames) // 2]
    private, scanner = noticed(path)
    return Seen(
        container(path, clip),
        geometry(clip),
        scanner,
        reduced(middle).round().astype(np.uint8),
        histogram(middle),
        thumbnail(middle),
        screens.look_at(clip.frames) if screens.can_look() else None,
        clip.warnings,
        tuple(private),
        digest_of(path),
    )


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes; "" for a folder, and for a file that has vanished since."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
