"""Output folders of runs: each belongs to one command with one set of settings and is never shared or overwritten."""

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from usbackbones._errors import Refused
from usbackbones._files import write_json

RECORD = "run.json"
Result = TypeVar("Result")


class FolderTaken(FileExistsError):
    """An output folder that holds something else; one line that names it and the remedy."""


class CannotWrite(Refused):
    """An output in a folder that takes no file; one line that names it and the remedy."""


def apart(folder: Path, data: Path) -> None:
    """Refuse an output folder inside the folder of data, where its files would be read as data the next time.

    Raises:
        FolderTaken: if it is there.
    """
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise FolderTaken(f"{folder} lies in the data folder {data}: choose an -o outside, or it is read as data")


def require_writable(place: Path) -> None:
    """Refuse an output that cannot be written, before the work and not after it.

    Raises:
        CannotWrite: if the nearest folder that exists takes no new file.
    """
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise CannotWrite(f"{there} cannot be written ({error.strerror}): choose another -o") from error


def refuse_taken(place: Path) -> None:
    """Refuse an output that is there already, for commands whose results are not continued; an empty folder is free.

    Raises:
        FolderTaken: if it is there.
    """
    if place.is_symlink() or (place.exists() and not (place.is_dir() and not any(place.iterdir()))):
        raise FolderTaken(f"{place} is there already and stays as it is: give another -o, or remove it first")
    require_writable(place)


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
        CannotWrite: if it cannot be written.
    """
    wanted = json.loads(json.dumps({"command": command, **settings}))
    if folder.exists() and not folder.is_dir():
        raise FolderTaken(f"{folder} is a file: give -o a new or empty folder")
    if (folder / RECORD).is_file():
        told = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        finished = bool(told.pop("finished", False))
        if other := _apart(wanted, told):
            raise FolderTaken(
                f"{folder} holds a run of other data or settings ({', '.join(other)} differ): choose another -o, or "
                "delete the folder to start over"
            )
        return finished
    if folder.is_dir() and (others := sorted(path.name for path in folder.iterdir())):
        raise FolderTaken(f"{folder} holds files of something else, as {others[0]}: give -o a new or empty folder")
    require_writable(folder)
    write_json(folder / RECORD, wanted)
    return False


def _apart(wanted: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """The settings that differ, those inside others by their own names."""
    names = []
    for key in sorted(wanted.keys() | told.keys()):
        one, other = wanted.get(key), told.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            names += _apart(one, other)
        elif one != other:
            names.append(key)
    return names


def finish(folder: Path) -> None:
    """Note that the run of a folder is finished; its outputs are all there."""
    write_json(folder / RECORD, json.loads((folder / RECORD).read_text(encoding="utf-8")) | {"finished": True})


def finished(kind: type[Result], folder: Path) -> Result:
    """The result of a finished run, from its metrics.json; what is None there among numbers was NaN."""
    told = json.loads((folder / "metrics.json").read_text(encoding="utf-8")) | {"folder": folder}
    kept = {field.name: _with_nan(told[field.name]) for field in fields(kind) if field.name in told}  # type: ignore[arg-type]
    return kind(**kept | {"was_finished": True})


def _with_nan(numbers: Any) -> Any:
    if isinstance(numbers, dict):
        return {key: math.nan if value is None else _with_nan(value) for key, value in numbers.items()}
    return numbers


def digest(content: Any) -> str:
    """A short name of what is too long to be kept among the settings, as all items of a data set."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
