"""Sequence of Ultrasound Regions (0018,6011): what stands where on the screen, and how large a pixel is.

Codes are those of PS3.3, C.8.5.5.1: Region Spatial Format, Region Data Type and Physical Units Direction.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usbackbones.clips.dicom.header import number
from usbackbones.clips.dicom.quiet import quiet
from usbackbones.clips.formats.base import PARSER_ERRORS

if TYPE_CHECKING:
    from pydicom import Dataset

_TWO_D, _TISSUE, _COLOR_FLOW, _CENTIMETRES = 1, 1, 2, 3
_FORMATS = {2: "M-mode", 3: "spectral Doppler", 4: "a waveform", 5: "graphics"}
_PIXEL_MM = (0.001, 10.0)  # a pixel outside of this is no ultrasound image's


@dataclass(frozen=True)
class Region:
    """One region.

    Attributes:
        spatial: Region Spatial Format; 1 is 2D.
        data: Region Data Type; 1 is tissue, 2 color flow.
        box: (top, left, bottom, right), end exclusive, in pixels of the whole picture.
        spacing_mm: (row, column) size of a pixel; None where it is not in centimetres or not to be believed.
    """

    spatial: int
    data: int
    box: tuple[int, int, int, int]
    spacing_mm: tuple[float, float] | None

    @property
    def area(self) -> int:
        """Pixels."""
        top, left, bottom, right = self.box
        return (bottom - top) * (right - left)


@dataclass(frozen=True)
class Layout:
    """What the regions together say.

    Attributes:
        tissue: the B-mode region; None where none is named.
        color: True where one of them holds color flow.
        notes: what a user should know, one line each.
    """

    tissue: Region | None
    color: bool
    notes: tuple[str, ...]


def read_layout(dataset: "Dataset", shape: tuple[int, int]) -> Layout:
    """Find the B-mode region of a picture of (rows, columns).

    It is the largest 2D region of tissue, else the largest 2D region of color flow, which lies over tissue. A box
    that is empty or leaves the picture is left out with a note: such a picture was cut or resized after the scanner
    wrote the header, so that neither the place nor the size of a pixel is true of it any more.
    """
    items, notes = _items(dataset), []
    regions = [region for item in items if (region := _region(item, shape))]
    if len(regions) < len(items):
        outside = len(items) - len(regions)
        notes.append(
            f"{outside} of {len(items)} ultrasound regions leave the picture and were left out, with their scale"
        )
    flat = [region for region in regions if region.spatial == _TWO_D]
    tissue = [region for region in flat if region.data == _TISSUE]
    flow = [region for region in flat if region.data == _COLOR_FLOW]
    largest = max(tissue or flow, key=lambda region: region.area, default=None)
    if len(tissue) > 1 and any(_apart(largest.box, other.box) for other in tissue if largest):
        notes.append(f"{len(tissue)} B-mode regions; the largest was taken")
    traces = sorted({_FORMATS[region.spatial] for region in regions if region.spatial in _FORMATS})
    if traces:
        notes.append(f"the screen also holds {' and '.join(traces)}")
    if largest and largest.spacing_mm is None:
        notes.append("the B-mode region tells no size of a pixel in centimetres that can be believed")
    return Layout(largest, bool(flow), tuple(notes))


def pixel_spacing(told: Collection[tuple[float, ...]]) -> tuple[float, float] | None:
    """Pixel size (row, column) in mm of all that a file tells; None for several, or one that cannot be believed."""
    return _believed(next(iter(told))) if len(told) == 1 else None


def _items(dataset: "Dataset") -> "list[Dataset]":
    try:
        with quiet():
            return [item for item in dataset.get("SequenceOfUltrasoundRegions") or () if hasattr(item, "get")]
    except PARSER_ERRORS:
        return []


def _region(item: "Dataset", shape: tuple[int, int]) -> Region | None:
    corners = [number(item, f"RegionLocation{name}") for name in ("MinY0", "MinX0", "MaxY1", "MaxX1")]
    if None in corners:
        return None
    top, left, bottom, right = (int(corner or 0) for corner in corners)
    # The last row and column belong to the region. Some scanners write their number instead: one too many.
    if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
        return None
    box = (top, left, min(bottom + 1, shape[0]), min(right + 1, shape[1]))
    units = [number(item, f"PhysicalUnits{axis}Direction") for axis in "YX"]
    # An axis that points up has a negative step.
    steps = [abs(number(item, f"PhysicalDelta{axis}") or 0) * 10 for axis in "YX"]
    spacing = _believed(tuple(steps)) if units == [_CENTIMETRES, _CENTIMETRES] else None
    spatial, data = (int(number(item, f"Region{name}") or 0) for name in ("SpatialFormat", "DataType"))
    return Region(spatial, data, box, spacing)


def _believed(steps: tuple[float, ...]) -> tuple[float, float] | None:
    if len(steps) != 2 or not all(_PIXEL_MM[0] <= step <= _PIXEL_MM[1] for step in steps):
        return None
    return steps[0], steps[1]


def _apart(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return box[0] >= other[2] or other[0] >= box[2] or box[1] >= other[3] or other[1] >= box[3]
