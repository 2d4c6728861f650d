"""Labelled clips and stills for fine-tuning and probing: a folder of class folders, or a table; parts that never leak.

A table is a CSV with the columns path and label, and if known group (or patient) and split (train, validation, test).
In a folder each class has a folder of its own; a pattern finds the group in the names, or every file is its own group.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from usbackbones.clips.read import ClipError, find_clips
from usbackbones.data.splits import SplitError, assert_disjoint, holdout

PARTS = ("train", "validation", "test")
_MASK = re.compile(r"(.+?)_mask(_\d+)?$")


class DataError(ValueError):
    """Data that cannot be trained on; one line that names the fault and the remedy."""


@dataclass(frozen=True)
class Item:
    """A labelled clip or still.

    Attributes:
        path: what `usbackbones.read_clip` reads.
        label: its class.
        group: patient, or whatever must stay on one side of a split.
        part: one of `PARTS`, or "" where nobody has decided.
    """

    path: Path
    label: str
    group: str
    part: str = ""


def read_items(data: Path, group_from: str = "") -> list[Item]:
    """The items of a folder of class folders or of a CSV.

    Args:
        data: the folder, or the table.
        group_from: a regular expression with one bracket that finds the group in a file's name, as `^([0-9]+)_`; for
            folders, and for tables without a group.

    Raises:
        DataError: listing all that is wrong.
    """
    pattern = _pattern(group_from)
    if data.is_dir():
        items = list(_of_folder(data, pattern))
    elif data.is_file():
        items = _of_table(data, pattern)
    else:
        raise DataError(f"{data}: no such file or folder; give a folder of class folders or a CSV")
    classes = Counter(item.label for item in items)
    if len(classes) < 2:
        raise DataError(
            f"{data} has {len(classes)} class(es) ({', '.join(classes) or 'none'}): at least two are needed"
        )
    return items


def split_items(items: Sequence[Item], test: float = 0.2, validation: float = 0.2, seed: int = 0) -> list[Item]:
    """The items with a part each; where the data decide it is kept, and checked, else whole groups are drawn.

    Args:
        items: from `read_items`.
        test: share of each class's groups for the test part.
        validation: share of the others to stop early on.
        seed: of the draw.

    Raises:
        DataError: if a group is in two parts, or a part lacks a class.
    """
    decided = [item.part for item in items if item.part]
    if decided and len(decided) < len(items):
        raise DataError(f"{len(items) - len(decided)} of {len(items)} rows have no split: fill them all, or none")
    if not decided:
        items = _drawn(items, test, "test", "train", seed)
        items = _drawn(items, validation, "validation", "train", seed)
    elif "validation" not in decided:
        items = _drawn(items, validation, "validation", "train", seed)
    groups = {part: {item.group for item in items if item.part == part} for part in PARTS}
    try:
        for first, second in (("train", "test"), ("validation", "test"), ("train", "validation")):
            assert_disjoint(groups[first], groups[second], f"group in {first} and {second}; it")
    except SplitError as error:
        raise DataError(str(error)) from error
    classes = {item.label for item in items}
    for part in PARTS:
        lacking = classes - {item.label for item in items if item.part == part}
        if lacking:
            raise DataError(f"the {part} part has no item of {', '.join(sorted(lacking))}: give more groups of it")
    return list(items)


def _drawn(items: Sequence[Item], share: float, to: str, rest: str, seed: int) -> list[Item]:
    """Give a share of the groups that are undecided, or in `rest`, to another part."""
    free = [item for item in items if item.part in ("", rest)]
    try:
        _, held = holdout([item.group for item in free], [item.label for item in free], share, seed)
    except SplitError as error:
        raise DataError(f"the {to} part: {error}") from error
    return [
        replace(item, part=to if item.group in held else rest) if item.part in ("", rest) else item for item in items
    ]


def _pattern(group_from: str) -> re.Pattern[str] | None:
    try:
        pattern = re.compile(group_from) if group_from else None
    except re.error as error:
        raise DataError(f"{group_from!r} is no regular expression ({error})") from error
    if pattern and pattern.groups != 1:
        raise DataError(f"{group_from!r} has {pattern.groups} brackets: put exactly one around the group's name")
    return pattern


def _group(path: Path, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return str(path)
    match = pattern.search(path.name)
    if match is None:
        raise DataError(f"{path.name} does not match {pattern.pattern!r}, which should find its group")
    return str(match.group(1))


def _of_folder(folder: Path, pattern: re.Pattern[str] | None) -> Iterator[Item]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for place in classes:
        for path in _clips(place):
            yield Item(path, place.name, _group(path, pattern))


def _clips(folder: Path) -> list[Path]:
    """The items of a class: each still by itself, each video, each folder below; masks beside their stills are none."""
    try:
        found = find_clips(folder)
    except ClipError as error:
        raise DataError(f"{error}; a class folder holds stills, videos, or folders of frames") from error
    paths = sorted(path for path in folder.iterdir() if path.is_file()) if folder in found else []
    stems = {path.stem for path in paths}
    masks = {path for path in paths if (match := _MASK.fullmatch(path.stem)) and match[1] in stems}
    kept = [path for path in paths if path not in masks and path.suffix.lower() not in (".csv", ".txt", ".json")]
    return kept + [path for path in found if path != folder and path not in kept]


def read_table(table: Path, columns: set[str]) -> list[dict[str, str]]:
    """The rows of a CSV; the first is in line 2 of the file.

    Args:
        table: the file, in UTF-8.
        columns: that it must have.

    Raises:
        DataError: if it is no CSV in UTF-8, or lacks a column.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            lacking = columns - set(reader.fieldnames or ())
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} is no CSV in UTF-8 ({error}): save it as one; Parquet is not read here") from error
    if lacking:
        raise DataError(f"{table} lacks the column(s) {', '.join(sorted(lacking))}: name them in the first line")
    return rows


