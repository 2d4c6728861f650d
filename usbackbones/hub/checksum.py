"""The proof that a file holds the released bytes: its sha256, computed once as long as the file stays as it is."""

import hashlib
import os
from pathlib import Path

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
