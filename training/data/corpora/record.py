"""Record of a public dataset, and the small tools that its reader needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from training.data.errors import CorpusError, as_corpus_error, listing
from training.data.manifest import Row
from usbackbones.data.table import Cells, Fault, read_cells

LISTED = ("path", "group", "label", "view", "licence")
"""Columns of a groups.csv as the smaller collections have it."""
_STILLS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A public dataset: where it comes from, what may be done with it, and how its folder is read.

    Attributes:
        name: of the dataset; the `source` of its rows, and of its folder unless the user says otherwise.
        what: what is imaged, and how many there are.
        where: where to get it.
        licence: as its source states it; "per file", or empty where none is stated.
        layout: what its folder must hold.
        patient: what a group is.
        label: what the label is; empty where there is none.
        pretrain: whether any published weight may be trained on it. False for what is kept for evaluation, and for what
            no licence allows.
        read: folder -> rows, without their source, and with clip names unique inside the dataset.
        note: what else one should know before using it.
    """

    name: str
    what: str
    where: str
    licence: str = ""
    layout: str
    patient: str
    label: str = ""
    pretrain: bool
    read: Callable[[Path], list[Row]]
    note: str = ""

    def rows(self, folder: Path) -> list[Row]:
        """The clips in a folder, with their source, named so that they stay unique beside those of other datasets.

        Raises:
            CorpusError: if the folder is not there or is laid out differently.
        """
        if not folder.is_dir():
            raise CorpusError(f"{folder} is not there: give {self.name}=FOLDER, or get it from {self.where}")
        rows = self.read(folder.resolve())
        if not rows:
            raise CorpusError(f"{folder} holds no clip of {self.name}, which is laid out as {self.layout}")
        return [replace(row, clip=f"{self.name}/{row.clip}", source=self.name) for row in rows]


def read_csv(file: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The records of a dataset's own table, by the names in its header, spaces around them taken off.

    Raises:
        CorpusError: if the file or one of these columns is not there, or a row has not as many cells as the header.
    """
    header, *rows = _lines(file)
    names = [name.strip() for name in header[1]]
    missing = [name for name in columns if name not in names]
    if missing:
        raise CorpusError(f"{file} has no column {', '.join(missing)}; it has {', '.join(names)}")
    for line, cells in rows:
        if len(cells) != len(names):
            raise CorpusError(f"{file} line {line}: {len(cells)} cells, but its header has {len(names)}; get it again")
    return [dict(zip(names, map(str.strip, cells), strict=True)) for _, cells in rows]


def listed(organ: str | Mapping[str, str], anatomy: str = "", label: Sequence[str] = ()) -> Callable[[Path], list[Row]]:
    """A reader of folders whose groups.csv names path, group, label, view and licence; clips stand in its order.

    Args:
        organ: of every clip, or by view; clips of another view are left out.
        anatomy: of every clip.
        label: views whose clips keep their label.

    Returns:
        A function of the folder; masks are mask/<stem>.png where they are there.
    """

    def read(root: Path) -> list[Row]:
        return [
            Row(
                path=str(root / record["path"]),
                clip=PurePosixPath(record["path"]).stem,
                group=record["group"],
                organ=organ if isinstance(organ, str) else organ[record["view"]],
                label=record["label"] if record["view"] in label else "",
                licence=record["licence"],
                anatomy=anatomy,
                mask=present(root / "mask" / f"{PurePosixPath(record['path']).stem}.png"),
            )
            for record in read_csv(root / "groups.csv", LISTED)
            if isinstance(organ, str) or record["view"] in organ
        ]

    return read


def read_labels(file: Path, names: dict[str, str]) -> dict[str, str]:
    """A table of names and labels without a header, as {name: label}, the labels replaced as `names` says.

    Raises:
        CorpusError: if the file is not there, or a row is not a name and one of these labels.
    """
    labels = {}
    for line, cells in _lines(file):
        if len(cells) != 2 or cells[1].strip() not in names:
            raise CorpusError(f"{file} line {line}: {','.join(cells)!r} is not a name and one of {', '.join(names)}")
        labels[cells[0].strip()] = names[cells[1].strip()]
    return labels


def _lines(file: Path) -> list[Cells]:
    """Every row of a table with its line, the header among them."""
    if not file.is_file():
        raise CorpusError(f"{file} is missing: point at the folder that holds it")
    with as_corpus_error():
        table = read_cells(file)
    serious = [fault for fault in table.faults if fault.serious]
    if serious or not table.header:
        raise CorpusError(listing(file, serious or [Fault("the file is empty")]))
    return [(1, table.header), *table.rows]


def stills(folder: Path) -> list[Path]:
    """The images of a folder by name, sorted.

    Raises:
        CorpusError: if the folder is not there.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is missing: point at the folder that holds it")
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _STILLS and file.name[0] != ".")


def stills_with_masks(folder: Path) -> list[tuple[Path, str]]:
    """The images of a folder, each with its masks `<stem>_mask*` beside it, joined as `Row.mask` is."""
    masks: dict[str, list[str]] = {}
    images = []
    for file in stills(folder):
        stem, mask, _ = file.stem.partition("_mask")
        if mask:
            masks.setdefault(stem, []).append(str(file))
        else:
            images.append(file)
    return [(image, "|".join(masks.get(image.stem, ()))) for image in images]


def present(file: Path) -> str:
    """The path of a file, or "" where it is not there: for masks that only some images have."""
    return str(file) if file.is_file() else ""