def _of_table(table: Path, pattern: re.Pattern[str] | None) -> list[Item]:
    items, faults = [], []
    for line, row in enumerate(read_table(table, {"path", "label"}), start=2):
        path, label, part = (str(row.get(name) or "").strip() for name in ("path", "label", "split"))
        whole = table.parent / path
        if not path or not whole.exists():
            faults.append(f"line {line}: path {path!r} does not exist")
        elif part not in ("", *PARTS):
            faults.append(f"line {line}: split {part!r} is none of {', '.join(PARTS)}")
        elif label:  # a clip without a label cannot be learned from here
            group = str(row.get("group") or row.get("patient") or "").strip()
            items.append(Item(whole, label, group or _group(whole, pattern), part))
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DataError(f"{table}: {'; '.join(faults[:5])}{more}")
    return items


class Frames:
    """A few frames of every item, decoded once into a file, so that memory follows the batch and not the data.

    Frames keep their size, so that a network sees what its own transform makes of them; only a side beyond `longest` is
    reduced, to bound the file.

    Attributes:
        item: int [N], the item that a frame is of.
        skipped: what could not be read, one line each.
    """

    def __init__(
        self, items: Sequence[Item], file: Path, per_clip: int, longest: int = 512, progress: bool = True
    ) -> None:
        from tqdm import tqdm

        from usbackbones.clips.read import read_clip

        self.skipped: list[str] = []
        owners: list[int] = []
        self._places: list[tuple[int, int, int]] = []  # where a frame begins, and its height and width
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            for number, item in enumerate(tqdm(items, "reading", unit="clip", disable=not progress)):
                try:
                    frames = read_clip(item.path).frames
                except ClipError as error:
                    self.skipped.append(str(error))
                    continue
                chosen = np.unique(np.linspace(0, len(frames) - 1, min(per_clip, len(frames))).round().astype(int))
                for frame in frames[chosen]:
                    small = _within(frame, longest)
                    self._places.append((stream.tell(), *small.shape))
                    stream.write(small.tobytes())
                    owners.append(number)
        if not owners:
            raise DataError(f"not one of {len(items)} clips could be read; the first: {self.skipped[0]}")
        self.item = np.array(owners)
        self._bytes = np.memmap(file, np.uint8, "r")

    def __getitem__(self, row: int) -> np.ndarray:
        """A frame, uint8 [H, W]."""
        start, height, width = self._places[row]
        return self._bytes[start : start + height * width].reshape(height, width)


def _within(frame: np.ndarray, longest: int) -> np.ndarray:
    """The frame [H, W], reduced if a side is longer than `longest`."""
    from PIL import Image

    scale = longest / max(frame.shape)
    if scale >= 1:
        return frame
    height, width = (max(1, round(side * scale)) for side in frame.shape)
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
