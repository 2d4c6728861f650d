"""Pictures with masks for `usbackbones segment`: three layouts, and which pictures are near-duplicates.

DATA is a folder with images/ and masks/, whose files have the same stems (a mask may end in _mask); BUSI's layout,
`name.png` beside `name_mask.png`, `name_mask_1.png`, ..., in any folders below; or a CSV with the columns image and
mask, and if known group, split and spacing, the mm of a pixel's side or "height|width". Several masks of one picture,
in the CSV joined by "|", mean their union. Where no group is told, every picture is one of its own.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from usbackbones.clips.read import read_clip
from usbackbones.data.dataset import read_table
from usbackbones.data.item import DataError, Item
from usbackbones.data.near_duplicates import fingerprint, near_duplicates
from usbackbones.metrics.segmentation import Spacing

_MASK = re.compile(r"(.+?)_mask(_\d+)?$")
_STILLS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Masked(Item):
    """A picture with its masks; its label is the folder it is in, where that tells a class, else empty.

    Attributes:
        masks: files whose union is the truth; none means that nothing is to be found.
        spacing: height and width of a pixel in mm, as a table tells it.
        value: the value in the masks that is meant, where they tell several things apart; None is all that is bright.
    """

    masks: tuple[Path, ...] = ()
    spacing: Spacing | None = None
    value: int | None = None


def read_masked(data: Path) -> list[Masked]:
    """The pictures of a folder or a CSV, see the module.

    Raises:
        DataError: if there is none, a picture or mask of a table or of images/ is missing, or a table is wrong.
    """
    if data.is_file():
        items = _of_table(data)
    elif (data / "images").is_dir():
        items = _of_folders(data / "images", data / "masks")
    elif data.is_dir():
        items = _of_neighbours(data)
    else:
        raise DataError(f"{data}: no such file or folder; give images/ and masks/, a BUSI folder, or a CSV")
    if not any(item.masks for item in items):
        raise DataError(f"{data} holds no picture with a mask: give images/ and masks/, a BUSI folder, or a CSV")
    return [replace(item, group=item.group or str(item.path)) for item in items]


def copies_of(items: Sequence[Masked]) -> list[tuple[int, int]]:
    """The pairs of items of different groups that are near-duplicates, closest first."""
    prints = np.concatenate([fingerprint(frame_of(item)[None]) for item in items])
    pairs = near_duplicates(prints, [item.group for item in items], progress=len(items) > 2000)
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def frame_of(item: Masked) -> np.ndarray:
    """The picture, gray uint8 [H, W]."""
    return read_clip(item.path).frames[0]


def spacing_of(item: Masked) -> Spacing | None:
    """Height and width of a pixel in mm, as the table or else the file tells; None where neither does."""
    return item.spacing or read_clip(item.path).spacing_mm


def mask_of(item: Masked, shape: tuple[int, int]) -> np.ndarray:
    """The union of the masks, bool [H, W] of the picture's shape.

    Raises:
        DataError: if a mask has another shape than its picture.
    """
    union = np.zeros(shape, bool)
    for file in item.masks:
        gray = _values(file)
        # Bright is 255 of 0 and 255, 1 of 0 and 1, or either after JPEG.
        mask = gray > gray.max() // 2 if item.value is None else gray == item.value
        if mask.shape != shape:
            raise DataError(f"{file} is {mask.shape}, its picture {item.path.name} is {shape}: make them of one size")
        union |= mask
    return union


def _values(file: Path) -> np.ndarray:
    """A mask as it is written, [H, W]; of a NIfTI file the first frame, turned as `read_clip` turns its picture."""
    if file.name.endswith((".nii", ".nii.gz")):
        import nibabel

        voxels: Any = nibabel.load(file)
        return np.asarray(voxels.dataobj).reshape(*voxels.shape[:2], -1)[:, :, 0].T
    with Image.open(file) as picture:
        return np.asarray(picture.convert("L"))


def _of_neighbours(folder: Path) -> list[Masked]:
    """Every still below a folder, with the stills named after it as its masks."""
    masks: dict[Path, list[Path]] = defaultdict(list)
    pictures = []
    for file in sorted(file for file in folder.rglob("*") if file.suffix.lower() in _STILLS):
        match = _MASK.fullmatch(file.stem)
        if match:
            masks[file.with_name(match[1])].append(file)
        else:
            pictures.append(file)
    labels = {file: file.parent.name if file.parent != folder else "" for file in pictures}
    return [Masked(file, labels[file], "", masks=tuple(masks[file.with_suffix("")])) for file in pictures]


def _of_folders(images: Path, masks: Path) -> list[Masked]:
    """The stills of one folder with those of the same stem in another; a picture without a mask is a fault."""
    of: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(masks.iterdir()) if masks.is_dir() else ():
        match = _MASK.fullmatch(file.stem)
        of[match[1] if match else file.stem].append(file)
    pictures = sorted(file for file in images.iterdir() if file.suffix.lower() in _STILLS)
    lacking = [file.name for file in pictures if file.stem not in of]
    if lacking:
        raise DataError(f"{len(lacking)} pictures have no mask in {masks}, as {lacking[0]}: give a black one if empty")
    return [Masked(file, "", "", masks=tuple(of[file.stem])) for file in pictures]


def _of_table(table: Path) -> list[Masked]:
    items = []
    for line, row in enumerate(read_table(table, {"image", "mask"}), start=2):
        files = [table.parent / name for name in (row["image"], *filter(None, (row["mask"] or "").split("|")))]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise DataError(f"{table} line {line}: {missing[0]} does not exist")
        group, part = (str(row.get(name) or "").strip() for name in ("group", "split"))
        spacing = _spacing(str(row.get("spacing") or ""), f"{table} line {line}")
        items.append(Masked(files[0], "", group, part, masks=tuple(files[1:]), spacing=spacing))
    if any(item.group for item in items) and not all(item.group for item in items):
        raise DataError(f"{table}: some rows have a group and some have none: fill them all, or none")
    return items


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
