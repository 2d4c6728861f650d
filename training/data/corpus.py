"""A corpus is a manifest: one row a clip, with who it is from and what may be done with it.

    python -m training.data.corpus pocus_lung FOLDER -o manifest.csv --tier nc

The manifest is a CSV with the columns of `Row`; a path is absolute or relative to the manifest's folder. Any tool can
write one; `training.data.prepare` reads it.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from training.benchmark.lock import locked_split
from usbackbones.files import atomic_write

Tier = Literal["open", "nc"]

# Which weights a row may go into. 'open' rows may go into every weight; 'nc' rows only into weights that are
# themselves non-commercial. The emergency licence grants research use only, hence 'nc'.
_OPEN = re.compile(r"^(CC0|CC BY \d|CC BY$|CC-BY-\d|MIT)", re.IGNORECASE)
_NC = re.compile(r"^(CC BY-NC(?! ?-?ND)|CC-BY-NC(?!-ND)|COVID-19 emergency license)", re.IGNORECASE)


# The licence of weights that were trained on a tier; share-alike data make the nc weights share-alike.
WEIGHTS_LICENCE: dict[Tier, str] = {"open": "Apache-2.0", "nc": "CC-BY-NC-SA-4.0"}


class CorpusError(ValueError):
    """A manifest or corpus folder that cannot be used."""


@dataclass(frozen=True)
class Row:
    """One clip of a corpus.

    Attributes:
        path: file or folder that `usbackbones.read_clip` reads.
        clip: unique name of the clip inside the corpus.
        group: patient, or source where patients are unknown; never divided by a split.
        organ: what is imaged, e.g. "lung".
        label: weak label of the whole clip; empty when unlabelled.
        licence: as stated by the source; rows without one are never used.
        source: the dataset.
        anatomy: what of the organ is shown, e.g. a standard plane or a muscle; empty when unknown.
    """

    path: str
    clip: str
    group: str
    organ: str = ""
    label: str = ""
    licence: str = ""
    source: str = ""
    anatomy: str = ""


def tier_of(licence: str) -> Tier | None:
    """The tier of weights that data under this licence may go into, or None for no tier at all."""
    if _OPEN.match(licence.strip()):
        return "open"
    return "nc" if _NC.match(licence.strip()) else None


def tier_of_all(licences: Iterable[str]) -> Tier:
    """The tier of a weight trained on data under all of these licences.

    Raises:
        CorpusError: if a licence allows no weight at all, naming it.
    """
    tiers = {licence: tier_of(licence) for licence in licences}
    refused = sorted(licence or "(none stated)" for licence, tier in tiers.items() if tier is None)
    if refused:
        raise CorpusError(f"no weight may be trained on data under: {', '.join(refused)}. Leave those clips out.")
    return "nc" if "nc" in tiers.values() else "open"


def in_tier(rows: Iterable[Row], tier: Tier) -> list[Row]:
    """The rows that may go into a weight of this tier; 'nc' includes all that is 'open'."""
    wanted = {"open"} if tier == "open" else {"open", "nc"}
    return [row for row in rows if tier_of(row.licence) in wanted]


def pocus_lung(root: Path) -> list[Row]:
    """The videos of the POCUS lung collection (Born et al., Applied Sciences 2021, 11(2):672)."""
    table = root / "groups.csv"
    if not table.is_file():
        raise CorpusError(f"{table} is missing: point at the folder that holds groups.csv and pocus_videos/")
    with table.open(newline="") as stream:
        records = list(csv.DictReader(stream))
    return [
        Row(
            path=str(root / record["path"]),
            clip=record["path"],
            group=record["group"],
            organ="lung",
            label="" if record["label_uncertain"] == "1" else record["label"],
            licence=record["licence"],
            source="pocus_lung",
        )
        for record in records
        if record["kind"] == "video"
    ]


CORPORA = {"pocus_lung": pocus_lung}


def without_locked_test(rows: Iterable[Row]) -> list[Row]:
    """Drop every clip whose group is in the locked test part of its source."""
    rows = list(rows)
    locked = {source: set(locked_split(source)["test"]) for source in {row.source for row in rows}}
    return [row for row in rows if row.group not in locked[row.source]]


def read_manifest(file: Path) -> list[Row]:
    """Read a manifest CSV; relative paths are taken from the manifest's own folder.

    Raises:
        CorpusError: naming the file, the row and the column at fault.
    """
    if not file.is_file():
        raise CorpusError(f"{file} is not a file: give a manifest CSV with the columns {_columns()}")
    with file.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = {"path", "clip", "group"} - set(reader.fieldnames or ())
        if missing:
            raise CorpusError(f"{file} lacks the column(s) {sorted(missing)}; a manifest has {_columns()}")
        known = {field.name for field in fields(Row)}
        rows = [Row(**{k: (v or "") for k, v in record.items() if k in known}) for record in reader]
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        if not (row.path and row.clip and row.group):
            raise CorpusError(f"{file} line {number}: path, clip and group must not be empty")
        if row.clip in seen:
            raise CorpusError(f"{file} line {number}: clip {row.clip!r} stands there twice; names are unique")
        seen.add(row.clip)
    if not rows:
        raise CorpusError(f"{file} has a header but no rows")
    return [replace(row, path=str(file.parent / row.path)) for row in rows]


def write_manifest(rows: Iterable[Row], file: Path) -> None:
    """Write a manifest CSV under a temporary name and move it into place."""
    with atomic_write(file, "w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _columns() -> str:
    return ", ".join(field.name for field in fields(Row))


def main(
    name: Annotated[Literal["pocus_lung"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    tier: Tier = "nc",
) -> None:
    """Write the manifest of a known dataset, without its locked test part.

    Args:
        name: the dataset.
        folder: where it lies.
        out: the manifest to write.
        tier: open = CC0, CC BY and MIT rows; nc = non-commercial rows too.
    """
    rows = in_tier(without_locked_test(CORPORA[name](folder.resolve())), tier)
    write_manifest(rows, out)
    print(f"{out}: {len(rows)} clips of {len({row.group for row in rows})} groups")  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
