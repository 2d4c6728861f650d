"""The meaning of a data set's masks: decided by their values, answered by a person, or asked."""

from collections.abc import Sequence

import numpy as np

from usbackbones.data.item import DataError
from usbackbones.segmentation.mask_values import COLOR, Meaning, Seen


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
    if len(labels) > 2 or _unclear(labels) or _between(seen, labels):
        raise DataError(_question(seen, labels))
    meaning = Meaning(tuple(labels), (0, 1), alpha=seen.alpha)
    where = ", read from their transparency" if seen.alpha else ""
    found = np.array(list(seen.pixels))
    marked = seen.share(found[meaning.labels(found) > 0].tolist())
    low, high = map(seen.shown, labels)
    told = f"masks: {high} is foreground ({marked:.1%} of the pixels), {low} background{where}"
    return meaning, told + _told_steps(seen, labels)


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


def _told_steps(seen: Seen, labels: Sequence[int]) -> str:
    """The share of pixels that have no label's value and count with the nearest; "" where it is below 0.1 %."""
    share = seen.share(value for value in seen.pixels if value not in labels)
    return f"; other values ({share:.1%}) count with the nearer of the two" if share >= 0.001 else ""


def _told(seen: Seen, labels: Sequence[int], most: int = 8) -> str:
    told = [f"{seen.shown(value)} ({seen.share([value]):.1%})" for value in labels]
    return ", ".join(told[:most]) + f" and {len(told) - most} more" * (len(told) > most)


def _unclear(labels: Sequence[int]) -> bool:
    """Whether nobody can know which of two values is background: two colors, or 0 and a negative number."""
    low, high = labels
    return low >= COLOR or low < 0 == high


def _between(seen: Seen, labels: Sequence[int]) -> bool:
    """Whether more pixels lie between the two values than have the brighter one: a picture, and no mask."""
    low, high = labels
    if high >= COLOR:
        return False
    margin = (high - low) / 8
    return sum(n for value, n in seen.pixels.items() if low + margin < value < high - margin) > sum(
        n for value, n in seen.pixels.items() if value >= high - margin
    )
