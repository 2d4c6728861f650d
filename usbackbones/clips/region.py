"""Where the B-mode region of a DICOM file lies on its screen."""

from pathlib import Path

from usbackbones.clips.dicom.header import read_header
from usbackbones.clips.dicom.regions import read_layout
from usbackbones.clips.formats.kinds import file_kind
from usbackbones.clips.read import read_clip

Box = tuple[int, int, int, int]
"""(top, left, bottom, right), end exclusive, in pixels of the whole screen."""


def region_of(path: Path) -> tuple[tuple[int, int], Box] | None:
    """Size (rows, columns) of the whole screen and the region that `read_clip` cuts out; None where it cuts nothing.

    Raises:
        ClipError: if it cannot be read.
    """
    kind = file_kind(path)
    if kind is None or kind[0] != "dicom":
        return None
    rows, columns = read_clip(path, max_frames=1, crop=False).frames.shape[1:]
    tissue = read_layout(read_header(path, kind[1] == "bare").dataset, (rows, columns)).tissue
    return ((rows, columns), tissue.box) if tissue else None
