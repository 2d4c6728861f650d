"""All that is wrong with the cells of a manifest, at once: each check goes over every row and says what it finds."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from training.data.licenses import KNOWN, tier_of
from usbackbones._words import plural
from usbackbones.data.table import Fault, Table

Record = tuple[int, dict[str, str]]
"""A row: its line, and its cells by the names of the columns."""

REQUIRED = ("path", "clip", "group")
ALIASES = {"patient": "group", "view": "anatomy"}
_NAMES = ("group", "organ", "label", "source", "anatomy")


def named_cells(table: Table, columns: Sequence[str]) -> tuple[list[Record], list[Fault]]:
    """Give the cells of a table the names of `columns`; all others are left out and told.

    Returns:
        (the rows, what is wrong with the header or the number of cells).
    """
    names = [ALIASES.get(name.strip().lower(), name.strip().lower()) for name in table.header]
    faults = list(_header_faults(table.header, names, columns))
    if not table.rows:
        faults.append(Fault("the file is empty" if not table.header else "the file has a header but no rows"))
    records = []
    for line, cells in table.rows:
        if len(cells) != len(names):
            message = (
                f"{plural(len(cells), 'cell')}, but the header has {len(names)}: quote a cell that holds a delimiter"
            )
            faults.append(Fault(message, line))
        named = dict(zip(names, cells, strict=False))
        records.append((line, {name: named.get(name, "") for name in columns if name in names}))
    return records, faults


def _header_faults(header: Sequence[str], names: Sequence[str], columns: Sequence[str]) -> Iterator[Fault]:
    for name in REQUIRED:
        if header and name not in names:
            wanted = " or ".join([name, *(alias for alias, meant in ALIASES.items() if meant == name)])
            yield Fault(f"there is no column {wanted}; a manifest has {', '.join(columns)}", line=1)
    for place, name in enumerate(names):
        if name in names[:place]:
            yield Fault(f"the column stands there twice (as {header[place]!r}): leave one out", 1, name)
        elif name not in columns and name != "note":
            meant = get_close_matches(name, [*columns, *ALIASES], 1)
            hint = f"; did you mean {meant[0]!r}?" if meant else "; call it 'note' if it is for people"
            yield Fault(f"nothing reads this column{hint}", 1, header[place], serious=False)


def check_cells(records: Sequence[Record], folder: Path | None) -> list[Fault]:
    """All faults of the rows; relative paths begin at a folder, None leaves the disk alone."""
    faults = [*_empty(records), *_control_characters(records), *_repeated_clips(records)]
    faults += [*_repeated_paths(records), *_licences(records)]
    for column in _NAMES:
        faults += _spellings(records, column)
    faults += _mixed_groups(records)
    if folder is not None:
        faults += _missing_files(records, folder)
    return faults


def _empty(records: Sequence[Record]) -> Iterator[Fault]:
    for line, cells in records:
        for name in REQUIRED:
            if not cells.get(name, "-").strip():
                yield Fault("must not be empty", line, name)


def _control_characters(records: Sequence[Record]) -> Iterator[Fault]:
    for line, cells in records:
        for name, cell in cells.items():
            if _controls(cell):
                yield Fault(f"{cell!r} holds control characters: delete them", line, name)


def _controls(cell: str) -> bool:
    return not cell.isprintable() and any(unicodedata.category(character) == "Cc" for character in cell)


def _repeated_clips(records: Sequence[Record]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for line, cells in records:
        clip = cells.get("clip", "")
        if clip and first.setdefault(clip, line) != line:
            yield Fault(f"{clip!r} stands there twice (first in line {first[clip]}); names are unique", line, "clip")


def _repeated_paths(records: Sequence[Record]) -> Iterator[Fault]:
    first: dict[str, Record] = {}
    for line, cells in records:
        path, group = cells.get("path", ""), cells.get("group")
        if not path:
            continue
        earlier, others = first.setdefault(os.path.normpath(path), (line, cells))
        other = others.get("group")
        if earlier == line:
            continue
        if group == other:
            yield Fault(f"{path!r} stands there twice (first in line {earlier}): leave one out", line, "path")
        else:
            message = f"{path!r} belongs to {other!r} in line {earlier} and to {group!r} here: a clip has one group"
            yield Fault(message, line, "path")


def _spellings(records: Sequence[Record], column: str) -> Iterator[Fault]:
    """Names that differ only as 'P1' and 'p1 ' do: one patient under two names would be divided by a split."""
    first: dict[str, tuple[int, str]] = {}
    seen = {""}
    for line, cells in records:
        name = cells.get(column, "")
        if name in seen:
            continue
        seen.add(name)
        earlier, other = first.setdefault(_folded(name), (line, name))
        if name != other:
            message = f"{name!r} differs from {other!r} (line {earlier}) only in case or spaces: use one"
            yield Fault(message, line, column)


def _folded(name: str) -> str:
    visible = (letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return " ".join("".join(visible).split()).casefold()


def _licences(records: Sequence[Record]) -> Iterator[Fault]:
    lines: dict[str, list[int]] = defaultdict(list)
    for line, cells in records:
        lines[cells.get("licence", "")].append(line)
    for licence, found in lines.items():
        if tier_of(licence) is None:
            stated = repr(licence) if licence.strip() else "no licence"
            message = f"{stated} in {plural(len(found), 'row')}: no published weight may be trained on them"
            if licence.strip():
                message += f"; if it is but another spelling, write one of: {KNOWN}"
            yield Fault(message, found[0], "licence", serious=False)


def _mixed_groups(records: Sequence[Record]) -> Iterator[Fault]:
    values: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for line, cells in records:
        if cells.get("organ"):
            values[cells.get("source", ""), cells.get("group", "")].setdefault(cells["organ"], line)
    for (_, group), found in values.items():
        if len(found) > 1:
            told = ", ".join(f"{value!r} (line {line})" for value, line in found.items())
            message = f"{group!r} has more than one organ: {told}; see that it is one patient"
            yield Fault(message, max(found.values()), "group", serious=False)


def _missing_files(records: Sequence[Record], folder: Path) -> Iterator[Fault]:
    for line, cells in records:
        named = [(column, path) for column in ("path", "mask") for path in cells.get(column, "").split("|")]
        for column, path in named:
            if path and not _controls(path) and not (folder / path).exists():
                yield Fault(f"{path!r} is not there; relative paths begin at {folder}", line, column)
