"""The manifest of a corpus: one row a clip, with who it is from and what may be done with it.

A manifest is a CSV or Parquet file with the columns of `Row`, of which path, clip and group are a must. Any tool can
write one; `training.data.prepare.run` reads it. A column "note" is for people: nothing reads it.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from training.data.check_manifest import check_cells, named_cells
from training.data.errors import CorpusError, as_corpus_error, listing
from usbackbones._files import atomic_write
from usbackbones.data.table import Fault, import_parquet, read_cells


@dataclass(frozen=True)
class Row:
    """One clip of a corpus.

    Attributes:
        path: file or folder that `usbackbones.read_clip` reads; several stills, joined by "|", are the frames of one
            clip in this order.
        clip: unique name of the clip inside the corpus.
        group: patient, or source where patients are unknown; never divided by a split. A manifest may call the
            column "patient".
        organ: what is imaged, e.g. "lung".
        label: weak label of the whole clip; empty when unlabelled.
        licence: as stated by the source; rows without one are never used for published weights.
        source: the dataset.
        anatomy: what of the organ is shown, e.g. a standard plane or a muscle; empty when unknown. A manifest may
            call the column "view".
        mask: file of the segmentation, frame by frame; several files, joined by "|", mean their union.
    """

    path: str
    clip: str
    group: str
    organ: str = ""
    label: str = ""
    licence: str = ""
    source: str = ""
    anatomy: str = ""
    mask: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files of the clip: one, or its frames."""
        return tuple(self.path.split("|"))

    @property
    def masks(self) -> tuple[str, ...]:
        """The files of the segmentation."""
        return tuple(self.mask.split("|")) if self.mask else ()


COLUMNS = tuple(field.name for field in fields(Row))


def examine(file: Path, files: bool = True) -> tuple[list[Row], list[Fault]]:
    """The rows of a manifest and all that is wrong with it, in the order of its lines.

    Relative paths are taken from its folder; `files` also looks whether the clips and masks are there.

    Raises:
        CorpusError: if it is no table at all.
    """
    with as_corpus_error():
        table = read_cells(file)
    records, faults = named_cells(table, COLUMNS)
    faults += table.faults + check_cells(records, file.parent if files else None)
    rows = [_row(cells, file.parent) for _, cells in records]
    return rows, sorted(faults, key=lambda fault: fault.line or 0)


def _row(cells: dict[str, str], folder: Path) -> Row:
    """The row of these cells, its files below a folder; a cell that is a must and is not there is empty."""
    row = Row(**{"path": "", "clip": "", "group": "", **cells})
    paths, masks = ("|".join(str(folder / file) for file in files) for files in (row.paths, row.masks))
    return replace(row, path=paths, mask=masks)


def read_manifest(file: Path, files: bool = True) -> list[Row]:
    """Read a manifest, CSV or Parquet, see `examine`.

    Raises:
        CorpusError: listing every fault with its line and column.
    """
    rows, faults = examine(file, files)
    serious = [fault for fault in faults if fault.serious]
    if serious:
        raise CorpusError(listing(file, serious))
    return rows


def write_manifest(rows: Iterable[Row], file: Path, notes: Sequence[str] | None = None) -> None:
    """Write a manifest, as Parquet if its name ends in .parquet, else as CSV; notes go into a column "note".

    Raises:
        CorpusError: if it is to be Parquet and pyarrow is not installed.
    """
    records = [asdict(row) for row in rows]
    columns = [*COLUMNS]
    if notes is not None:
        columns.append("note")
        records = [{**record, "note": note} for record, note in zip(records, notes, strict=True)]
    if file.suffix == ".parquet":
        with as_corpus_error():
            parquet = import_parquet(file)
        import pyarrow

        table = pyarrow.table({name: pyarrow.array([r[name] for r in records], pyarrow.string()) for name in columns})
        with atomic_write(file) as stream:
            parquet.write_table(table, stream)
        return
    with atomic_write(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
