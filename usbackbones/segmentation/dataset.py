"""Images with masks for `usbackbones segment`: three layouts.

DATA is a folder with images/ and masks/, whose files have the same stems (a mask may end in _mask, _seg, _gt or
_label); BUSI's layout, `name.png` beside `name_mask.png`, `name_mask_1.png`, ..., in any folders below; or a CSV with
the columns image and mask, and if known split, spacing (the mm of a pixel's side or "height|width") and one that tells
patients apart, see `usbackbones.data.patients`. Several masks of one image, in the CSV joined by "|", mean their
union. Images and masks are whatever `read_clip` reads; of volumes and stacks every frame is an image with its mask.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from usbackbones._words import plural
from usbackbones.clips.files import (
    claims_clip,
    entries,
    files_below,
    identity_of,
    image_named,
    images_named,
    label_maps,
    passed_over,
    shortened,
    stem_of,
)
from usbackbones.data.each_once import each_once, in_natural_order
from usbackbones.data.item import PARTS, DataError, Note
from usbackbones.data.patients import grouped, name_pattern, silent, tells_patients, told_patients, with_groups
from usbackbones.data.table import other_columns, read_table
from usbackbones.metrics.segmentation import Spacing
from usbackbones.segmentation.look import Answers, look_at
from usbackbones.segmentation.masked import Masked

_GIVE = "give a folder with images/ and masks/, a folder laid out as BUSI, or a CSV with the columns image,mask"


def read_masked(
    data: Path,
    answers: Answers | None = None,
    *,
    group_from: str = "",
    note: Note = silent,
    progress: bool = False,
) -> list[Masked]:
    """The images of a folder or a CSV frame by frame, see the module.

    Args:
        data: the folder or the table.
        answers: to what the masks leave open.
        group_from: a regular expression with one bracket that finds the group in a file's name, as `^([0-9]+)_`.
        note: gets lines to show: patients and who tells them, frames, the meaning of the masks, what is passed over.
        progress: show a bar.

    Raises:
        DataError: if there is none, an image or mask of a table or of images/ is missing, a table is wrong, masks do
            not fit their images, or nobody can know what they mean.
    """
    pattern = name_pattern(group_from)
    if data.is_file():
        items = _of_table(data, note)
    elif (data / "images").is_dir():
        items = _of_folders(data, note)
    elif data.is_dir():
        items = _of_neighbors(data, note)
    else:
        raise DataError(f"{data}: no such file or folder; {_GIVE}")
    if not any(item.masks for item in items):
        raise DataError(f"{data} holds no image with a mask: {_GIVE}")
    items = with_groups(each_once(items, note), pattern, note)
    note(told_patients(items))
    return look_at(_strata(items), answers or Answers(), note, progress)


def _of_neighbors(folder: Path, note: Note) -> list[Masked]:
    """Every image below a folder, with the files named after it as its masks."""
    everything = list(files_below(folder))
    files = [file for file in everything if claims_clip(file)]
    stems, masks = defaultdict[Path, set[str]](set), defaultdict[Path, list[Path]](list)
    for file in files:
        stems[file.parent].add(stem_of(file))
    for file in files:
        if (stem := image_named(file, stems[file.parent])) is not None:
            masks[file.with_name(stem)].append(file)
    named = {file for files in masks.values() for file in files}
    others = [file for file in files if file not in named]
    # A file called as x_mask is no image even where its own is lost, unless it has a mask itself.
    images = [file for file in others if file.with_name(stem_of(file)) in masks or not images_named(file)]
    used = named | set(images)
    _say(passed_over(_unused(everything, used), folder, "that are neither an image nor a mask of one"), note)
    bare = [file.relative_to(folder).as_posix() for file in images if file.with_name(stem_of(file)) not in masks]
    if bare and masks:
        note(f"images without a mask count as showing nothing, {len(bare)}: {shortened(bare)}")
    labels = {file: file.parent.name if file.parent != folder else "" for file in images}
    return [Masked(file, labels[file], "", masks=tuple(masks[file.with_name(stem_of(file))])) for file in images]


def _of_folders(data: Path, note: Note) -> list[Masked]:
    """The images of images/ with those of the same stem in masks/; an image without a mask is a fault."""
    images, masks = data / "images", data / "masks"
    of: dict[str, list[Path]] = defaultdict(list)
    there = sorted(file for file in entries(images) if file.is_file())
    beside, stems = label_maps(there), {stem_of(file) for file in there}
    inside = [file for file in entries(masks) if file.is_file() and claims_clip(file)] if masks.is_dir() else []
    for file in sorted(inside):
        for stem in {stem_of(file), image_named(file, stems) or stem_of(file)}:
            of[stem].append(file)
    pictures = [file for file in there if claims_clip(file) and file not in beside]
    lacking = [file.name for file in pictures if stem_of(file) not in of]
    if lacking:
        raise DataError(
            f"{plural(len(lacking), 'image')} without a mask in {masks}, as {shortened(lacking)}: give a black one "
            "if empty"
        )
    used = {*pictures, *(mask for file in pictures for mask in of[stem_of(file)])}
    _say(passed_over(_unused(files_below(data), used), data, "beside images with their masks"), note)
    return [Masked(file, "", "", masks=tuple(of[stem_of(file)])) for file in pictures]


def _of_table(table: Path, note: Note) -> list[Masked]:
    rows = read_table(table, {"image", "mask"})
    items, faults = [], []
    for row in rows:
        names = (row["image"] or "", *filter(None, (row["mask"] or "").split("|")))
        files, part = [table.parent / name.strip() for name in names], str(row.get("split") or "").strip()
        missing = [file for file in files if not file.is_file()]
        if missing:
            fault = "is a folder" if missing[0].is_dir() else "does not exist"
            faults.append(f"line {row.line}: {missing[0]} {fault}")
        elif part not in ("", *PARTS):
            faults.append(f"line {row.line}: split {part!r} is none of {', '.join(PARTS)}")
        spacing = _spacing(str(row.get("spacing") or ""), f"{table} line {row.line}")
        items.append(Masked(files[0], "", "", part, masks=tuple(files[1:]), spacing=spacing))
    patients = filter(tells_patients, rows[0] if rows else ())
    known = {"image", "mask", "split", "spacing", *patients}
    _say(other_columns(rows, known, "an image, mask, split, spacing or patient"), note)
    if faults:
        raise DataError(f"{table}: {'; '.join(faults[:5])}" + f" and {len(faults) - 5} more" * (len(faults) > 5))
    return in_natural_order(grouped(items, table, rows, note))


def _unused(files: Iterable[Path], used: set[Path]) -> list[Path]:
    """The files that are neither used, by whatever name, nor the data of a header that is."""
    identities = {identity_of(file) for file in used}
    headers = {(identity_of(file.parent), file.stem) for file in used if file.suffix.lower() == ".mhd"}
    return [
        file
        for file in files
        if identity_of(file) not in identities and (identity_of(file.parent), file.stem) not in headers
    ]


def _strata(items: list[Masked]) -> list[Masked]:
    """The items with their labels if each has enough groups to be in all parts; else without, as one stratum."""
    groups: dict[str, set[str]] = defaultdict(set)
    for item in items:
        groups[item.label].add(item.group)
    return items if min(map(len, groups.values())) >= len(PARTS) else [replace(item, label="") for item in items]


def _say(line: str, note: Note) -> None:
    if line:
        note(line)


def _spacing(told: str, where: str) -> Spacing | None:
    """A cell of the column spacing, as 0.12 or 0.12|0.1; None where it is empty."""
    if not told.strip():
        return None
    try:
        sides = [float(side) for side in told.split("|")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or not all(0 < side < float("inf") for side in sides):
        raise DataError(f"{where}: spacing is {told!r}: give the mm of a pixel's side, or height|width")
    return sides[0], sides[-1]
