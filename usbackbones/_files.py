"""Files: written whole or not at all (under a temporary name, synced, then moved), and proven by their sha256."""

import csv
import errno
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def atomic_write(file: Path | str, mode: str = "wb", **open_args: Any) -> Iterator[Any]:
    """Open a temporary neighbour of `file`; it takes the name when the block ends without an error.

    Args:
        file: final name; its folder is created when missing.
        mode: "w" or "wb".
        open_args: passed to `open`.

    Yields:
        The open temporary file. After an error it is removed and an earlier `file` is left as it was.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with temporary.open(mode, **open_args) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        if error.errno in _NO_ROOM and error.filename is None:
            error.filename = str(file)  # the system does not say which file it had no room for
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, content: Any) -> None:
    """Write JSON, `finite` and one entry a line."""
    with atomic_write(file, "w", encoding="utf-8") as stream:
        json.dump(finite(content), stream, indent=1)


def write_csv(file: Path, header: Iterable[object], rows: Iterable[Iterable[object]]) -> None:
    """Write a table, comma-separated, in UTF-8, with lines that end as on Linux everywhere."""
    with atomic_write(file, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def write_png(file: Path, image: Any) -> None:
    """Write an image of Pillow's."""
    with atomic_write(file) as stream:
        image.save(stream, format="PNG")


def finite(content: Any) -> Any:
    """The same in JSON's types, which has no word for NaN and infinity: None in their place."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    value = content.item() if hasattr(content, "item") else content  # of NumPy
    return None if isinstance(value, float) and not math.isfinite(value) else value


_sums: dict[tuple[str, int, int, int, int], str] = {}


def sha256_of(file: Path) -> str:
    """Sum a file, or recall its sum when its identity, size and both times are those of the file that was summed.

    The time of the last change of the inode is among them: a program can set the modification time of a file back,
    but not this one. (On Windows it is the time of creation, and only the rest tells.)
    """
    with file.open("rb") as stream:
        stat = os.fstat(stream.fileno())
        key = (str(file.absolute()), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if key not in _sums:
            _sums[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _sums[key]
