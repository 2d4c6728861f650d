"""Output folders of runs: each belongs to one command with one set of settings and is never shared or overwritten."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usbackbones._files import atomic_write

RECORD = "run.json"


class FolderTaken(FileExistsError):
    """An output folder that holds something else; one line that names it and the remedy."""


def apart(folder: Path, data: Path) -> None:
    """Refuse an output folder inside the folder of data, where its files would be read as data the next time.

    Raises:
        FolderTaken: if it is there.
    """
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise FolderTaken(f"{folder} lies in the data folder {data}: choose an -o outside, or it is read as data")


def refuse_taken(place: Path) -> None:
    """Refuse an output that is there already, for commands whose results are not continued; an empty folder is free.

    Raises:
        FolderTaken: if it is there.
    """
    if place.is_symlink() or (place.exists() and not (place.is_dir() and not any(place.iterdir()))):
        raise FolderTaken(f"{place} is there already and stays as it is: give another -o, or remove it first")


def claim(folder: Path, command: str, settings: Mapping[str, Any]) -> bool:
    """Take a folder for a run, before anything else is written there.

    Args:
        folder: new, empty, or of the same run, which then goes on.
        command: that writes it.
        settings: all that the outcome depends on, for JSON.

    Returns:
        Whether the run is finished already.

    Raises:
        FolderTaken: if the folder is a file, holds other files, or is of another run.
    """
    wanted = json.loads(json.dumps({"command": command, **settings}))
    if folder.exists() and not folder.is_dir():
        raise FolderTaken(f"{folder} is a file: give -o a new or empty folder")
    if (folder / RECORD).is_file():
        told = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        finished = bool(told.pop("finished", False))
        if other := sorted(key for key in wanted.keys() | told.keys() if wanted.get(key) != told.get(key)):
            raise FolderTaken(
                f"{folder} holds a run of other data or settings ({', '.join(other)} differ): choose another -o, or "
                "delete the folder to start over"
            )
        return finished
    if folder.is_dir() and (others := sorted(path.name for path in folder.iterdir())):
        raise FolderTaken(f"{folder} holds files of something else, as {others[0]}: give -o a new or empty folder")
    _write(folder, wanted)
    return False


def finish(folder: Path) -> None:
    """Note that the run of a folder is finished; its outputs are all there."""
    _write(folder, json.loads((folder / RECORD).read_text(encoding="utf-8")) | {"finished": True})


def digest(content: Any) -> str:
    """A short name of what is too long to be kept among the settings, as all items of a data set."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(folder / RECORD, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)
