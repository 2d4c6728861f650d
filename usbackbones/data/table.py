"""Read a CSV or Parquet file as text cells, with the line of each row and what is wrong with the file itself.

Spreadsheets write CSV in many ways. What can be read without doubt is read and told (a byte order mark, semicolons);
what cannot is a fault, and the rest of the file is read all the same, so that one look finds everything.
"""

import codecs
import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from usbackbones._words import plural
from usbackbones.clips.files import shortened
from usbackbones.data.item import DataError

_KNOWN = {"path", "label", "image", "mask", "split", "spacing"}
"""Columns that are known in other capitals too."""
Cells = tuple[int, list[str]]
"""A row: its line and its cells."""


@dataclass(frozen=True)
class Fault:
    """One thing about a table that a person should know.

    Attributes:
        message: what is wrong, with the value, and the remedy.
        line: where, as an editor counts lines, from 1; of a Parquet file the row. None for the file as a whole.
        column: as the table names it; empty when no single column is meant.
        serious: False for what is worth a look and does not stop the table from being read.
    """

    message: str
    line: int | None = None
    column: str = ""
    serious: bool = True

    def __str__(self) -> str:
        place = [f"line {self.line}"] * (self.line is not None) + [f"column {self.column}"] * bool(self.column)
        return f"{', '.join(place)}: {self.message}" if place else self.message


class Row(dict[str, str]):
    """The cells of a row by their column.

    Attributes:
        line: where the row begins, as an editor counts lines, from 1; of a Parquet file its number.
    """

    def __init__(self, line: int, cells: Mapping[str, str]) -> None:
        super().__init__(cells)
        self.line = line


@dataclass(frozen=True)
class Table:
    """The cells of a file.

    Attributes:
        header: the names of the columns as they stand there; empty where the file has none.
        rows: every row that is not blank.
        faults: of the file, not of what its cells say.
    """

    header: list[str]
    rows: list[Cells]
    faults: list[Fault]


def read_table(file: Path, columns: set[str]) -> list[Row]:
    """The rows of a table that must have some columns; a cell that a short row lacks is "".

    Raises:
        DataError: if it is no table, lacks a column or has it twice, or a row has more cells than the header.
    """
    table = read_cells(file)
    header = _known_names(table.header, columns | _KNOWN)
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise DataError(
            f"{file} has the column {twice[0]} {header.count(twice[0])} times: keep one, or rename the others"
        )
    if lacking := columns - set(header):
        told = [str(fault) for fault in table.faults if fault.serious]
        has = ", ".join(name for name in table.header if name) or "none"
        lines = told or [f"lacks the column(s) {', '.join(sorted(lacking))}: name them in the first line; it has {has}"]
        raise DataError(f"{file} {lines[0]}")
    width = len(table.header)
    long = [Fault(f"{len(cells)} cells, but the header has {width}: quote a cell that holds a delimiter", line)
            for line, cells in table.rows if len(cells) > width]  # fmt: skip
    if serious := [*(fault for fault in table.faults if fault.serious), *long]:
        raise DataError(f"{file}: {serious[0]}" + f" (and {len(serious) - 1} more faults)" * (len(serious) > 1))
    return [Row(line, dict(zip_longest(header, cells, fillvalue=""))) for line, cells in table.rows]


def other_columns(rows: Sequence[Row], known: Collection[str], what: str) -> str:
    """A line that names the columns of a table that are none of the known ones; "" where there are none."""
    rest = [name for name in (rows[0] if rows else ()) if name and name not in known]
    return f"{plural(len(rest), 'column')} not taken for {what}: {shortened(rest, 6)}" if rest else ""


def _known_names(header: Sequence[str], known: set[str]) -> list[str]:
    """The names of the columns without spaces around them; a known one that stands there in other capitals as known."""
    names = [name.strip() for name in header]
    as_known = {name.casefold(): name for name in known - set(names)}
    return [as_known.get(name.casefold(), name) if name not in known else name for name in names]


def read_cells(file: Path) -> Table:
    """The cells of a table and all its faults; whether it is CSV or Parquet, its first bytes say.

    Raises:
        DataError: if there is no such file, it is no table, or it is Parquet and pyarrow is not installed.
    """
    if not file.is_file():
        raise DataError(f"{file} is not a file: give a table as CSV or Parquet")
    content = file.read_bytes()
    if content.startswith(b"PAR1"):
        return _parquet(file)
    if content.startswith(b"PK\x03\x04"):
        raise DataError(f"{file} is a workbook or an archive, not a CSV: save its sheet as 'CSV UTF-8'")
    faults: list[Fault] = []
    return _csv(_decode(content, faults), faults)


def _decode(content: bytes, faults: list[Fault]) -> str:
    """The text of a CSV; bytes that are not UTF-8 are named line by line and stand in the text as their codes."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        faults.append(Fault("the file is UTF-16: save it as UTF-8 ('CSV UTF-8' in Excel)"))
        return content.decode("utf-16", "replace")
    if content.startswith(codecs.BOM_UTF8):
        faults.append(Fault("the file begins with a byte order mark; it is passed over", line=1, serious=False))
        content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                message = f"byte 0x{line[error.start]:02x} is not UTF-8: save the file as UTF-8 ('CSV UTF-8' in Excel)"
                faults.append(Fault(message, line=number))
        return content.decode("utf-8", "backslashreplace")


def _csv(text: str, faults: list[Fault]) -> Table:
    first = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=first.count)
    if delimiter != ",":
        faults.append(Fault(f"columns are separated by {delimiter!r} and read so", line=1, serious=False))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Cells] = []
    start = 1
    try:
        for cells in reader:
            if any(cells):  # spreadsheets leave rows of nothing but delimiters behind
                rows.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        message = f"cannot be read from here on ({error}): look for a quotation mark that is not closed"
        faults.append(Fault(message, line=start))
    return Table(rows[0][1] if rows else [], rows[1:], faults)


def _parquet(file: Path) -> Table:
    parquet = import_parquet(file)
    from pyarrow import ArrowException, types

    try:
        content = parquet.read_table(file)
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file} is a broken Parquet file ({reason}): write or copy it again") from error
    faults = []
    for field in content.schema:
        value = field.type.value_type if types.is_dictionary(field.type) else field.type
        fit = types.is_string(value) or types.is_large_string(value) or types.is_integer(value) or types.is_null(value)
        if not fit:
            # A patient 7 that was stored as 7.0 would no longer be the patient "7" of another table.
            faults.append(Fault(f"holds {field.type}: store it as text", column=field.name))
    columns = [column.to_pylist() for column in content.columns]
    rows = [
        (number, ["" if cell is None else str(cell) for cell in cells])
        for number, cells in enumerate(zip(*columns, strict=True), start=1)
    ]
    return Table(list(content.schema.names), rows, faults)


def import_parquet(file: Path) -> Any:
    """The module pyarrow.parquet, which only those who use Parquet need.

    Raises:
        DataError: if it is not installed, naming the file that asked for it.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{file}: Parquet needs pyarrow; pip install 'usbackbones[parquet]', or use CSV") from error
    return pyarrow.parquet
