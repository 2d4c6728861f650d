"""Label maps: files that outline what their neighbor shows, as `a_mask.png` beside `a.png`; none is a clip."""

import re
from collections.abc import Iterable
from pathlib import Path

_NAMED = re.compile(r"(.+?)[ _-](?:mask|seg|segmentation|gt|labels?)(?:[ _-]?\d+)?$", re.IGNORECASE)


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
