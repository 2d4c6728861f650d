"""State of the files of a data set, by which a run knows that it would not read the same again."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from usbackbones._run_folder import digest
from usbackbones.clips.files import entries
from usbackbones.data.item import Item


def digest_of(items: Sequence[Item]) -> str:
    """A short name of the items, with size and time of all files that are read for them."""
    return digest([asdict(item) | {"state": [_state(file) for file in item.files()]} for item in items])


def _state(path: Path) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change in ns, of a folder those of the files in it."""
    files = [file for file in entries(path) if file.is_file()] if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
