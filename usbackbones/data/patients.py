"""Patients: from a table's column, a pattern in file names or a DICOM header; where none of them tells, nobody claims.

Every file of a group stays on one side of a split. A source that knows some files and not others is refused, since the
unknown ones may be of the known patients.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from usbackbones._words import plural
from usbackbones.clips.files import shortened
from usbackbones.clips.patient import BadSalt, patient_of
from usbackbones.clips.read import ClipError
from usbackbones.data.item import AnyItem, DataError, Item, Note

COLUMNS = ("group", "patient", "patient_id", "subject", "subject_id")
"""Columns of a table that tell patients apart, the first that is filled wins; case, spaces and underscores are free."""
HEADER = "the DICOM header"
NAMES = "file names"
_EMPTY = ("", "nan", "<na>", "none", "null", "n/a")
"""Words that programs write where a cell is empty; no patient is called so."""
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
    columns = {name: [_cell(row.get(name)) for row in rows] for name in (rows[0] if rows else ()) if name}
    known = [(COLUMNS.index(_plain(name)), name) for name in columns if _plain(name) in COLUMNS and any(columns[name])]
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
        DataError: if a name does not match, or only some DICOM headers tell a patient.
    """
    known, unknown = _headers(items)
    if all(item.group for item in items):
        given = list(items)
        if pattern:
            note(f"--group-from is not used: groups are told by {items[0].told_by}")
    elif pattern:
        names = _alike([_named(item.path, pattern) for item in items], "--group-from")
        given = [replace(item, group=name, told_by=NAMES) for item, name in zip(items, names, strict=True)]
    elif known:
        _check_headers(known, unknown)
        # A file that is missing from the known ones is broken, and will be skipped.
        return [replace(item, group=known.get(item.path, str(item.path)), told_by=HEADER) for item in items]
    else:
        return [replace(item, group=str(item.path)) for item in items]
    _tell_divided(given, known, note)
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
    return "group" if told == NAMES or _plain(told.removeprefix("the column ")) == "group" else "patient"


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
    """A column's name as it stands in `COLUMNS`: PatientID, "Patient ID" and patient_id are one."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[ _-]+", "_", words).lower()


def _cell(value: object) -> str:
    """The name of a patient in a cell, accents as one character; "" where a program wrote a word for empty."""
    text = unicodedata.normalize("NFC", str(value or "").strip())
    return "" if text.casefold() in _EMPTY else text


def _alike(names: list[str], where: str) -> list[str]:
    """The names, refused where one is written in several ways, as 1, 01 and 1.0 or P1 and p1.

    Raises:
        DataError: naming the first.
    """
    ways: dict[str, set[str]] = defaultdict(set)
    for name in names:
        number = re.fullmatch(r"0*(\d+)(\.0*)?", name)
        ways[number[1] if number else " ".join(name.casefold().split())].add(name)
    if several := [sorted(of) for of in ways.values() if len(of) > 1]:
        raise DataError(
            f"{where}: {plural(len(several), 'patient')} perhaps written in several ways, as "
            f"{' and '.join(several[0])}: write each in one way"
        )
    return names


def _named(path: Path, pattern: re.Pattern[str]) -> str:
    match = pattern.search(unicodedata.normalize("NFC", path.name))
    if match is None:
        raise DataError(f"{path.name} does not match {pattern.pattern!r}, which should find its group")
    return str(match.group(1))


def _headers(items: Iterable[Item]) -> tuple[dict[Path, str], list[Path]]:
    """The patient of each DICOM file whose header names one, and the other files that can be read."""
    known: dict[Path, str] = {}
    unknown = []
    for path in dict.fromkeys(item.path for item in items):
        try:
            patient = patient_of(path)
        except BadSalt as error:
            raise DataError(str(error)) from error
        except ClipError:  # reading the clip will say what is wrong with it
            continue
        if patient:
            known[path] = patient
        else:
            unknown.append(path)
    return known, unknown


def _check_headers(known: Mapping[Path, str], unknown: Sequence[Path]) -> None:
    remedy = "give --group-from or a table with a column patient"
    if unknown:
        total = len(known) + len(unknown)
        raise DataError(
            f"{len(known)} of {total} files name their patient in a DICOM header and {len(unknown)} do not, "
            f"as {shortened([path.name for path in unknown], 2)}: {remedy}"
        )
    if len(known) > 1 and len(set(known.values())) == 1:
        raise DataError(f"all {len(known)} DICOM headers name the same patient, as after anonymization: {remedy}")


def _tell_divided(items: Sequence[Item], known: Mapping[Path, str], note: Note) -> None:
    """Say so where a patient of the DICOM headers has files in several of the groups that were given."""
    groups: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.path in known:
            groups[known[item.path]].add(item.group)
    divided = [sorted(names) for names in groups.values() if len(names) > 1]
    if divided and len(groups) > 1:
        note(
            f"{plural(len(divided), 'patient')} of the DICOM headers with files in several groups by "
            f"{items[0].told_by}, as {shortened(divided[0])}: a patient may stand on both sides of the split"
        )
