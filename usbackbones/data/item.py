"""A labelled clip or still, and the error of data that cannot be trained on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from usbackbones._errors import Refused

PARTS = ("train", "validation", "test")


class DataError(Refused):
    """Data that cannot be trained on; one line that names the fault and the remedy."""


@dataclass(frozen=True)
class Item:
    """A labelled clip or still.

    Attributes:
        path: what `usbackbones.read_clip` reads.
        label: its class.
        group: patient, or whatever must stay on one side of a split.
        part: one of `PARTS`, or "" where nobody has decided.
        told_by: where the group is from, as "the DICOM header"; "" where nobody knows, and each file is its own.
    """

    path: Path
    label: str
    group: str
    part: str = ""
    told_by: str = field(default="", kw_only=True)

    def files(self) -> tuple[Path, ...]:
        """All that is read for it."""
        return (self.path,)


AnyItem = TypeVar("AnyItem", bound=Item)
Note = Callable[[str], object]
"""Gets a line about the data, to show and to keep."""
