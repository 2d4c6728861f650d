"""Writing: text and caliper marks burned into the pixels. It is found, not read: no character is recognised.

`clean` (clean.py) makes it black.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from usbackbones.clips.cleaning.letterbox import Box

_SIDE = 1024  # longest side at which writing is looked for; scanners write letters of 1 to 3 % of the screen's height
_STROKE = cv2.getStructuringElement(cv2.MORPH_RECT, (9, 9))  # a stroke of writing is thinner than this, in pixels
_CONTRAST = 60  # gray levels between ink and paper: legible, and beyond most speckle
# Letters from a least to a greatest height, and how far apart those of a word stand at most, all in pixels.
_SIZES = (5, 18, 9), (14, 40, 21)
_SPACE = 4  # heights of a letter between two words of a line, at most
_WIDER = 1.5  # a word of three letters is at least this many times wider than high
_STROKES, _DENSITY = 3, 0.9  # upright strokes of a word, and for every stretch of it as long as it is high
_CLEAR = 3.0  # contrast over the standard deviation of the paper around it
_MARKS = 7, 9, 11, 15  # sizes of caliper marks in pixels
_MATCH = 0.62  # correlation with a cross; a dotted line that meets it, or a digit beside it, takes some away
_ARM = 40  # gray levels of contrast that each of its four arms has, so that no line and no corner is a cross


@dataclass(frozen=True)
class Writing:
    """What is written on an image.

    Attributes:
        text: boxes of words; `lines_of` joins them.
        calipers: boxes of measuring crosses, upright or diagonal; two or more of a kind, or none.
        ink: bool [H, W], the strokes themselves.
    """

    text: tuple[Box, ...]
    calipers: tuple[Box, ...]
    ink: np.ndarray


def find_writing(image: np.ndarray, *, marks: np.ndarray | None = None, calipers: bool = True) -> Writing:
    """Find bright words on an image, and `calipers` too, which takes longer.

    Args:
        image: uint8 [H, W]; of a clip what stays lit for a while (`Extremes.held`), from which speckle is gone.
        marks: bool [H, W], the strokes if they are known (`still_marks`); by default what is thin and bright.
        calipers: whether to look for measuring crosses.
    """
    scale = min(1.0, _SIDE / max(image.shape))
    small = _resized(image, scale)
    strokes = cv2.morphologyEx(small, cv2.MORPH_TOPHAT, _STROKE)
    ink = strokes >= _CONTRAST if marks is None else _resized(marks.view(np.uint8) * np.uint8(255), scale) >= _CONTRAST
    words, crosses = _words(small, ink), _crosses(strokes) if calipers else []
    kept = np.zeros_like(ink)
    for top, left, bottom, right in words + crosses:
        kept[top:bottom, left:right] = ink[top:bottom, left:right]
    full = cv2.resize(kept.astype(np.uint8), image.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return Writing(_enlarged(words, scale, image.shape), _enlarged(crosses, scale, image.shape), full)


def lines_of(words: Iterable[Box]) -> tuple[Box, ...]:
    """Words joined to lines, so that one that was missed between two others is covered; sorted from above."""
    lines: list[Box] = []
    for word in sorted(words, key=lambda box: box[1]):
        joined = word
        for line in [line for line in lines if _same_line(line, word)]:
            lines.remove(line)
            joined = (
                min(joined[0], line[0]),
                min(joined[1], line[1]),
                max(joined[2], line[2]),
                max(joined[3], line[3]),
            )
        lines.append(joined)
    return tuple(sorted(lines))


def _same_line(line: Box, word: Box) -> bool:
    """Whether a word to the right is of about the line's height, level with it, and not far from its end."""
    heights = line[2] - line[0], word[2] - word[0]
    level = min(line[2], word[2]) - max(line[0], word[0])
    return level >= min(heights) / 2 and max(heights) <= 2 * min(heights) and word[1] - line[3] <= _SPACE * max(heights)


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _words(image: np.ndarray, ink: np.ndarray) -> list[Box]:
    """Boxes of rows of strokes that look like words, large letters before small ones; none lies within another."""
    found: list[Box] = []
    for least, most, gap in reversed(_SIZES):
        for box in _rows(image, ink, least, most, gap):
            if not any(b[0] <= box[0] and b[1] <= box[1] and b[2] >= box[2] and b[3] >= box[3] for b in found):
                found.append(box)
    return found


