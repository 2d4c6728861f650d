"""Rescale and window samples of more than 8 bits as the DICOM header asks, in shares of white: PS3.3 C.11.1, C.11.2.

Enhanced multi-frame files keep window, rescaling and pixel spacing in functional groups (C.7.6.16): one item of a
sequence for all frames, and one for each. A macro of the frame's item takes the place of the shared one, and either
that of the header's own elements, whole: never the center of one window with the width of another.

The modality comes first, rescaling or a table, and then the window, by any of its three functions, or a VOI table.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from usbackbones.clips.dicom.header import number, numbers, word
from usbackbones.clips.dicom.quiet import quiet
from usbackbones.clips.formats.base import PARSER_ERRORS

if TYPE_CHECKING:
    from pydicom import Dataset

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def share_of_white(dataset: "Dataset", values: np.ndarray) -> np.ndarray:
    """Shares 0..1, float64 [N], of every value that can be stored, float64 [N], signed where the samples are.

    Raises:
        ValueError: if a table is damaged.
    """
    slope, intercept = number(dataset, "RescaleSlope") or 1.0, number(dataset, "RescaleIntercept") or 0.0
    low, high = values.min(), values.max()
    has_table = bool(dataset.get("ModalityLUTSequence"))
    if has_table:
        shown = _through_table(dataset, "ModalityLUTSequence", values)
        low, high = 0.0, _top(dataset, "ModalityLUTSequence")
    else:
        shown = values * slope + intercept
    if window := _window(dataset):
        return _windowed(shown, *window)
    if dataset.get("VOILUTSequence"):
        return _through_table(dataset, "VOILUTSequence", shown) / _top(dataset, "VOILUTSequence")
    if has_table:
        return shown / high
    low, high = _extremes(dataset) or (low, high)
    share = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    return 1 - share if slope < 0 else share


def is_range_told(dataset: "Dataset") -> bool:
    """Whether the header says what is black and white: by a window, a table, or the values that there are."""
    tables = any(dataset.get(keyword) for keyword in ("VOILUTSequence", "ModalityLUTSequence"))
    return tables or bool(_window(dataset) or _extremes(dataset))


def _window(dataset: "Dataset") -> tuple[str, float, float] | None:
    """Function, center and width; None where there is no window, or none of a width that can be."""
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    function = word(dataset, "VOILUTFunction", _FUNCTIONS) or "LINEAR"
    if center is None or width is None or not (width >= 1 or (width > 0 and function != "LINEAR")):
        return None
    return function, center, width


def _extremes(dataset: "Dataset") -> tuple[float, float] | None:
    """The smallest and the largest pixel value by the header."""
    smallest, largest = number(dataset, "SmallestImagePixelValue"), number(dataset, "LargestImagePixelValue")
    return (smallest, largest) if smallest is not None and largest is not None and smallest < largest else None


def _windowed(values: np.ndarray, function: str, center: float, width: float) -> np.ndarray:
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    low, high = center - width / 2, center + width / 2
    if function == "LINEAR":
        low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    return np.clip((values - low) / max(high - low, 1e-9), 0, 1)


def _through_table(dataset: "Dataset", keyword: str, values: np.ndarray) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi

    apply = apply_modality_lut if keyword == "ModalityLUTSequence" else apply_voi
    try:
        with quiet():
            return np.asarray(apply(np.round(values).astype(np.int64), dataset), np.float64)
    except PARSER_ERRORS:
        raise ValueError("its lookup table is damaged") from None


def _top(dataset: "Dataset", keyword: str) -> float:
    """The largest value that a table can give."""
    try:
        with quiet():
            bits = int(dataset[keyword][0].LUTDescriptor[2])
    except PARSER_ERRORS:
        raise ValueError("its lookup table is damaged") from None
    return float((1 << bits) - 1)


_SPACING = "PixelMeasuresSequence"
_MACROS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
}


class FunctionalGroups:
    """The header as it holds for each frame of a file, which is the header itself in all files but Enhanced ones.

    Attributes:
        count: frames that have an item of their own; 0 where nothing is kept by frame.
    """

    def __init__(self, dataset: "Dataset") -> None:
        self._dataset = dataset
        self._shared = _items(dataset, "SharedFunctionalGroupsSequence")[:1]
        self._frames = _items(dataset, "PerFrameFunctionalGroupsSequence")
        self.count = len(self._frames)
        self._last: tuple[list[Dataset | None], Dataset] = [None] * len(_MACROS), dataset

    def header(self, index: int) -> "Dataset":
        """The header with the window and the rescaling of a frame; the same object for neighbors that have the same."""
        if not self._frames and not self._shared:
            return self._dataset
        found = [self._macro(name, index) for name in _MACROS]
        if not _same(found, self._last[0]):
            self._last = found, self._merged(found)
        return self._last[1]

    def spacings(self, promised: int) -> set[tuple[float, ...]]:
        """Pixel Spacing (0028,0030) of all frames, each value once, as it is written; empty tuples where none is.

        Args:
            promised: number of frames by the header; those without an item have what is shared.
        """
        indices = range(self.count + (promised > self.count))
        return {numbers(self._macro(_SPACING, index) or self._dataset, "PixelSpacing") for index in indices}

    def _macro(self, name: str, index: int) -> "Dataset | None":
        for group in (*self._frames[index : index + 1], *self._shared):
            if items := _items(group, name):
                return items[0]
        return None

    def _merged(self, found: "list[Dataset | None]") -> "Dataset":
        from pydicom import Dataset

        if not any(item is not None for item in found):
            return self._dataset
        merged = Dataset()
        merged.update(self._dataset)
        merged.set_original_encoding(*self._dataset.original_encoding)  # the byte order of tables
        for item, keywords in zip(found, _MACROS.values(), strict=True):
            for keyword in keywords if item is not None else ():
                if keyword in merged:
                    del merged[keyword]
                if item is not None and keyword in item:
                    element: Any = item.get_item(keyword)  # not converted, which fails where it is damaged
                    merged[element.tag] = element
        return merged


def _items(dataset: "Dataset", keyword: str) -> "list[Dataset]":
    try:
        with quiet():
            return [item for item in dataset.get(keyword) or () if hasattr(item, "get_item")]
    except PARSER_ERRORS:
        return []


def _same(found: "list[Dataset | None]", other: "list[Dataset | None]") -> bool:
    try:
        with quiet():
            return found == other
    except PARSER_ERRORS:  # a value that cannot be read
        return False
