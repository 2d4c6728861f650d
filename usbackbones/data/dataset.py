"""Labelled clips and stills for fine-tuning and probing: a folder of class folders, or a table; parts that never leak.

A table is a CSV with the columns path and label, and if known split (train, validation, test) and one that tells
patients apart, see `usbackbones.data.patients`. In a folder each class has a folder of its own. What is passed over is
counted and named in notes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from usbackbones._same_name import one_form
from usbackbones._words import plural
from usbackbones.clips import ClipError, find_clips
from usbackbones.clips.files import (
    DATA_OF_MHD,
    entries,
    files_below,
    identity_of,
    label_maps,
    passed_over,
    real,
    shortened,
    stills_in,
)
from usbackbones.data.each_once import each_once, in_natural_order, refuse_frames_of_folders
from usbackbones.data.item import PARTS, DataError, Item, Note
from usbackbones.data.patients import grouped, name_pattern, silent, tells_patients, told_patients, with_groups
from usbackbones.data.splits import SplitError, assert_disjoint, holdout
from usbackbones.data.table import other_columns, read_table
from usbackbones.data.targets import number_of

_PART_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def read_items(
    data: Path, group_from: str = "", note: Note = silent, label: str = "label", least: int = 2
) -> list[Item]:
    """The items of a folder of class folders or of a CSV.

    Args:
        data: the folder, or the table.
        group_from: a regular expression with one bracket that finds the group in a file's name, as `^([0-9]+)_`; for
            folders, and for tables without a group.
        note: gets lines to show: how many patients there are and who says so, and what was passed over.
        label: the column of the table that is the label.
        least: labels that must occur; one is enough to evaluate a model on.

    Raises:
        DataError: listing all that is wrong.
    """
    pattern = name_pattern(group_from)
    if label != "label" and data.is_dir():
        raise DataError(f"--label {label} is a column of a CSV; {data} is a folder, whose folders are the labels")
    if data.is_dir():
        try:
            items = _of_folder(data, note)
        except ClipError as error:
            raise DataError(str(error)) from error
    elif data.is_file():
        items = _of_table(data, note, label)
    else:
        raise DataError(f"{data}: no such file or folder; give a folder of class folders or a CSV")
    classes = Counter(item.label for item in items)
    if len(classes) < least:
        wanted = "; it needs a folder for each class, with files in it" if data.is_dir() else ""
        needed = "at least two are needed" if least > 1 else "one is needed"
        raise DataError(f"{data} has {len(classes)} class(es) ({', '.join(classes) or 'none'}): {needed}{wanted}")
    if least > 1:  # a model's own classes decide where one is evaluated
        _refuse_one_class_in_two_ways(classes)
    items = with_groups(items, pattern, note)
    note(told_patients(items))
    return items


def split_items(
    items: Sequence[Item],
    test: float = 0.2,
    validation: float = 0.2,
    seed: int = 0,
    *,
    every_label: bool = True,
) -> list[Item]:
    """The items with a part each; where the data decide it is kept, and checked, else whole groups are drawn.

    Args:
        items: from `read_items`.
        test: share of each class's groups for the test part.
        validation: share of the others to stop early on.
        seed: of the draw.
        every_label: each part needs an item of each; otherwise labels are no more than strata of the draw.

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
    for first, second in (("train", "test"), ("validation", "test"), ("train", "validation")):
        assert_disjoint(groups[first], groups[second], f"group in {first} and {second}; it")
    classes = {item.label for item in items} if every_label else set()
    for part in PARTS:
        lacking = classes - {item.label for item in items if item.part == part}
        if lacking:
            raise DataError(f"the {part} part has no item of {', '.join(sorted(lacking))}: give more groups of it")
    return list(items)


