"""Compare what is read of each layout of a format with an independent judge, and write the verdicts as a table."""

import importlib.util
import os
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from usbackbones.clips import ClipError, read_clip

LUMA = np.array([0.299, 0.587, 0.114])
_ROUNDING = 0.51  # luma of colors is no whole number


@dataclass(frozen=True)
class Cell:
    """One file of a layout.

    Attributes:
        write: writes the file into an empty folder and returns the path that is read.
        judge: what an independent reader shows of that path, gray [T, H, W], 0..255; real numbers where it does not
            round.
        within: gray levels that the two may lie apart, beyond rounding.
    """

    write: Callable[[Path], Path]
    judge: Callable[[Path], np.ndarray]
    within: int = 0


@dataclass(frozen=True)
class Table:
    """The layouts of one format, and how each is tried.

    Attributes:
        title: of its section.
        prose: what stands above the table.
        row: what the rows are.
        column: what the entries of a row are.
        layouts: (row, entry) of every layout, enumerated from the lists that the reader itself uses.
        cells: the files of a layout; it raises KeyError for one that it does not know.
        needs: modules of the judges.
    """

    title: str
    prose: str
    row: str
    column: str
    layouts: Callable[[], Iterable[tuple[str, str]]]
    cells: Callable[[str, str], Iterable[Cell]]
    needs: tuple[str, ...] = ()

    def missing_judge(self) -> str:
        """The judges that are not installed; "" where all are."""
        return ", ".join(name for name in self.needs if importlib.util.find_spec(name) is None)

    def untested(self) -> list[tuple[str, str]]:
        """Layouts of the reader for which there is no file."""
        return [layout for layout in self.layouts() if not self._has_cells(*layout)]

    def _has_cells(self, row: str, column: str) -> bool:
        try:
            return bool(list(self.cells(row, column)))
        except KeyError:
            return False

    def verdicts(self) -> dict[tuple[str, str], str]:
        """The verdict of each layout.

        Raises:
            AssertionError: where a frame differs from the judge's by more than its cell allows.
        """
        return {layout: verdict(f"{self.title}, {layout}", self.cells(*layout)) for layout in self.layouts()}


def verdict(name: str, cells: Iterable[Cell]) -> str:
    """How the files of one layout are read: same, within the most gray levels of any, or refused; or both."""
    within, refused = list[int](), dict[str, None]()
    for index, cell in enumerate(cells):
        with tempfile.TemporaryDirectory() as folder:
            why = _of_cell(f"{name}, file {index}", cell, Path(folder))
        refused |= {f"refused: {why}": None} if why else {}
        within += [] if why else [cell.within]
    most = max(within, default=0)
    read = f"within {most} gray level{'s' * (most > 1)}" if most else "same"
    return "; ".join([*([read] if within else []), *refused])


def _of_cell(name: str, cell: Cell, folder: Path) -> str:
    """Why a file is refused; "" if it is read as the judge shows it.

    Raises:
        AssertionError: if it is read as something else.
    """
    path = cell.write(folder)
    with mock.patch.dict(os.environ, {"USBACKBONES_SALT": "a salt for the tests"}):
        try:
            frames = read_clip(path).frames
        except ClipError as error:
            message = str(error).replace(f"{path}: ", "").replace(f"{path}/", "")
            assert "\n" not in message and ";" in message and "broken" not in message, f"{name}: {message}"
            return re.sub(r" [(].*", "", message.split(";")[0])
    expected = np.asarray(cell.judge(path), np.float64)
    assert frames.shape == expected.shape, f"{name}: {frames.shape}, the judge shows {expected.shape}"
    apart = np.abs(frames - expected).max()
    assert apart <= cell.within + _ROUNDING, f"{name}: {apart:.2f} gray levels from the judge"
    return ""


def rendered(table: Table) -> str:
    """The section of a table: a line for each row, its layouts grouped by their verdict."""
    verdicts, rows = table.verdicts(), dict[str, dict[str, list[str]]]()
    for (row, column), found in verdicts.items():
        rows.setdefault(row, {}).setdefault(found, []).append(column)
    prose = textwrap.fill(table.prose, 120)
    lines = [f"## {table.title}", "", prose, "", f"| {table.row} | {table.column} | verdict |", "|---|---|---|"]
    for row, groups in rows.items():
        for found, columns in groups.items():
            lines.append(f"| {row} | {', '.join(f'`{column}`' for column in columns)} | {found} |")
    return "\n".join([*lines, ""])


def luma(rgb: np.ndarray) -> np.ndarray:
    """BT.601 luma of RGB [..., 3] in float64."""
    return np.asarray(rgb, np.float64) @ LUMA
