"""Labels as classes or as numbers: what is predicted, decided for the whole data set and reported."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Literal

from usbackbones.clips.files import shortened
from usbackbones.data.item import DataError, Item, Note

Kind = Literal["class", "number"]
MOST_CLASSES = 10
"""Numeric labels of more distinct values than this are numbers."""
_REMEDY = "correct them, leave them empty, or give --target class"


def decide_target(items: Sequence[Item], asked: Literal["auto", "class", "number"], note: Note) -> Kind:
    """Whether labels are classes or numbers, by what was asked or by the labels themselves; a line to `note` says so.

    Numeric labels of more than `MOST_CLASSES` distinct values are numbers; consecutive integers, as 0 and 1, are
    classes; other numeric labels are a question. All labels that are not numeric are classes.

    Raises:
        DataError: if "number" is asked for and a label is none, if a few labels among numbers are none, or if the
            labels do not decide.
    """
    labels = sorted({item.label for item in items})
    wrong = [label for label in labels if number_of(label) is None]
    if asked == "number":
        numbers_of(items)
    if asked != "auto":
        return asked
    if wrong and len(labels) - len(wrong) > MOST_CLASSES:
        many = len(labels) - len(wrong)
        raise DataError(f"{_no_numbers(items)}, among {many} different numbers: {_REMEDY}")
    if wrong:
        return "class"
    values = sorted(float(label) for label in labels)
    if len(values) > MOST_CLASSES:
        note(f"labels are {len(values)} different numbers, from {values[0]:g} to {values[-1]:g}: predicted as a number")
        return "number"
    if values == [values[0] + step for step in range(len(values))] and values[0].is_integer():
        note(f"labels are the integers {values[0]:g} to {values[-1]:g}: predicted as {len(values)} classes")
        return "class"
    shown = ", ".join(labels[:5])
    raise DataError(f"labels are {len(values)} different numbers ({shown}): give --target class or --target number")


def number_of(label: str) -> float | None:
    """The finite number that a label says, or None."""
    try:
        value = float(label)
    except ValueError:
        return None
    return value if isfinite(value) else None


def as_one_class(items: Sequence[Item]) -> list[Item]:
    """Items of one empty label, for splits of numbers, which have no classes to balance."""
    return [replace(item, label="") for item in items]


def numbers_of(items: Sequence[Item]) -> list[float]:
    """The labels as numbers.

    Raises:
        DataError: naming the files whose label is none.
    """
    if wrong := _no_numbers(items):
        raise DataError(f"{wrong}: {_REMEDY}")
    return [float(item.label) for item in items]


def _no_numbers(items: Sequence[Item]) -> str:
    """The files whose label is no number, in words; "" if there are none."""
    wrong = [f"{item.path.name}: {item.label!r}" for item in items if number_of(item.label) is None]
    return f"{len(wrong)} labels are no finite number ({shortened(wrong, 5)})" if wrong else ""
