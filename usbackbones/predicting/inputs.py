"""From the paths of a user to the clips to predict: files, folders, archives and lists of them."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usbackbones._words import plural
from usbackbones.clips import ClipError, find_clips
from usbackbones.clips.files import passed_over, real, shortened, stills_in
from usbackbones.data.item import DataError
from usbackbones.data.patients import Note, column_groups, name_pattern, silent
from usbackbones.data.table import read_table
from usbackbones.predicting.places import is_written_by_us

STDIN = Path("-")
_TABLES = {".csv", ".parquet"}
_LISTS = {*_TABLES, ".txt"}


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


def read_inputs(paths: Sequence[Path], group_from: str = "", note: Note = silent) -> list[Input]:
    """The clips at the paths, each once, in natural order.

    A still in a folder is a clip of its own, as it is for `finetune`; masks beside their images are none, nor is what
    an earlier run of ours wrote below a folder.

    Args:
        paths: clips, folders, zips, and lists: a .txt with a path a line, or a table (.csv, .parquet) with the column
            path, and perhaps one that tells patients apart, see `data.patients`. Paths in a list are relative to it.
            "-" is a list on standard input. What a list names and cannot be read becomes a row with its error.
        group_from: a regular expression with one bracket that finds the group in a file's name.
        note: gets lines about files and rows that are passed over.

    Raises:
        DataError: if there is nothing to predict, a path does not exist or holds no clip, a list is malformed, or
            `group_from` cannot be used.
    """
    pattern = name_pattern(group_from)
    inputs: dict[Path, Input] = {}
    ours: list[Path] = []
    wrong: list[str] = []
    for path in paths:
        listed = path == STDIN or (path.suffix.lower() in _LISTS and path.is_file())
        for one in _of_list(path, note) if listed else [Input(path)]:
            clips, fault = _clips_at(one.path, ours, note)
            if fault and not listed:
                wrong.append(fault)
            for clip in clips:
                match = pattern.search(clip.name) if pattern and not one.group else None
                inputs.setdefault(real(clip), Input(clip, match[1] if match else one.group, fault))
    if wrong:
        raise DataError("; ".join(wrong[:5]) + f" and {len(wrong) - 5} more" * (len(wrong) > 5))
    if not inputs:
        raise DataError(f"nothing to predict: {', '.join(map(str, paths)) or 'no path was given'}")
    if ours:
        note(passed_over(ours, Path(), "that an earlier run wrote"))
    return list(inputs.values())


def _clips_at(path: Path, ours: list[Path], note: Note) -> tuple[list[Path], str]:
    """The clips of a path, or the path itself with what is wrong with it; what is our own output goes into `ours`."""
    try:
        clips = find_clips(path, note)
    except ClipError as error:
        return [path], str(error)
    if not path.is_dir():
        return clips, ""
    stills = [clip for found in clips for clip in (stills_in(found) if found.is_dir() else [found])]
    written = {clip for clip in stills if is_written_by_us(clip, path)}
    ours += [clip for clip in stills if clip in written]
    kept = [clip for clip in stills if clip not in written]
    return (kept, "") if kept else ([path], f"{path}: a folder without clips of others than an earlier run")


def _of_list(file: Path, note: Note) -> Iterable[Input]:
    if file.suffix.lower() in _TABLES:
        everything = read_table(file, {"path"})
        rows = [row for row in everything if row["path"].strip()]
        if empty := [str(row.line) for row in everything if not row["path"].strip()]:
            note(f"{file}: passed over {plural(len(empty), 'row')} without a path, line {shortened(empty)}")
        groups, _ = column_groups(file, rows, lambda line: None)
        return [
            Input(file.parent / row["path"].strip(), group)
            for row, group in zip(rows, groups or [""] * len(rows), strict=True)
        ]
    try:
        text = sys.stdin.read() if file == STDIN else file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text in UTF-8: save the list as UTF-8") from error
    return [Input(file.parent / line.strip()) for line in text.splitlines() if line.strip()]
