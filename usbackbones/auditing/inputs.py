"""Inputs of an audit, read before any pixel: items, columns that become rows of their own, and sources."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usbackbones.clips import ClipError, find_clips
from usbackbones.clips.files import stills_in
from usbackbones.data.dataset import read_items
from usbackbones.data.item import DataError, Item
from usbackbones.data.patients import column_groups, name_pattern, told_patients, with_groups
from usbackbones.data.table import read_table


@dataclass(frozen=True)
class Inputs:
    """What is known of the files before they are read.

    Attributes:
        items: the files.
        columns: cells of each item, by the name of the column.
        sources: of each item; empty where nobody names them.
    """

    items: list[Item]
    columns: dict[str, list[str]]
    sources: list[str]

    def only(self, items: Sequence[Item]) -> "Inputs":
        """The same for those items alone that could be read."""
        number = {id(item): at for at, item in enumerate(self.items)}
        kept = [number[id(item)] for item in items]
        columns = {name: [cells[at] for at in kept] for name, cells in self.columns.items()}
        return Inputs(list(items), columns, [self.sources[at] for at in kept] if self.sources else [])


def read_inputs(
    data: Path,
    group_from: str,
    columns: Sequence[str],
    source_from: str,
    unlabelled: bool,
    note: Callable[[str], object],
) -> Inputs:
    """Read the items of a folder or table, as probes and fine-tuning do, and the columns that are asked for.

    Raises:
        DataError: naming what is wrong.
    """
    items = _clips(data, group_from, note) if unlabelled else read_items(data, group_from, note)
    if unlabelled:
        note(told_patients(items))
    wanted = [*columns]
    column = bool(source_from) and data.is_file() and source_from in _header(data)
    cells = _cells(data, items, [*wanted, *([source_from] if column else [])])
    sources = []
    if column:
        sources = cells[source_from]
        if empty := sources.count(""):
            raise DataError(
                f"{data}: {empty} of {len(sources)} rows have no {source_from}: fill it for all, or for none"
            )
    elif source_from:
        try:
            pattern = name_pattern(source_from)
        except DataError as error:
            raise DataError(f"--source-from is no column of {data}, and as a pattern {error}") from error
        found = [pattern.search(item.path.name) for item in items] if pattern else []
        if not all(found):
            raise DataError(f"--source-from {source_from!r} is no column, and does not match the names of all files")
        sources = [str(match.group(1)) for match in found if match]
    return Inputs(items, {name: cells[name] for name in wanted}, sources)


def _clips(data: Path, group_from: str, note: Callable[[str], object]) -> list[Item]:
    """Every clip at a path, or of a table, without labels."""
    pattern = name_pattern(group_from)
    if data.is_file() and data.suffix.lower() == ".csv":
        rows = read_table(data, {"path"})
        paths = [data.parent / row["path"].strip() for row in rows]
        if lost := [path for path in paths if not path.exists()]:
            raise DataError(f"{data}: {len(lost)} of {len(paths)} paths do not exist, the first {lost[0]}")
        groups, told_by = column_groups(data, rows, note)
        given = groups or [""] * len(paths)
        items = [Item(path, "", group, told_by=told_by) for path, group in zip(paths, given, strict=True)]
        return with_groups(items, pattern, note)
    try:
        found = find_clips(data)
    except ClipError as error:
        raise DataError(str(error)) from error
    paths = [still for path in found for still in (stills_in(path) if path.is_dir() else [path])]
    return with_groups([Item(path, "", "") for path in paths], pattern, note)


def _header(table: Path) -> list[str]:
    rows = read_table(table, {"path"})
    return list(rows[0]) if rows else []


def _cells(data: Path, items: Sequence[Item], columns: Sequence[str]) -> dict[str, list[str]]:
    """The cells of some columns for each item."""
    if not columns:
        return {}
    if not data.is_file():
        raise DataError(f"--columns {' '.join(columns)}: {data} is a folder; give a CSV that has them")
    of_path = {(data.parent / row["path"].strip()).resolve(): row for row in read_table(data, {"path", *columns})}
    rows = [of_path[item.path.resolve()] for item in items]
    return {name: [str(row.get(name) or "").strip() for row in rows] for name in columns}
