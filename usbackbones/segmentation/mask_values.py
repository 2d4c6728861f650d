"""The values of the masks of a data set, and which of them are labels.

A value is a number (a gray level, a label, an index of a palette) or a color, which is coded as `COLOR` plus RGB. Gray
levels between two values are none where they lie along edges, as scaling and JPEG leave them; a value that fills areas
is a label, and so is one that lies between no two others.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from usbackbones.clips.stored import Palette, Stored
from usbackbones.data.item import DataError

COLOR = 1 << 40
_TINT = 16  # levels between R, G and B below which a picture is gray
_NEAR = 16  # levels that JPEG moves an even area by
_MANY = 16  # values of a frame above which it has been through JPEG, whatever the file is now
_RANGE = 64  # levels between black and white below which values in between are labels
_OFF = 96  # distance of RGB to which JPEG moves a color along an edge away from the two that meet there
_FLAT = 0.2  # share of a value's pixels inside an even area from which on it is a label
_APART = 0.5  # share of a value's pixels that are no step between darker and brighter neighbors, likewise


@dataclass(frozen=True)
class Meaning:
    """What the values of all masks of a set mean; a pixel counts as the nearest of the levels.

    Attributes:
        levels: values, ascending.
        classes: of each level its class, 0 for background.
        names: of the classes from 1 on.
        alpha: masks with transparency are read from it.
    """

    levels: tuple[int, ...] = (0, 255)
    classes: tuple[int, ...] = (0, 1)
    names: tuple[str, ...] = ("foreground",)
    alpha: bool = False

    def labels(self, values: np.ndarray) -> np.ndarray:
        """The class of each pixel, uint8 [H, W], of values int [H, W]."""
        found, place = np.unique(values, return_inverse=True)
        apart = np.square(_rgb(found)[:, None] - _rgb(np.array(self.levels))[None]).sum(-1)
        # Of two levels that are as near the lower one counts.
        return np.array(self.classes, np.uint8)[apart.argmin(1)][place].reshape(values.shape)


BRIGHT = Meaning()
"""Of masks from black to white."""


def values_of(stored: Stored, alpha: bool = False) -> np.ndarray:
    """The values of a frame of a mask, int64 [H, W]; with `alpha` its transparency is the mask.

    Raises:
        DataError: if it holds fractions.
    """
    pixels = stored.values
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        if alpha or only_alpha(stored):
            return pixels[:, :, 3].astype(np.int64)
        pixels = _over_black(pixels)
    if pixels.ndim == 2:
        whole = np.nan_to_num(pixels, nan=0, posinf=0, neginf=0).astype(np.int64)
        if (whole != pixels).any():
            raise DataError(f"a value is {pixels[whole != pixels][0]:g}: save labels as whole numbers")
        return whole
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    spread = np.ptp(pixels.astype(np.int64), axis=2)
    coded = np.where(spread == 0, red, COLOR + (red << 16) + (green << 8) + blue)
    # A few dark colors, as 1, 2 and 3 in red alone, are labels and no tint, which luma would make one.
    if spread.max(initial=0) <= _TINT and (stored.lossy or not spread.any() or len(np.unique(coded)) > _MANY):
        return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # as Pillow's luma
    return coded


def only_alpha(stored: Stored) -> bool:
    """Whether a frame shows nothing but by its transparency."""
    pixels = stored.values
    if pixels.ndim != 3 or pixels.shape[2] != 4 or not np.ptp(pixels[:, :, 3]):
        return False
    colors, shown = pixels[:, :, :3], _over_black(pixels)
    return any(not np.ptp(what.reshape(-1, 3), axis=0).any() for what in (colors, shown))


def _over_black(pixels: np.ndarray) -> np.ndarray:
    return (pixels[:, :, :3].astype(np.uint16) * pixels[:, :, 3:] // 255).astype(np.uint8)


@dataclass
class Seen:
    """The values of all masks that were looked at.

    Attributes:
        pixels: of each value.
        exact: values of frames whose values are labels, all of them or those that fill areas.
        even: pixels of the values that fill areas where JPEG has been.
        palette: the color of each number that is used.
        alpha: whether a mask shows nothing but by its transparency.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    exact: set[int] = field(default_factory=set)
    even: Counter[int] = field(default_factory=Counter)
    palette: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    alpha: bool = False

    def look(self, values: np.ndarray, lossy: bool, palette: Palette = ()) -> None:
        """Count the values int [H, W] of a frame.

        Raises:
            DataError: if a number has another color than before.
        """
        found, place, count = np.unique(values, return_inverse=True, return_counts=True)
        self.pixels.update(dict(zip(found.tolist(), count.tolist(), strict=True)))
        for value in found[: len(palette)].tolist():
            if self.palette.setdefault(value, palette[value]) != palette[value]:
                raise DataError(f"its palette has another color for {value} than those before it: save masks as RGB")
        gray = found[-1] < COLOR
        if len(found) <= 2 or (gray and not lossy and found[-1] - found[0] < _RANGE):
            labels = np.ones(len(found), bool)
        else:
            labels = _even(place.reshape(values.shape), len(found)) >= _FLAT * count
        if lossy or len(found) > _MANY:
            self.even.update({int(value): int(n) for value, n in zip(found[labels], count[labels], strict=True)})
            return
        if not labels.all():
            labels |= _apart(place.reshape(values.shape), _rgb(found)) >= _APART * count
        self.exact.update(found[labels].tolist())

    def labels(self) -> list[int]:
        """The values that mean something, ascending; those that JPEG made of another are counted with it."""
        kept = sorted(self.exact)
        for value, _ in sorted(self.even.items(), key=lambda pair: (-pair[1], pair[0])):
            if not kept or np.abs(_rgb(np.array(kept)) - _rgb(np.array([value]))).max(1).min() > _NEAR:
                kept.append(value)
        grays = [value for value in self.pixels if value < COLOR]
        if len(kept) == 1 and self.even and grays and max(grays) - min(grays) >= _RANGE:  # all that is bright is thin
            kept.append(max(grays, key=lambda gray: abs(gray - kept[0])))
        while kept and (others := self._explained_by_none(kept)):
            kept.append(max(others, key=lambda value: (self.pixels[value], -value)))
        return sorted(kept)

    def _explained_by_none(self, kept: Sequence[int]) -> list[int]:
        """The values that are neither near a label nor between two: thin or small labels that JPEG has blurred."""
        values = np.array(sorted(self.pixels))
        points, levels = _rgb(values), _rgb(np.array(kept))
        off = np.full(len(values), np.inf)
        for one in levels:
            for way in levels - one:  # from one label towards another, itself among them
                along = np.clip((points - one) @ way / max(way @ way, 1), 0, 1)
                off = np.minimum(off, np.linalg.norm(points - one - along[:, None] * way, axis=1))
        return values[off > np.where(values < COLOR, _RANGE, _OFF)].tolist()

    def shown(self, value: int) -> str:
        """A value as a person writes it, with its color where a palette gives one."""
        if value >= COLOR:
            return f"#{value - COLOR:06x}"
        return f"{value} (#{bytes(self.palette[value]).hex()})" if value in self.palette else str(value)

    def share(self, values: Iterable[int]) -> float:
        """Share of all pixels that have one of the values."""
        return sum(self.pixels[value] for value in values) / max(self.pixels.total(), 1)


