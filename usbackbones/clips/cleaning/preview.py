"""A contact sheet of clips before and after cleaning, with what was found drawn over the first, as one PNG."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from usbackbones._files import write_png
from usbackbones.clips.cleaning.clean import Cleaned

_GROUND, _INK, _FAINT = (44, 44, 44), (255, 255, 255), (170, 170, 170)  # not black, so that a picture's border shows
_KEPT, _TEXT, _CALIPER = (90, 220, 90), (255, 80, 80), (255, 220, 60)
_TILE, _GAP, _CAPTION, _COLUMNS = 200, 12, 76, 3  # pixels: side of a picture, spaces, height of the words; clips a row
_LINES, _LETTERS = 5, 68  # of a caption


def preview_sheet(clips: Sequence[tuple[str, np.ndarray, Cleaned]], out: Path) -> None:
    """Write a sheet with two pictures of each clip: its middle frame as it came, and as the cleaning left it.

    Over the first, what was kept is outlined green, words are boxed red and calipers yellow. The words below are
    the cleaning's notes, or why the clip would be dropped.

    Args:
        clips: of each its name, its frames uint8 [T, H, W] as they came, and what `clean` made of them; the cleaned
            frames may be any of the T, as long as there are as many as in the first.
        out: the PNG to write; it appears whole or not at all.

    Raises:
        ValueError: if there is no clip, or frames before and after differ in number.
    """
    if not clips:
        raise ValueError("no clips: a preview needs at least one")
    columns = min(_COLUMNS, len(clips))
    cell = 2 * _TILE + _GAP, _TILE + _CAPTION
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (columns * (cell[0] + _GAP) + _GAP, rows * (cell[1] + _GAP) + _GAP), _GROUND)
    for place, (name, frames, cleaned) in enumerate(clips):
        if len(frames) != len(cleaned.frames):
            raise ValueError(f"{name}: {len(frames)} frames before the cleaning and {len(cleaned.frames)} after it")
        left = _GAP + place % columns * (cell[0] + _GAP)
        top = _GAP + place // columns * (cell[1] + _GAP)
        middle = len(frames) // 2
        sheet.paste(_before(frames[middle], cleaned), (left, top))
        if not cleaned.dropped:
            after = _tile(cleaned.frames[middle])[0]
            sheet.paste(Image.fromarray(after), (left + _TILE + _GAP // 2, top))
        _caption(sheet, left, top + _TILE + 2, name, cleaned)
    write_png(out, sheet)


def _tile(frame: np.ndarray) -> tuple[np.ndarray, float]:
    """A frame at the sheet's size, its aspect kept, and by how much it was scaled."""
    scale = _TILE / max(frame.shape)
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST), scale


def _before(frame: np.ndarray, cleaned: Cleaned) -> Image.Image:
    """The frame as it came, with what was found drawn over it."""
    tile, scale = _tile(frame)
    picture = np.repeat(tile[:, :, None], 3, axis=2)
    kept = np.zeros(frame.shape, np.uint8)
    top, left, bottom, right = cleaned.box
    kept[top:bottom, left:right] = 1 if cleaned.mask is None else cleaned.mask
    # One pixel of ground around it, so that an outline along the frame's edge is drawn too.
    small = np.pad(cv2.resize(kept, tile.shape[::-1], interpolation=cv2.INTER_NEAREST), 1)
    picture[(small > cv2.erode(small, np.ones((3, 3), np.uint8)))[1:-1, 1:-1]] = _KEPT
    for boxes, color in ((cleaned.text, _TEXT), (cleaned.calipers, _CALIPER)):
        for top, left, bottom, right in boxes:
            first, last = ((round(x * scale), round(y * scale)) for x, y in ((left, top), (right, bottom)))
            cv2.rectangle(picture, first, last, color, 1)
    return Image.fromarray(picture)


def _caption(sheet: Image.Image, left: int, top: int, name: str, cleaned: Cleaned) -> None:
    """The clip's name, and below it what the cleaning has to say."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    draw.text((left, top), name[-_LETTERS:], fill=_INK, font=font)
    told = f"dropped: {cleaned.dropped}" if cleaned.dropped else "; ".join(cleaned.notes)
    for number, line in enumerate(textwrap.wrap(told, _LETTERS)[: _LINES - 1], start=1):
        draw.text((left, top + 14 * number), line, fill=_TEXT if cleaned.dropped else _FAINT, font=font)
