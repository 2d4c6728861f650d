"""What can be wrong with a corpus: one fault of a manifest, and the error that lists them."""

from collections.abc import Sequence
from dataclasses import dataclass


class CorpusError(ValueError):
    """A manifest or corpus folder that cannot be used."""


@dataclass(frozen=True)
class Fault:
    """One thing about a manifest that a person should know.

    Attributes:
        message: what is wrong, with the value, and the remedy.
        line: where, as an editor counts lines, from 1; of a Parquet file the row. None for the file as a whole.
        column: as the manifest names it; empty when no single column is meant.
        serious: False for what is worth a look and does not stop the manifest from being read.
    """

    message: str
    line: int | None = None
    column: str = ""
    serious: bool = True

    def __str__(self) -> str:
        place = [f"line {self.line}"] * (self.line is not None) + [f"column {self.column}"] * bool(self.column)
        return f"{', '.join(place)}: {self.message}" if place else self.message


def listing(file: object, faults: Sequence[Fault], most: int = 20) -> str:
    """The faults of a file, one a line below a heading; of more than `most` the first and a count."""
    lines = [f"{file} has {len(faults)} fault{'s' * (len(faults) != 1)}:", *(f"  {fault}" for fault in faults[:most])]
    if len(faults) > most:
        lines.append(f"  and {len(faults) - most} more: python -m training.data.corpus check {file} lists them all")
    return "\n".join(lines)