def _rows(image: np.ndarray, ink: np.ndarray, least: int, most: int, gap: int) -> list[Box]:
    """Words of letters from `least` to `most` pixels high that stand closer than `gap`."""
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    letters = (facts[:, cv2.CC_STAT_HEIGHT] >= least) & (facts[:, cv2.CC_STAT_HEIGHT] <= most)
    letters[0] = False  # the paper
    letters = letters[pieces]
    joined = cv2.morphologyEx(letters.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8))
    _, lines, facts, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    found = []
    for line, (left, top, width, height, _) in enumerate(facts[1:], start=1):
        if not least <= height <= most or width < _WIDER * height:
            continue
        box = slice(top, top + height), slice(left, left + width)
        own = letters[box] & (lines[box] == line)
        middle = own[height // 4 : height - height // 4].astype(np.int8)
        rises = np.median((np.diff(middle, axis=1, prepend=0) == 1).sum(1))
        if rises < max(_STROKES, _DENSITY * width / height):
            continue
        around = slice(max(top - 2, 0), top + height + 2), slice(max(left - 2, 0), left + width + 2)
        paper = image[around][~ink[around]].astype(float)
        if not len(paper) or np.percentile(image[box][own], 75) - np.median(paper) < _CLEAR * paper.std():
            continue
        found.append((int(top), int(left), int(top + height), int(left + width)))
    return found


def _crosses(strokes: np.ndarray) -> list[Box]:
    """Boxes of measuring crosses, of the kind and size of which there are the most, from strokes uint8 [H, W]."""
    best: list[Box] = []
    picture = np.minimum(strokes, 2 * _CONTRAST).astype(np.float32)
    for size in _MARKS:
        if min(strokes.shape) < size + 2:
            continue
        upright = np.zeros((size + 2, size + 2), np.float32)  # with paper around it
        upright[size // 2 + 1, 1:-1] = upright[1:-1, size // 2 + 1] = 1
        diagonal = np.zeros_like(upright)
        diagonal[1:-1, 1:-1] = np.maximum(np.eye(size), np.eye(size)[::-1])
        for cross in (upright, diagonal):
            arms = _arms(cross)
            match = cv2.matchTemplate(picture, cross, cv2.TM_CCOEFF_NORMED)
            peak = (match >= _MATCH) & (match >= cv2.dilate(match, np.ones((size, size), np.uint8)))
            found = [
                (int(y) + 1, int(x) + 1, int(y) + 1 + size, int(x) + 1 + size)
                for y, x in np.argwhere(peak)
                if all((picture[y : y + size + 2, x : x + size + 2] * arm).sum() >= arm.sum() * _ARM for arm in arms)
            ]
            if len(found) > max(1, len(best)):
                best = found
    return best


def _arms(cross: np.ndarray) -> list[np.ndarray]:
    """The four arms of a cross float32 [S, S], apart; a line has but two of them."""
    y, x = np.mgrid[: len(cross), : len(cross)] - len(cross) // 2
    if cross[1, 1]:  # a diagonal one
        y, x = y + x, y - x
    return [cross * (across == 0) * (along * side > 0) for across, along in ((x, y), (y, x)) for side in (-1, 1)]


def _enlarged(boxes: list[Box], scale: float, shape: tuple[int, ...]) -> tuple[Box, ...]:
    height, width = shape
    return tuple(
        (int(t / scale), int(le / scale), min(height, int(np.ceil(b / scale))), min(width, int(np.ceil(r / scale))))
        for t, le, b, r in boxes
    )
