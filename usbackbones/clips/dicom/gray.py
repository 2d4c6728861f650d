"""Samples of a DICOM frame -> gray uint8, and whether they hold color.

Gray samples of up to 8 bits are taken as they are (fewer bits over the full range): an ultrasound scanner stores what
its screen showed, and a clip must look the same whether it was exported as DICOM or as a video. For more bits the range
is, in this order: the window of the frame or of the header, or its table, as PS3.3 C.11.2 has them, since that is what
the scanner or a reader chose to see; the smallest and largest pixel value of the header; all that Bits Stored can hold.
It is never the range of the pixels themselves: that would give a frame another gray with each frame read beside it, and
make noise of an empty one. MONOCHROME1 is inverted, so that bright is always bright.
"""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from usbackbones.clips.dicom.header import number
from usbackbones.clips.dicom.pixels import PARTIAL, Picture
from usbackbones.clips.dicom.quiet import quiet
from usbackbones.clips.dicom.window import is_range_told, share_of_white
from usbackbones.clips.formats.base import PARSER_ERRORS, luma
from usbackbones.clips.formats.watch import is_vivid

if TYPE_CHECKING:
    from pydicom import Dataset

_COLORS = ("Red", "Green", "Blue")
_TABLES = [f"{part}{color}PaletteColorLookupTableData" for part in ("", "Segmented") for color in _COLORS]


def gray_table(dataset: "Dataset", picture: Picture) -> np.ndarray:
    """What each stored value is shown as: uint8 [2^stored], by the rule above; signed values by their bits."""
    stored = picture.stored or 8
    values = np.arange(1 << stored, dtype=np.float64)
    if picture.signed:
        values[1 << (stored - 1) :] -= 1 << stored
    if stored > 8:
        share, inverted = share_of_white(dataset, values), False
    else:
        share = (values - values.min()) / max(values.max() - values.min(), 1)
        inverted = (number(dataset, "RescaleSlope") or 1.0) < 0
    # Down, not to the nearest: the 256 levels are then of one width, and 16 bits come out as in a 16-bit PNG.
    shown = np.minimum(share * 256, 255) if stored > 8 else np.round(share * 255)
    shown = shown.astype(np.uint8)
    return 255 - shown if (picture.photometric == "MONOCHROME1") != inverted else shown


def palette_table(dataset: "Dataset", picture: Picture, little: bool) -> np.ndarray | None:
    """The RGB that each stored value stands for, uint8 [2^stored, 3]; None where the palette is damaged.

    Args:
        dataset: header.
        picture: with the bits that count.
        little: whether the words of the file are little-endian, as pydicom takes those of every palette to be.
    """
    from pydicom.pixels import apply_color_lut

    stored = picture.stored or 8
    try:
        with quiet():
            for element in () if little else [element for element in dataset if element.keyword in _TABLES]:
                element.value = np.frombuffer(element.value, np.uint16).byteswap().tobytes()
            values = np.arange(1 << stored, dtype=np.int32)
            if picture.signed:
                values[1 << (stored - 1) :] -= 1 << stored
            colors = apply_color_lut(values, dataset)
    except PARSER_ERRORS:
        return None
    if colors.shape != (1 << stored, 3):
        return None
    # Words of 16 bits hold 8 in their low byte, or 16 of which the high byte counts. The descriptor's word for it is
    # wrong as often as right, so the values decide.
    return (colors >> 8 if colors.max() > 255 else colors).astype(np.uint8)


class Shade:
    """Turns the samples of one file into gray.

    Attributes:
        picture: the description of its frames.
        guessed: True for gray of more than 8 bits whose range is all that they can hold, as the header tells none.

    Raises:
        ValueError: if it has a palette that cannot be read.
    """

    def __init__(self, dataset: "Dataset", picture: Picture, little: bool) -> None:
        self.picture, self.palette, self.table, self.guessed = picture, None, None, False
        if picture.samples == 3:
            return
        if picture.photometric == "PALETTE COLOR":
            self.palette = palette_table(dataset, picture, little)
            if self.palette is None:
                raise ValueError("the palette is missing or damaged")
            self.table = luma(Image.fromarray(self.palette[None]))[0]
        else:
            self.table = gray_table(dataset, picture)
            self.guessed = (picture.stored or 8) > 8 and not is_range_told(dataset)

    def gray(self, samples: np.ndarray, luminance: bool) -> np.ndarray:
        """Gray uint8 [H, W] of samples [H, W] or [H, W, 3]; `luminance` where the three are luma and chroma."""
        if self.table is not None:
            return self.table[self.numbers(samples)]
        samples = self._ybr(samples) if luminance else self._bytes(samples)
        return samples[..., 0].copy() if luminance else luma(Image.fromarray(samples))

    def is_color(self, samples: np.ndarray, luminance: bool) -> bool:
        """Whether pixels are vivid as those of color Doppler are; B-mode in a tint is not."""
        if self.table is not None and self.palette is None:
            return False
        part = samples[::2, ::2]
        if self.palette is not None:
            part = self.palette[self.numbers(part)]
        elif luminance:
            part = np.asarray(Image.fromarray(self._ybr(part), "YCbCr").convert("RGB"))
        else:
            part = self._bytes(part)
        return is_vivid(part)

    def numbers(self, samples: np.ndarray) -> np.ndarray:
        """Stored values as places in a table: bits that do not count are cut off, signs are left to the table."""
        return samples.view(f"u{samples.itemsize}") >> self.picture.shift & ((1 << (self.picture.stored or 8)) - 1)

    def values(self, samples: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Values int32 [H, W] of gray samples, with their sign; the least and the greatest that their bits can hold."""
        levels = 1 << (self.picture.stored or 8)
        low = -levels // 2 if self.picture.signed else 0
        return (self.numbers(samples).astype(np.int32) ^ -low) + low, low, low + levels - 1

    def _ybr(self, samples: np.ndarray) -> np.ndarray:
        """Luma and chroma uint8 [H, W, 3] of the full range 0..255."""
        samples = self._bytes(samples)
        if self.picture.photometric not in PARTIAL:
            return samples
        low, width = np.array([16, 128, 128]), np.array([219, 224, 224])  # chroma is centered on 128
        return np.clip(np.round((samples - low) * (255 / width) + [0, 128, 128]), 0, 255).astype(np.uint8)

    def _bytes(self, samples: np.ndarray) -> np.ndarray:
        picture = self.picture
        if samples.itemsize > 1:
            samples = samples.view(f"u{samples.itemsize}") >> picture.shift + max((picture.stored or 16) - 8, 0)
        return np.ascontiguousarray(samples, np.uint8)
