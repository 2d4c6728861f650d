"""Errors of a corpus: the error that lists the faults of a table, and how a command ends on one."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from usbackbones.data.item import DataError
from usbackbones.data.table import Fault


class CorpusError(ValueError):
    """A manifest or corpus folder that cannot be used."""


@contextmanager
def as_corpus_error() -> Iterator[None]:
    """Raise what `usbackbones.data.table` refuses as a CorpusError."""
    try:
        yield
    except DataError as error:
        raise CorpusError(str(error)) from error


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
