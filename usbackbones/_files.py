"""Outputs appear whole or not at all: written under a temporary name, synced, then moved."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
    finally:
        temporary.unlink(missing_ok=True)
