"""The values of the masks of a data set, and what they mean: one decision for all of them, or a question.

A value is a number (a gray level, a label, an index of a palette) or a color, which is coded as `COLOR` plus RGB. Two
values are a mask. Gray levels between two values are still two where they lie along edges, as scaling and JPEG leave
them; a value that fills areas is a label.
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
_FLAT = 0.2  # share of a value's pixels inside an even area from which on it is a label


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
        whole = pixels.astype(np.int64)
        if (whole != pixels).any():
            raise DataError(f"a value is {pixels[whole != pixels][0]:g}: save labels as whole numbers")
        return whole
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    spread = np.ptp(pixels.astype(np.int64), axis=2)
    gray = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # as Pillow's luma
    if spread.max(initial=0) <= _TINT:
        return gray
    return np.where(spread == 0, red, COLOR + (red << 16) + (green << 8) + blue)


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
        else:
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
        return sorted(kept)

    def shown(self, value: int) -> str:
        """A value as a person writes it, with its color where a palette gives one."""
        if value >= COLOR:
            return f"#{value - COLOR:06x}"
        return f"{value} (#{bytes(self.palette[value]).hex()})" if value in self.palette else str(value)

    def share(self, values: Iterable[int]) -> float:
        """Share of all pixels that have one of the values."""
        return sum(self.pixels[value] for value in values) / max(self.pixels.total(), 1)


def decide(seen: Seen, foreground: str = "", classes: str = "") -> tuple[Meaning, str]:
    """What the masks mean, and a line that says so.

    Args:
        seen: all masks of the set.
        foreground: values that are one foreground, as "1,2" or "#ff0000".
        classes: names with a value each, as "nerve=1,artery=2".

    Raises:
        DataError: if nobody can know, or the answer names a value that is not there.
    """
    labels = seen.labels()
    if foreground and classes:
        raise DataError("--foreground and --classes are two answers to one question: give one")
    if foreground or classes:
        return _answered(seen, labels, foreground, classes)
    if labels == [0]:
        raise DataError("not one mask marks anything, all of their pixels are 0: give the masks that belong to them")
    if len(labels) == 1:
        labels = [0, *labels]
    if len(labels) > 2 or _dark(labels[0]) or _between(seen, labels):
        raise DataError(_question(seen, labels))
    meaning = Meaning(tuple(labels), (0, 1), alpha=seen.alpha)
    where = ", read from their transparency" if seen.alpha else ""
    found = np.array(list(seen.pixels))
    marked = seen.share(found[meaning.labels(found) > 0].tolist())
    low, high = map(seen.shown, labels)
    return meaning, f"masks: {high} is foreground ({marked:.1%} of the pixels), {low} background{where}"


def _answered(seen: Seen, labels: Sequence[int], foreground: str, classes: str) -> tuple[Meaning, str]:
    named: dict[str, list[int]] = {}
    for part in (classes or foreground).split(","):
        name, equals, value = part.rpartition("=")
        if bool(equals) != bool(classes) or (equals and not name.strip()):
            raise DataError(f"--classes {classes}: give names with a value each, as nerve=1,artery=2" if classes else
                            f"--foreground {foreground}: give values alone, as 1,2")  # fmt: skip
        named.setdefault(name.strip() or "foreground", []).append(_value(seen, value.strip()))
    of = {value: number for number, values in enumerate(named.values(), start=1) for value in values}
    levels = tuple(sorted({*labels, *of, *([] if set(of) >= {0} else [0])}))
    meaning = Meaning(levels, tuple(of.get(level, 0) for level in levels), tuple(named), seen.alpha)
    told = [
        f"{' and '.join(seen.shown(value) for value in values)} {'are' if len(values) > 1 else 'is'} {name} "
        f"({seen.share(values):.1%} of the pixels)"
        for name, values in named.items()
    ]
    rest = [seen.shown(level) for level in levels if level not in of and seen.pixels[level]]
    return meaning, f"masks: {', '.join(told)}" + f"; {', '.join(rest)} background" * bool(rest)


def _value(seen: Seen, text: str) -> int:
    try:
        value = COLOR + int(text.removeprefix("#"), 16) if text.startswith("#") else int(text)
    except ValueError:
        raise DataError(f"{text!r} is no value of a mask: give a number, or a color as #ff0000") from None
    if text.startswith("#") and len(set(bytes.fromhex(f"{value - COLOR:06x}"))) == 1:
        value = (value - COLOR) & 255  # a gray, which is coded as its level
    if value not in seen.pixels:
        raise DataError(f"no mask holds {text}: they hold {_told(seen, seen.labels())}")
    return value


def _question(seen: Seen, labels: Sequence[int]) -> str:
    count = len(labels) if len(labels) > 2 else len(seen.pixels)
    bright = [seen.shown(value).split()[0] for value in labels if value][:2]
    named = ",".join(f"NAME={value}" for value in bright)
    return (
        f"the masks hold {count} values, {_told(seen, labels)}: give --foreground {','.join(bright)} for those that "
        f"are one foreground, or --classes {named} to tell them apart"
    )


def _told(seen: Seen, labels: Sequence[int], most: int = 8) -> str:
    told = [f"{seen.shown(value)} ({seen.share([value]):.1%})" for value in labels]
    return ", ".join(told[:most]) + f" and {len(told) - most} more" * (len(told) > most)


def _dark(background: int) -> bool:
    """Whether the darker of two values is a color, which nobody can know to be background."""
    return background >= COLOR


def _between(seen: Seen, labels: Sequence[int]) -> bool:
    """Whether more pixels lie between the two values than have the brighter one: a picture, and no mask."""
    low, high = labels
    if high >= COLOR:
        return False
    margin = (high - low) / 8
    return sum(n for value, n in seen.pixels.items() if low + margin < value < high - margin) > sum(
        n for value, n in seen.pixels.items() if value >= high - margin
    )


def _rgb(values: np.ndarray) -> np.ndarray:
    """Values int [N] as points float64 [N, 3]: a number is a gray."""
    colors = np.stack([(values - COLOR) >> shift & 255 for shift in (16, 8, 0)], 1)
    return np.where(values[:, None] >= COLOR, colors, values[:, None]).astype(np.float64)


def _even(place: np.ndarray, values: int) -> np.ndarray:
    """How many pixels of each value have four neighbors of the same value, from indices [H, W]."""
    inside = place[1:-1, 1:-1]
    same = np.ones(inside.shape, bool)
    for other in (place[:-2, 1:-1], place[2:, 1:-1], place[1:-1, :-2], place[1:-1, 2:]):
        same &= inside == other
    return np.bincount(inside[same], minlength=values)
