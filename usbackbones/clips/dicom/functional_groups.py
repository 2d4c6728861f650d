"""Functional groups of Enhanced multi-frame DICOM: window, rescaling and pixel spacing by frame, PS3.3 C.7.6.16.

Such a file keeps them in no element of its own, but in two sequences: one item for all frames, and one for each frame.
A macro of the frame's item takes the place of the shared one, and either that of the header's own elements, whole: of
two windows one is taken, and never the center of one with the width of the other.
"""

from typing import TYPE_CHECKING, Any

from usbackbones.clips.dicom.header import numbers
from usbackbones.clips.dicom.quiet import quiet
from usbackbones.clips.formats.base import PARSER_ERRORS

if TYPE_CHECKING:
    from pydicom import Dataset

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
