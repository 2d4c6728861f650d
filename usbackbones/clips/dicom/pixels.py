"""Pixel layout of a DICOM file by its header: sizes, bits and colors."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usbackbones.clips.dicom.header import number, word
from usbackbones.clips.formats.base import MAX_PIXELS, ClipError

if TYPE_CHECKING:
    from pydicom import Dataset

GRAY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
THINNED = ("YBR_FULL_422", "YBR_PARTIAL_422")
"""Two neighbors in a row share their chroma: four bytes are luma, luma, Cb, Cr."""
PARTIAL = ("YBR_PARTIAL_422", "YBR_PARTIAL_420")
"""Retired: luma lies in 16..235 and chroma in 16..240, as on video tape."""
TRANSFORMED = ("YBR_ICT", "YBR_RCT")
"""What JPEG 2000 makes of RGB, and undoes."""
COLOR = ("RGB", "YBR_FULL", *THINNED, "YBR_PARTIAL_420", *TRANSFORMED)
UNREAD_COLOR = ("HSV", "ARGB", "CMYK", "XYB")
"""Retired, or of JPEG XL alone."""

ALLOCATED = (8, 16)
"""Bits that a sample takes."""


@dataclass(frozen=True)
class Picture:
    """One frame, as its header describes it. None stands for what is missing or senseless there.

    Attributes:
        shape: (rows, columns).
        samples: 1 or 3 a pixel.
        allocated: bits that a sample takes, 8 or 16.
        stored: bits of them that count.
        shift: bits below those that count; 0 where High Bit is one less than Bits Stored, as it nearly always is.
        signed: whether samples are two's complements.
        planes: whether the three samples stand in planes, one after the other.
        photometric: one of GRAY or COLOR.
        frames: how many are promised.
    """

    shape: tuple[int, int] | None
    samples: int | None
    allocated: int | None
    stored: int | None
    shift: int
    signed: bool
    planes: bool
    photometric: str | None
    frames: int | None

    def frame_bytes(self, path: Path) -> int:
        """Bytes of an uncompressed frame.

        Raises:
            ClipError: where the header does not tell, or contradicts itself.
        """
        told = {"Rows and Columns": self.shape, "Bits Allocated of 8 or 16": self.allocated}
        missing = [name for name, value in told.items() if not value]
        if missing or self.shape is None or self.allocated is None:
            raise ClipError(f"{path}: the DICOM header tells no {' and no '.join(missing)}; export it again")
        samples = self.samples or (3 if self.photometric in COLOR else 1)
        if self.photometric and (self.photometric in COLOR) != (samples == 3):
            raise ClipError(
                f"{path}: the DICOM header contradicts itself, {self.photometric} and {samples} samples a pixel; "
                "export it again"
            )
        if self.photometric == "YBR_PARTIAL_420":
            raise ClipError(f"{path}: uncompressed YBR_PARTIAL_420, whose layout DICOM does not tell; export it as RGB")
        rows, columns = self.shape
        if self.photometric in THINNED:
            return rows * (columns + columns % 2) * 2
        return rows * columns * samples * self.allocated // 8


def read_picture(dataset: "Dataset") -> Picture:
    """Read the description; whether it suffices depends on how the frames are compressed."""

    def whole(keyword: str) -> int | None:
        value = number(dataset, keyword)
        return int(value) if value is not None and 0 < value < 2**31 else None

    rows, columns = whole("Rows"), whole("Columns")
    allocated, samples, stored = whole("BitsAllocated"), whole("SamplesPerPixel"), whole("BitsStored")
    shape = (rows, columns) if rows and columns and rows * columns <= MAX_PIXELS else None
    high = number(dataset, "HighBit")
    shift = int(high) + 1 - stored if high is not None and stored else 0
    return Picture(
        shape,
        samples if samples in (1, 3) else None,
        allocated if allocated in ALLOCATED else None,
        stored if stored and stored <= 16 else None,
        shift,
        signed=number(dataset, "PixelRepresentation") == 1,
        planes=number(dataset, "PlanarConfiguration") == 1,
        photometric=word(dataset, "PhotometricInterpretation", GRAY + COLOR + UNREAD_COLOR),
        frames=whole("NumberOfFrames"),
    )
