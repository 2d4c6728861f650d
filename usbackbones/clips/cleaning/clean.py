"""Cleaning: what of a clip is ultrasound, and what the scanner's screen put around it and over it.

    cleaned = clean(frames, Cleaning())

Every step looks at the whole clip at once and is taken only where the clip itself shows it: an edge that is not seen
is not cut, and whatever was done or found stands in `Cleaned.notes`.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from usbackbones.clips.cleaning.extremes import Extremes, extremes_of
from usbackbones.clips.cleaning.letterbox import Box, content_box
from usbackbones.clips.cleaning.marks import still_marks
from usbackbones.clips.cleaning.sector import Sector, find_sector
from usbackbones.clips.cleaning.text import find_writing, lines_of

DARK = 16
"""Gray level: a frame with nothing above it is black; video black is 16 in limited range."""

_CHANGED = 8  # gray levels: a frame repeated by a lossy codec differs by less
_ALIVE = 0.005  # of the pixels: fewer that ever change, a clock's or a cursor's, and the clip is frozen
_LEGIBLE = 0.5  # of a word's contrast: with more than that a frame shows it
_EDGE = np.ones((5, 5), np.uint8)  # the blurred edge of a letter goes with it


@dataclass(frozen=True)
class Cleaning:
    """Which steps are taken; the defaults cut only what no frame seems to use.

    Attributes:
        drop_black: give black and plain clips a reason to be dropped.
        drop_frozen: give clips whose frames are all the same a reason to be dropped; a still is not frozen.
        letterbox: cut plain bars off the edges of the frame.
        crop: cut the frame to the sector, where its edges are seen.
        mask: black out what lies outside the sector: text, logos, color bars, ECG strips.
        report: look for burned-in text and calipers, and for marks that stand still over moving tissue.
        overlays: what to do with those that were found within the sector: "keep" them; "black" them out, lines of
            text as a whole; or "inpaint" them from their surroundings, which looks better but is invented. Needs
            `report`.
    """

    drop_black: bool = True
    drop_frozen: bool = True
    letterbox: bool = True
    crop: bool = True
    mask: bool = True
    report: bool = True
    overlays: Literal["keep", "black", "inpaint"] = "keep"


@dataclass(frozen=True)
class Cleaned:
    """A cleaned clip. Boxes are (top, left, bottom, right) in pixels of the frame as it came, bottom and right outside.

    Attributes:
        frames: uint8 [T, h, w]; the frames as they came, not copied, where nothing was changed.
        box: what was kept of the frame.
        mask: bool [h, w], true where the ultrasound is; None if nothing was masked.
        notes: what was done and what was found, for a person.
        dropped: why the clip should not be used, or "".
        text: boxes of burned-in lines of text. Names may be among them, and faint ones may be missed: look before a
            clip is shared.
        text_frames: numbers of the frames that show any of them.
        calipers: boxes of measuring crosses.
    """

    frames: np.ndarray
    box: Box
    mask: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    dropped: str = ""
    text: tuple[Box, ...] = ()
    text_frames: tuple[int, ...] = ()
    calipers: tuple[Box, ...] = ()


def clean(frames: np.ndarray, cleaning: Cleaning) -> Cleaned:
    """Clean a clip; a still is a clip of one frame.

    Args:
        frames: uint8 [T, H, W]; it is not changed.
        cleaning: which steps are taken.

    Returns:
        The cleaned clip, the same for the same input. A dropped clip has its frames as they came.

    Raises:
        ValueError: if `frames` is not uint8 [T, H, W] with at least one pixel, or `cleaning` contradicts itself.
    """
    if frames.ndim != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames of {frames.dtype} {list(frames.shape)}: cleaning takes uint8 [T, H, W], not empty")
    if cleaning.overlays != "keep" and not cleaning.report:
        raise ValueError(f"overlays={cleaning.overlays!r} needs report=True: what is not looked for cannot be removed")
    height, width = frames.shape[1:]
    whole = Cleaned(frames, (0, 0, height, width))
    lit = frames.reshape(len(frames), -1).max(1) > DARK
    # A black frame at a cut says nothing about the others.
    extremes = extremes_of(frames if lit.all() or not lit.any() else frames[lit])
    dropped = _unusable(frames, extremes, cleaning)
    if dropped:
        return replace(whole, dropped=dropped)
    notes = [] if lit.all() else [f"{(~lit).sum()} of {len(lit)} frames are black"]

    box = content_box(extremes.highest, extremes.lowest) if cleaning.letterbox else whole.box
    if box != whole.box:
        notes.append(
            f"letterbox: kept rows {box[0]} to {box[2]} and columns {box[1]} to {box[3]} of {height} x {width}"
        )
    sector, inside = Sector(), np.zeros((height, width), bool)
    inner = slice(box[0], box[2]), slice(box[1], box[3])
    if cleaning.crop or cleaning.mask:
        sector, reason = find_sector(extremes.highest[inner], extremes.lowest[inner])
        notes.append(f"not cropped: {reason}" if reason else f"{sector.kind}: edges seen {', '.join(sector.seen)}")
    inside[inner] = sector.mask(box[2] - box[0], box[3] - box[1])

    if cleaning.crop:
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    kept = slice(box[0], box[2]), slice(box[1], box[3])
    result = replace(whole, frames=frames[:, kept[0], kept[1]], box=box)
    mask = inside[kept]
    if cleaning.mask and not mask.all():
        notes.append(_masked(extremes, inside))
        result = replace(result, frames=result.frames * mask.view(np.uint8), mask=mask)
    if cleaning.report:
        result = _reported(frames, result, extremes, inside, notes, cleaning.overlays)
    return replace(result, notes=tuple(notes))


def _unusable(frames: np.ndarray, extremes: Extremes, cleaning: Cleaning) -> str:
    """Why a clip should be dropped, or ""."""
    lightest, darkest = int(extremes.highest.max()), int(extremes.lowest.min())
    if cleaning.drop_black and lightest <= DARK:
        return f"black: no pixel of {len(frames)} frames is above {lightest} of 255"
    if cleaning.drop_black and lightest - darkest <= DARK:
        return f"plain: all pixels of {len(frames)} frames lie between {darkest} and {lightest} of 255"
    changed = float((extremes.span > _CHANGED).mean())
    if cleaning.drop_frozen and len(frames) > 1 and changed < _ALIVE:
        return f"frozen: {changed:.2%} of the pixels change over {len(frames)} frames"
    return ""


def _masked(extremes: Extremes, inside: np.ndarray) -> str:
    """A note of what the mask takes away, in shares of the frame and of what is lit in it."""
    lit = extremes.highest > DARK
    share = (lit & ~inside).sum() / max(lit.sum(), 1)
    return f"masked {1 - inside.mean():.0%} of the frame, with {share:.1%} of what is lit"


def _reported(
    frames: np.ndarray,
    result: Cleaned,
    extremes: Extremes,
    inside: np.ndarray,
    notes: list[str],
    overlays: Literal["keep", "black", "inpaint"],
) -> Cleaned:
    """Look for writing and still marks, note them, and remove those within the sector if that is wanted."""
    marks = still_marks(extremes.highest, extremes.lowest) & inside
    writing = find_writing(extremes.held)
    looks = [writing, find_writing(extremes.lowest, marks=marks, calipers=False)]
    if not inside.all():
        # Outside the sector there is no speckle, so even what a single frame shows stands out.
        looks.append(find_writing(np.where(inside, 0, extremes.highest), calipers=False))
    text = lines_of(box for look in looks for box in look.text)
    ink = np.logical_or.reduce([look.ink for look in looks])
    shown = _showing(frames, text, ink)
    if text:
        notes.append(f"text at {len(text)} places in {len(shown)} of {len(frames)} frames: look for names")
    if writing.calipers:
        notes.append(f"{len(writing.calipers)} caliper marks")
    if marks.any():
        notes.append(f"marks stand still over the tissue: {marks.sum()} pixels")
    removed = cv2.dilate((ink | marks).astype(np.uint8), _EDGE) > 0
    if overlays == "black":
        for top, left, bottom, right in text:
            removed[top:bottom, left:right] = True
    top, left, bottom, right = result.box
    removed = (removed & inside)[top:bottom, left:right]
    result = replace(result, text=text, text_frames=shown, calipers=writing.calipers)
    if overlays == "keep" or not removed.any():
        return result
    notes.append(f"overlays removed ({overlays}): {removed.mean():.2%} of the frame")
    return replace(result, frames=_without(result.frames, removed, overlays))


def _showing(frames: np.ndarray, text: tuple[Box, ...], ink: np.ndarray) -> tuple[int, ...]:
    """Numbers of the frames in which any of the words stands out from its paper."""
    shown = np.zeros(len(frames), bool)
    for top, left, bottom, right in text:
        own = ink[top:bottom, left:right]
        if own.any() and not own.all():
            word = frames[:, top:bottom, left:right]
            contrast = word[:, own].mean(1) - word[:, ~own].mean(1)
            shown |= contrast >= _LEGIBLE * contrast.max()
    return tuple(int(frame) for frame in np.flatnonzero(shown))


def _without(frames: np.ndarray, removed: np.ndarray, overlays: str) -> np.ndarray:
    """Frames uint8 [T, h, w] with the pixels `removed` bool [h, w] black or filled in."""
    if overlays == "black":
        return frames * (~removed).view(np.uint8)
    filled = frames.copy()
    rows, columns = np.flatnonzero(removed.any(1)), np.flatnonzero(removed.any(0))
    # Inpainting looks only at the near surroundings.
    near = slice(max(rows[0] - 8, 0), rows[-1] + 9), slice(max(columns[0] - 8, 0), columns[-1] + 9)
    hole = removed[near].view(np.uint8)
    for frame in filled:
        frame[near] = cv2.inpaint(np.ascontiguousarray(frame[near]), hole, 3, cv2.INPAINT_TELEA)
    return filled