def _refuse_one_class_in_two_ways(classes: Iterable[str]) -> None:
    """Refuse classes whose names differ in capitals, spaces or the storage of accents alone; of numbers none do."""
    ways = defaultdict[str, list[str]](list)
    for name in sorted(classes):
        ways[name if number_of(name) is not None else one_form(name)].append(name)
    if several := [names for names in ways.values() if len(names) > 1]:
        names = " and ".join(map(repr, several[0]))
        raise DataError(f"classes {names} are perhaps one, written in {len(several[0])} ways: call them alike")


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


def _of_folder(folder: Path, note: Note) -> list[Item]:
    """One item a clip of each class folder; every other file is named."""
    places = [entry for entry in entries(folder) if entry.is_dir()]
    parts = [place.name for place in places if place.name.casefold() in _PART_NAMES]
    if parts:
        raise DataError(
            f"{folder}: {', '.join(parts)} named like a part of a split and not like a class: give a CSV with the "
            "columns path, label and split, or the folder that holds the class folders of one part"
        )
    if {"images", "masks"} <= {place.name for place in places}:
        raise DataError(f"{folder} holds images/ and masks/, which are no classes: give it to segment")
    items = each_once([Item(path, place.name, "") for place in places for path in _clips(place)], note)
    if folders := [item.path.relative_to(folder).as_posix() for item in items if item.path.is_dir()]:
        inside = f"{plural(len(folders), 'folder')} of stills in class folders"
        note(f"{inside}, each taken for one clip: {shortened(folders)}")
    _name_the_rest(folder, items, note)
    return items


def _name_the_rest(folder: Path, items: Sequence[Item], note: Note) -> None:
    """Notes about all files below a folder that belong to no item."""
    files = list(files_below(folder))
    masks, used = label_maps(files), {identity_of(item.path) for item in items}
    stems = {(identity_of(item.path.parent), item.path.stem) for item in items}
    rest = [
        file
        for file in files
        if not {identity_of(file), identity_of(real(file).parent)} & used
        and not (file.suffix in DATA_OF_MHD and (identity_of(file.parent), file.stem) in stems)
    ]
    for line in (
        passed_over([file for file in rest if file in masks], folder, "that outline their neighbors"),
        passed_over([file for file in rest if file not in masks], folder, "that are no clips in a class folder"),
    ):
        if line:
            note(line)


def _clips(folder: Path) -> list[Path]:
    """The clips of a class: each still by itself, each video, each folder below; masks beside their stills are none."""
    try:
        found = find_clips(folder)
    except ClipError as error:
        raise DataError(f"{error}; a class folder holds stills, videos, or folders of frames") from error
    stills = stills_in(folder) if folder in found else []
    return stills + [path for path in found if path != folder]


def _of_table(table: Path, note: Note, column: str) -> list[Item]:
    items, rows, faults, unlabeled = [], [], [], list[str]()
    everything = read_table(table, {"path", column})
    for row in everything:
        path, label, part = (str(row.get(name) or "").strip() for name in ("path", column, "split"))
        whole = table.parent / path
        if not path or not whole.exists():
            faults.append(f"line {row.line}: path {path!r} does not exist")
        elif part not in ("", *PARTS):
            faults.append(f"line {row.line}: split {part!r} is none of {', '.join(PARTS)}")
        elif label:  # a clip without a label cannot be learned from here
            items.append(Item(whole, label, "", part))
            rows.append(row)
        else:
            unlabeled.append(str(row.line))
    if faults:
        raise DataError(f"{table}: {'; '.join(faults[:5])}" + f" and {len(faults) - 5} more" * (len(faults) > 5))
    if unlabeled:
        note(f"passed over {plural(len(unlabeled), 'row')} without a label, line {shortened(unlabeled)}")
    patients = filter(tells_patients, everything[0] if everything else ())
    if others := other_columns(everything, {"path", column, "split", *patients}, "a path, label, split or patient"):
        note(others)
    refuse_frames_of_folders(items)
    return each_once(in_natural_order(grouped(items, table, rows, note)), note)
