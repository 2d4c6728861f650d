"""Errors of a corpus: the error that lists the faults of a table, and how a command ends on one."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EISDIR
from os import strerror
from pathlib import Path
from tempfile import TemporaryFile

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
    """End a command with a line on stderr and exit code 2 on one of these errors, and on what the disk refuses.

    It is a decorator too.
    """
    ends: tuple[type[Exception], ...] = (*refusals, OSError)
    try:
        yield
    except ends as error:
        print(f"error: {line_of(error)}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error


def line_of(error: Exception) -> str:
    """What a command says of an error; of one of the disk the file and the remedy as well."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    remedy = "see to its rights and the space on its disk, or name another place"
    return f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error}): {remedy}"


def append_line(file: Path, line: str) -> None:
    """Add a whole line to a log, or, where the disk takes but a part of it, none of it.

    Raises:
        OSError: if it could not be written.
    """
    with file.open("ab") as stream:
        end = stream.tell()
        try:
            stream.write(f"{line}\n".encode())
            stream.flush()
        except OSError:
            stream.truncate(end)
            raise


def refuse_unwritable(*files: Path | None) -> None:
    """Refuse output files that cannot be written, before hours are spent on what goes into them.

    Raises:
        OSError: if the folder of one cannot be made or takes no file, or it is a folder itself.
    """
    for file in filter(None, files):
        if file.is_dir():
            raise IsADirectoryError(EISDIR, strerror(EISDIR), str(file))
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with TemporaryFile(dir=file.parent, buffering=0) as stream:
                stream.write(b"\0")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file)) from error
