"""Files that are no clips by their names: what operating systems leave behind, and label maps beside their images."""

import re
from collections.abc import Iterable
from pathlib import Path

_NAMED = re.compile(r"(.+?)[ _-](?:mask|seg|segmentation|gt|labels?)(?:[ _-]?\d+)?$", re.IGNORECASE)
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


def stem_of(path: Path) -> str:
    """The name of a file without its ending, of which .nii.gz is one."""
    return path.name[:-7] if path.name.lower().endswith(".nii.gz") else path.stem


def image_named(path: Path) -> str | None:
    """The stem of the image that a label map is named after, "a" of a_mask.png or a_gt.mhd; None for other names."""
    match = _NAMED.fullmatch(stem_of(path))
    return match[1] if match else None


def label_maps(paths: Iterable[Path]) -> set[Path]:
    """Those of the paths that are named after another one in the same folder."""
    paths = list(paths)
    there = {(path.parent, stem_of(path)) for path in paths}
    return {path for path in paths if (path.parent, image_named(path)) in there}
