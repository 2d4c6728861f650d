"""Rescale and window samples of more than 8 bits as the DICOM header asks, in shares of white: PS3.3 C.11.1, C.11.2.

The modality comes first, rescaling or a table, and then the window, by any of its three functions, or a VOI table.
"""

from typing import TYPE_CHECKING

import numpy as np

from usbackbones.clips.dicom.header import number, word
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
