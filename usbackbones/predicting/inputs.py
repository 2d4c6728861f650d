"""From the paths of a user to the clips to predict: files, folders, archives and lists of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usbackbones.clips import ClipError, find_clips
from usbackbones.clips.files import stills_in
from usbackbones.data.item import DataError
from usbackbones.data.patients import column_groups, name_pattern
from usbackbones.data.table import read_table

_LISTS = {".csv", ".txt"}


@dataclass(frozen=True)
class Input:
    """A clip to predict.

    Attributes:
        path: of the clip.
        group: patient or group where it is known without opening the clip; else "".
        fault: why it cannot be read, where that is known already; else "".
    """

    path: Path
    group: str = ""
    fault: str = ""


def read_inputs(paths: Sequence[Path], group_from: str = "") -> list[Input]:
    """The clips at the paths, each once, in natural order.

    A still in a folder is a clip of its own, as it is for `finetune`; masks beside their images are none.

    Args:
        paths: clips, folders, zips, and lists: a .txt with a path a line, or a .csv with the column path, and perhaps
            one that tells patients apart, see `data.patients`. Paths in a list are relative to it.
        group_from: a regular expression with one bracket that finds the group in a file's name.

    Raises:
        DataError: if there is nothing to predict, a list is malformed, or `group_from` cannot be used.
    """
    pattern = name_pattern(group_from)
    inputs: dict[Path, Input] = {}
    for path in paths:
        for one in _of_list(path) if path.suffix.lower() in _LISTS and path.is_file() else [Input(path)]:
            clips, fault = _clips_at(one.path)
            for clip in clips:
                match = pattern.search(clip.name) if pattern and not one.group else None
                inputs.setdefault(clip, Input(clip, match[1] if match else one.group, fault))
    if not inputs:
        raise DataError(f"nothing to predict: {', '.join(map(str, paths)) or 'no path was given'}")
    return list(inputs.values())


def _clips_at(path: Path) -> tuple[list[Path], str]:
    """The clips of a path, or the path itself with what is wrong with it."""
    try:
        clips = find_clips(path)
    except ClipError as error:
        return [path], str(error)
    return [clip for found in clips for clip in (stills_in(found) if found.is_dir() else [found])], ""


def _of_list(file: Path) -> list[Input]:
    if file.suffix.lower() == ".csv":
        rows = [row for row in read_table(file, {"path"}) if (row["path"] or "").strip()]
        groups, _ = column_groups(file, rows, lambda line: None)
        return [
            Input(file.parent / row["path"].strip(), group)
            for row, group in zip(rows, groups or [""] * len(rows), strict=True)
        ]
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text in UTF-8: save the list as UTF-8") from error
    return [Input(file.parent / line.strip()) for line in lines if line.strip()]
