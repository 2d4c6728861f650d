"""Patients: from a table's column, a pattern in file names or DICOM headers; where none of them tells, nobody claims.

Every file of a group stays on one side of a split. A source that knows some files and not others is refused, since the
unknown ones may be of the known patients.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from usbackbones._same_name import one_form, told_name
from usbackbones._words import plural
from usbackbones.data.headers import STUDY, read_headers
from usbackbones.data.item import AnyItem, DataError, Item, Note

COLUMNS = ("group", "patient", "patientid", "subject", "subjectid")
"""Columns of a table that tell patients apart, the first that is filled wins; case, spaces and underscores are free."""
NAMES = "file names"
_UNKNOWN = "nothing tells patients apart, so every file counts as a patient of its own"


def name_pattern(group_from: str) -> re.Pattern[str] | None:
    """The pattern of `--group-from`; None where it is empty.

    Raises:
        DataError: if it is no regular expression with exactly one bracket.
    """
    try:
        pattern = re.compile(group_from) if group_from else None
    except re.error as error:
        raise DataError(f"{group_from!r} is no regular expression ({error})") from error
    if pattern and pattern.groups != 1:
        raise DataError(f"{group_from!r} has {pattern.groups} brackets: put exactly one around the group's name")
    return pattern


def column_groups(table: Path, rows: Sequence[Mapping[str, str]], note: Note) -> tuple[list[str], str]:
    """The group of each row and the column that tells it; no groups and "" where no column does.

    `note` gets a line about columns that are passed over.

    Raises:
        DataError: if the column is filled for some rows only.
    """
    columns = {name: [told_name(row.get(name)) for row in rows] for name in (rows[0] if rows else ()) if name}
    known = [(COLUMNS.index(_plain(name)), name) for name in columns if tells_patients(name) and any(columns[name])]
    if not known:
        return [], ""
    _, column = min(known)
    empty = columns[column].count("")
    if empty:
        raise DataError(f"{table}: {empty} of {len(rows)} rows have no {column}: fill the column for all, or for none")
    others = [name for _, name in sorted(known) if name != column]
    groups = _alike(columns[column], f"{table}: column {column}")
    if others:
        note(f"patients are told by the column {column}; {', '.join(others)} passed over")
    for name in others:
        of = defaultdict[str, set[str]](set)
        for own, group in zip(columns[name], groups, strict=True):
            of[own].add(group)
        if divided := [own for own, among in of.items() if own and len(among) > 1]:
            many = f"{len(divided)} of the column {name}"
            note(f"{many} in several groups of the column {column}: a patient may stand on both sides of the split")
    return groups, f"the column {column}"


def tells_patients(column: str) -> bool:
    """Whether a column tells patients apart by its name."""
    return _plain(column) in COLUMNS


def grouped(items: Sequence[AnyItem], table: Path, rows: Sequence[Mapping[str, str]], note: Note) -> list[AnyItem]:
    """The items of a table's rows, each with the group that a column tells, see `column_groups`, if one does."""
    groups, told_by = column_groups(table, rows, note)
    if not groups:
        return list(items)
    return [replace(item, group=group, told_by=told_by) for item, group in zip(items, groups, strict=True)]


def with_groups(items: Sequence[AnyItem], pattern: re.Pattern[str] | None, note: Note) -> list[AnyItem]:
    """The items, each with a group: its own, or that of its name, of its DICOM header, or its path.

    Args:
        items: of a table with a column of groups all have one; else none has.
        pattern: finds the group in a file's name.
        note: gets a line where DICOM headers disagree with groups that somebody gave.

    Raises:
        DataError: if a name does not match, or DICOM headers tell too little, see `Headers.check`.
    """
    headers = read_headers(items)
    if all(item.group for item in items):
        given = list(items)
        if pattern:
            note(f"--group-from is not used: groups are told by {items[0].told_by}")
    elif pattern:
        names = _alike([_named(item.path, pattern) for item in items], "--group-from")
        given = [replace(item, group=name, told_by=NAMES) for item, name in zip(items, names, strict=True)]
    elif known := headers.known:
        headers.check()
        # A file that is missing from the known ones is broken, and will be skipped.
        return [replace(item, group=known.get(item.path, str(item.path)), told_by=headers.told_by) for item in items]
    else:
        return [replace(item, group=str(item.path)) for item in items]
    headers.tell_divided(given, note)
    return given


def told_patients(items: Sequence[Item]) -> str:
    """How many patients there are and who says so, as "16 patients, by the DICOM header"; no more than is known."""
    count, what = len({item.group for item in items}), unit(items)
    if not what:
        return f"{_UNKNOWN} ({plural(count, 'file')}); give --group-from or a table with a column patient"
    return f"{plural(count, what)}, by {items[0].told_by}"


def unit(items: Sequence[Item]) -> str:
    """What a group is: "patient" where a header or column says so, "group" where somebody grouped, "" if nobody did."""
    told = items[0].told_by if items else ""
    if not told:
        return ""
    return "group" if told in (NAMES, STUDY) or _plain(told.removeprefix("the column ")) == "group" else "patient"


def levels(items: Sequence[Item]) -> dict[str, str]:
    """{level of `usbackbones.metrics.classification`: how it is called}; no patients where nobody tells them apart."""
    what = unit(items)
    return {"frame": "frame", "clip": "clip"} | ({"patient": what} if what else {})


def counted(count: Mapping[str, float], what: str) -> str:
    """Items of a part and their groups, as "12 items of 4 patients"; the groups only where somebody told them."""
    things, number = next(iter(count.items()))
    return plural(int(number), things.removesuffix("s")) + (f" of {plural(int(count['groups']), what)}" if what else "")


class Notes:
    """Lines about a run's data, kept for its record and passed on at once.

    Attributes:
        lines: in the order in which they came.
    """

    def __init__(self, tell: Note) -> None:
        self.lines: list[str] = []
        self._tell = tell

    def __call__(self, line: str) -> None:
        """Keep a line and pass it on; an empty one is nothing."""
        if line:
            self.lines.append(line)
            self._tell(line)


def silent(line: str) -> None:
    """A note that nobody asked for."""


def _plain(name: str) -> str:
    """A column's name as it stands in `COLUMNS`: PatientID, "Patient ID", patient_id and PATIENTID are one."""
    return re.sub(r"[ _-]", "", name).lower()


def _alike(names: list[str], where: str) -> list[str]:
    """The names, refused where one is written in several ways, as 1, 01 and 1.0 or P1 and p1.

    Raises:
        DataError: naming the first.
    """
    ways: dict[str, set[str]] = defaultdict(set)
    for name in names:
        ways[one_form(name)].add(name)
    if several := [sorted(of) for of in ways.values() if len(of) > 1]:
        raise DataError(
            f"{where}: {plural(len(several), 'patient')} perhaps written in several ways, as "
            f"{' and '.join(several[0])}: write each in one way"
        )
    return names


def _named(path: Path, pattern: re.Pattern[str]) -> str:
    match = pattern.search(unicodedata.normalize("NFC", path.name))
    if match is None:
        raise DataError(
            f"{path.name} does not match {pattern.pattern!r}, which should find its group: leave --group-from out "
            "where names do not tell patients"
        )
    return str(match.group(1))
