"""Files that are no clips by their names: what operating systems leave behind, and label maps beside their images."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable
from pathlib import Path

_NAMED = re.compile(r"(.+?)[ _-](?:mask|seg|segmentation|gt|labels?)(?:[ _-]?\d+)?$", re.IGNORECASE)
_FIRST = re.compile(r"(?:mask|seg|segmentation|gt|labels?)([ _-]?\d.*)", re.IGNORECASE)
_IMAGES = ("image", "img", "im", "frame", "")
_LEFT_BEHIND = {
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "@eadir",
}


def is_litter(name: str) -> bool:
    """True for the name of a hidden file or folder (`.DS_Store`, `._a.png`), and for those that systems leave behind.

    Args:
        name: of the entry itself, without the folders that it is in.
    """
    return name.startswith(".") or name.casefold() in _LEFT_BEHIND


def identity_of(path: Path) -> tuple[int, int] | Path:
    """The same for all names of one file or folder, hard links among them; the path itself where it leads nowhere."""
    try:
        status = path.stat()
    except OSError:
        return path
    return status.st_dev, status.st_ino


def real(path: Path) -> Path:
    """Where a path leads; unlike `Path.resolve` it does not raise where links lead in a circle."""
    return Path(os.path.realpath(path))


def stem_of(path: Path) -> str:
    """The name of a file without its ending, of which .nii.gz is one; accents as one character, however stored."""
    return unicodedata.normalize("NFC", path.name[:-7] if path.name.lower().endswith(".nii.gz") else path.stem)


def images_named(path: Path) -> tuple[str, ...]:
    """The stems that the image of a label map may have, none for other names.

    They are "a" of a_mask.png and a_gt.mhd; image_1, img_1, im_1, frame_1 and 1 of mask_1.png, or Image_1 and so on.
    """
    stem = stem_of(path)
    if match := _NAMED.fullmatch(stem):
        return (match[1],)
    match = _FIRST.fullmatch(stem)
    if match is None:
        return ()
    names = (style(name) for name in _IMAGES for style in (str.lower, str.title, str.upper))
    return tuple(dict.fromkeys(f"{name}{match[1]}".lstrip(" _-") for name in names))


def image_named(path: Path, stems: Container[str]) -> str | None:
    """The stem of the image that a label map is named after, if it is among some stems; else None."""
    return next((stem for stem in images_named(path) if stem in stems), None)


def label_maps(paths: Iterable[Path]) -> set[Path]:
    """Those of the paths that are named after another one in the same folder."""
    paths, there = list(paths), defaultdict[Path, set[str]](set)
    for path in paths:
        there[path.parent].add(stem_of(path))
    return {path for path in paths if image_named(path, there[path.parent]) is not None}
