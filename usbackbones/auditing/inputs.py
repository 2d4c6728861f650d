"""Inputs of an audit, read before any pixel: items, columns that become rows of their own, and sources."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from usbackbones.auditing.screens import DETECTED
from usbackbones.clips import ClipError, find_clips
from usbackbones.clips.files import real, stills_in
from usbackbones.data.dataset import read_items
from usbackbones.data.item import DataError, Item
from usbackbones.data.patients import column_groups, name_pattern, told_patients, with_groups
from usbackbones.data.table import read_table
from usbackbones.data.targets import Kind, decide_target
from usbackbones.segmentation.dataset import read_masked
from usbackbones.segmentation.look import Answers
from usbackbones.segmentation.mask_values import values_of
from usbackbones.segmentation.masked import Masked, labels_of, mask_frames

MARKED, EMPTY = "marked", "empty"
"""Classes of images with masks."""


@dataclass(frozen=True)
class Asked:
    """What was asked of the data, see `usbackbones.audit`."""

    group_from: str
    columns: tuple[str, ...]
    source_from: str
    unlabelled: bool
    target: Literal["auto", "class", "number"]
    foreground: str
    progress: bool


@dataclass(frozen=True)
class Inputs:
    """What is known of the files before they are read.

    Attributes:
        items: the files.
        kind: of their labels; None without labels.
        columns: cells of each item, by the name of the column.
        sources: of each item; empty where nobody names them.
        truth: "1", "0" or "" of each item, by what of `screens.DETECTED` a column has_text or has_calipers tells.
        masks: files of each image of a set of masks.
    """

    items: list[Item]
    kind: Kind | None
    columns: dict[str, list[str]]
    sources: list[str]
    truth: dict[str, list[str]]
    masks: dict[Path, tuple[Path, ...]] = field(default_factory=dict)

    def only(self, items: Sequence[Item]) -> "Inputs":
        """The same for those items alone that could be read."""
        number = {id(item): at for at, item in enumerate(self.items)}
        kept = [number[id(item)] for item in items]
        columns, truth = (
            {name: [cells[at] for at in kept] for name, cells in of.items()} for of in (self.columns, self.truth)
        )
        sources = [self.sources[at] for at in kept] if self.sources else []
        return Inputs(list(items), self.kind, columns, sources, truth, self.masks)


def read_inputs(data: Path, asked: Asked, note: Callable[[str], object]) -> Inputs:
    """Read the items of a folder or table, as probes, fine-tuning and segmentation do, and the columns asked for.

    Raises:
        DataError: naming what is wrong.
    """
    masks, kind = dict[Path, tuple[Path, ...]](), None
    if asked.unlabelled:
        items = _clips(data, asked.group_from, note)
        note(told_patients(items))
    elif has_masks(data):
        items, masks, kind = _masked(data, asked, note)
    else:
        items = read_items(data, asked.group_from, note)
        kind = decide_target(items, asked.target, note)
    header = _header(data) if is_table(data) or (data.is_file() and not asked.unlabelled) else []
    labelled = [f"has_{name}" for name in DETECTED if f"has_{name}" in header]
    column = [asked.source_from] if asked.source_from in header else []
    cells = _cells(data, items, [*asked.columns, *labelled, *column])
    for name in labelled:
        if wrong := set(cells[name]) - {"0", "1", ""}:
            raise DataError(f"{data}: {name} is {min(wrong)!r} in a row: give 1, 0, or nothing where nobody knows")
    truth = {name.removeprefix("has_"): cells[name] for name in labelled}
    sources = _sources(data, items, asked.source_from, cells[asked.source_from] if column else None)
    return Inputs(items, kind, {name: cells[name] for name in asked.columns}, sources, truth, masks)


def is_table(data: Path) -> bool:
    """Whether a path is a table by its name."""
    return data.is_file() and data.suffix.lower() in (".csv", ".tsv", ".parquet")


def has_masks(data: Path) -> bool:
    """Whether data are images with masks and not labels: images/ beside masks/, or a table of image and mask."""
    if data.is_file():
        header = _header(data)
        return "path" not in header and {"image", "mask"} <= set(header)
    return (data / "images").is_dir() and (data / "masks").is_dir()


def _masked(
    data: Path, asked: Asked, note: Callable[[str], object]
) -> tuple[list[Item], dict[Path, tuple[Path, ...]], Kind]:
    """Images with the share that their masks mark, or whether they mark anything, as labels."""
    answers = Answers(foreground=asked.foreground, resize_masks="nearest")
    of: dict[Path, list[Masked]] = defaultdict(list)
    for one in read_masked(data, answers, group_from=asked.group_from, note=note, progress=asked.progress):
        of[one.path].append(one)
    kind: Kind = "class" if asked.target == "class" else "number"
    items = []
    for path, frames in of.items():
        share = float(np.mean([_share(frame) for frame in frames]))
        label = f"{share:.6f}" if kind == "number" else MARKED if share else EMPTY
        items.append(Item(path, label, frames[0].group, frames[0].part, told_by=frames[0].told_by))
    if len({item.label for item in items}) < 2:
        raise DataError(f"the masks of all {len(items)} images are {items[0].label}: nothing differs to be told")
    what = "the share of the image that its masks mark" if kind == "number" else f"{MARKED} or {EMPTY}"
    note(f"the target is {what}")
    return items, {path: frames[0].masks for path, frames in of.items()}, kind


def _share(item: Masked) -> float:
    """Share of the pixels of a frame that its masks mark."""
    if not item.masks:
        return 0.0
    shape = values_of(mask_frames(item.masks[0])[item.frame], item.meaning.alpha).shape
    if item.box:
        top, left, bottom, right = item.box
        shape = (bottom - top, right - left)
    return float((labels_of(item, (shape[0], shape[1])) > 0).mean())


def _sources(data: Path, items: Sequence[Item], source_from: str, cells: list[str] | None) -> list[str]:
    """The source of each item by a column, whose cells are given, or by a pattern for names."""
    if cells is not None:
        if empty := cells.count(""):
            raise DataError(f"{data}: {empty} of {len(cells)} rows have no {source_from}: fill it for all, or for none")
        return cells
    if not source_from:
        return []
    try:
        pattern = name_pattern(source_from)
    except DataError as error:
        raise DataError(f"--source-from is no column of {data}, and as a pattern {error}") from error
    found = [pattern.search(item.path.name) for item in items] if pattern else []
    if not all(found):
        raise DataError(f"--source-from {source_from!r} is no column, and does not match the names of all files")
    return [str(match.group(1)) for match in found if match]


def _clips(data: Path, group_from: str, note: Callable[[str], object]) -> list[Item]:
    """Every clip at a path, or of a table, without labels."""
    pattern = name_pattern(group_from)
    if is_table(data):
        rows = read_table(data, {"path"})
        paths = [data.parent / row["path"].strip() for row in rows]
        lost = [row for row, path in zip(rows, paths, strict=True) if not (row["path"].strip() and path.exists())]
        if lost:
            first = f"line {lost[0].line}: path {lost[0]['path'].strip()!r}"
            raise DataError(f"{data}: {len(lost)} of {len(paths)} paths do not exist, the first in {first}")
        groups, told_by = column_groups(data, rows, note)
        given = groups or [""] * len(paths)
        items = [Item(path, "", group, told_by=told_by) for path, group in zip(paths, given, strict=True)]
        return with_groups(items, pattern, note)
    try:
        found = find_clips(data, note)
    except ClipError as error:
        raise DataError(str(error)) from error
    paths = [still for path in found for still in (stills_in(path) if path.is_dir() else [path])]
    return with_groups([Item(path, "", "") for path in paths], pattern, note)


def _header(table: Path) -> list[str]:
    rows = read_table(table, set())
    return list(rows[0]) if rows else []


def _cells(data: Path, items: Sequence[Item], columns: Sequence[str]) -> dict[str, list[str]]:
    """The cells of some columns for each item."""
    if not columns:
        return {}
    if not data.is_file():
        raise DataError(f"--columns {' '.join(columns)}: {data} is a folder; give a CSV that has them")
    key = "path" if "path" in _header(data) else "image"
    of_path = {real(data.parent / row[key].strip()): row for row in read_table(data, {key, *columns})}
    rows = [of_path[real(item.path)] for item in items]
    return {name: [str(row.get(name) or "").strip() for row in rows] for name in columns}
