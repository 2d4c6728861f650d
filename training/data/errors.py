"""Errors of a corpus: a fault of a manifest, the error that lists them, and how a command ends on one."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn


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


@contextmanager
def short_errors(*refusals: type[Exception]) -> Iterator[None]:
    """End a command with a line on stderr and exit code 2 on one of these errors, and on what the disk refuses."""
    try:
        yield
    except refusals as error:
        _end(str(error), error)
    except OSError as error:
        place, reason = error.filename or "a file", error.strerror or str(error)
        remedy = "see to its rights and the space on its disk, or name another place"
        _end(f"{place} cannot be read or written ({reason}): {remedy}", error)


def _end(line: str, cause: Exception) -> NoReturn:
    print(f"error: {line}", file=sys.stderr)  # noqa: T201
    raise SystemExit(2) from cause