def _rgb(values: np.ndarray) -> np.ndarray:
    """Values int [N] as points float64 [N, 3]: a number is a gray."""
    colors = np.stack([(values - COLOR) >> shift & 255 for shift in (16, 8, 0)], 1)
    return np.where(values[:, None] >= COLOR, colors, values[:, None]).astype(np.float64)


def _apart(place: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """How many pixels of each value are no step of an edge, from indices [H, W] and the RGB of each value [N, 3].

    A step has, among itself and its eight neighbors, darker and brighter ones in a color, and is of no color the
    darkest or brightest unless all of them are.
    """
    rows, columns = place.shape
    levels = np.pad(colors[place], ((1, 1), (1, 1), (0, 0)), "edge")
    around = [levels[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    low, high = np.minimum.reduce(around), np.maximum.reduce(around)
    level = colors[place]
    between, alike = (low < level) & (level < high), low == high
    step = (between | alike).all(2) & between.any(2)
    return np.bincount(place[~step], minlength=len(colors))


def _even(place: np.ndarray, values: int) -> np.ndarray:
    """How many pixels of each value have four neighbors of the same value, from indices [H, W]."""
    inside = place[1:-1, 1:-1]
    same = np.ones(inside.shape, bool)
    for other in (place[:-2, 1:-1], place[2:, 1:-1], place[1:-1, :-2], place[1:-1, 2:]):
        same &= inside == other
    return np.bincount(inside[same], minlength=values)
