"""The header of a DICOM file: numbers, known words and pseudonyms of it, and where the pixels begin.

Only the elements named in `_WANTED` are read, none as a whole data set, and no text of theirs is handed on: what a
header says may be anybody's name, even where the standard wants a code. Errors therefore quote numbers and words of
fixed lists alone, and those of pydicom, which quote values, are neither shown nor chained.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from usbackbones.clips.dicom.quiet import quiet
from usbackbones.clips.formats.base import PARSER_ERRORS, ClipError
from usbackbones.clips.formats.inflate import deflate_form, inflated

if TYPE_CHECKING:
    from pydicom import Dataset

Clock = Callable[[int], float | None]
"""The time of a frame in seconds, by its number; None where the header does not tell."""
INSTALL = "pip install 'usbackbones[dicom]'"
_WANTED = (
    *("SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"),
    *("SmallestImagePixelValue", "LargestImagePixelValue", "RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "ModalityLUTSequence"),
    *(f"{color}PaletteColorLookupTableDescriptor" for color in ("Red", "Green", "Blue")),
    *(f"{color}PaletteColorLookupTableData" for color in ("Red", "Green", "Blue")),
    *(f"Segmented{color}PaletteColorLookupTableData" for color in ("Red", "Green", "Blue")),
    *("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"),
    *("PixelSpacing", "SequenceOfUltrasoundRegions"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"),
)
_EXPLICIT_BIG, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_IMPLICIT = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.20", "1.2.840.113619.5.2")  # the last two only to be named
_PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)


@dataclass(frozen=True)
class Header:
    """What was read before the pixels.

    Attributes:
        dataset: the wanted elements; ask it through `numbers`, `number` and `word`, which never raise.
        syntax: transfer syntax UID; compare it, but never show it.
        offset: where the value of the pixel data begins, in the inflated part of a deflated file.
        length: its bytes by its own account; None for frames in fragments, which is how compressed ones are kept.
        swapped: True for 8-bit pixels written as big-endian 16-bit words, whose pairs of bytes stand the wrong way.
        body: where a deflated part begins; None in other files.
        little: whether numbers are little-endian.
    """

    dataset: "Dataset"
    syntax: str
    offset: int
    length: int | None
    swapped: bool
    body: int | None
    little: bool

    def open_pixels(self, file: BinaryIO) -> BinaryIO:
        """The file that stands at the value of the pixel data, inflated as it is read where need be."""
        stream = file if self.body is None else inflated(file, self.body, deflate_form(file, self.body))
        stream.seek(self.offset)
        return stream


def read_header(path: Path, bare: bool) -> Header:
    """Read up to the pixels of a file that, if `bare`, lacks the preamble of 128 bytes and "DICM".

    Raises:
        ClipError: without pydicom, without pixels, or where the header cannot be followed to them.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise ClipError(f"{path}: a DICOM file, and pydicom is not installed; {INSTALL}") from None
    fault = "its header is damaged or cut short"
    try:
        with path.open("rb") as file, quiet():
            header = _follow(file, 0 if bare else 132)
    except PARSER_ERRORS:
        header = None
    if header is None:  # outside of the handler, so that the error carries no other one that quotes the header
        raise ClipError(f"{path}: a DICOM file without pixels that can be found, or {fault}; export it again")
    return header


def _follow(file: BinaryIO, start: int) -> Header | None:
    from pydicom.datadict import tag_for_keyword
    from pydicom.filereader import read_dataset

    seen: list[tuple[str | None, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            seen.append((vr, length))
        return tag in _PIXELS

    file.seek(start)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2, specific_tags=[0x00020010])
    body = file.tell()
    syntax = str(meta.get("TransferSyntaxUID", "") or "")
    # Without the meta group nothing tells the encoding; pydicom finds out whether VRs are written.
    implicit, little = syntax in _IMPLICIT, syntax != _EXPLICIT_BIG
    deflated = syntax == _DEFLATED
    stream = inflated(file, body, deflate_form(file, body)) if deflated else file
    wanted = [tag for keyword in _WANTED if (tag := tag_for_keyword(keyword)) is not None]
    dataset = read_dataset(stream, implicit, little, stop_when=at_pixels, specific_tags=list(wanted))
    if not seen:
        return None
    vr, length = seen[0]
    offset = stream.tell() + (12 if vr in ("OB", "OW", "UN", "OF", "OD") else 8)
    bits = number(dataset, "BitsAllocated")
    return Header(
        dataset,
        syntax,
        offset,
        None if length == 0xFFFFFFFF else length,
        swapped=not little and vr == "OW" and bits == 8,
        body=body if deflated else None,
        little=little,
    )


def numbers(dataset: "Dataset", keyword: str) -> tuple[float, ...]:
    """The finite numbers of an element; empty where it is missing, is none, or cannot be read."""
    try:
        with quiet():
            value: Any = dataset.get(keyword, ())
            several: list[Any] = [value] if isinstance(value, (int, float, str)) else list(value)
            found = tuple(float(each) for each in several)
    except PARSER_ERRORS:
        return ()
    return found if all(map(math.isfinite, found)) else ()


def number(dataset: "Dataset", keyword: str) -> float | None:
    """The first number of an element, or None."""
    return next(iter(numbers(dataset, keyword)), None)


def text(dataset: "Dataset", keyword: str) -> str:
    """The text of an element, for hashing and comparing alone; empty where there is none that can be read."""
    try:
        with quiet():
            value = dataset.get(keyword)
            return "" if value is None else str(value).strip(" \0")
    except PARSER_ERRORS:
        return ""


def word(dataset: "Dataset", keyword: str, known: Collection[str]) -> str | None:
    """The text of an element if it is one of the known words, and so no name; else None."""
    found = text(dataset, keyword).upper()
    return found if found in known else None


def read_clock(dataset: "Dataset") -> tuple[Clock, str | None]:
    """The clock, and what is wrong with it.

    It is, in this order: Frame Time (0018,1063), milliseconds; Frame Time Vector (0018,1065), the milliseconds since
    the frame before; Cine Rate (0018,0040) and Recommended Display Frame Rate (0008,2144), frames a second.
    """
    step, vector = number(dataset, "FrameTime"), numbers(dataset, "FrameTimeVector")
    rate = number(dataset, "CineRate") or number(dataset, "RecommendedDisplayFrameRate")
    fault = None
    if step and rate and step > 0 and not 0.9 < step * rate / 1000 < 1.1:
        fault = f"frame times disagree, {step:g} ms a frame and {rate:g} frames a second; the first was taken"
    if step and step > 0:
        return lambda index: index * step / 1000, fault
    if len(vector) > 1 and min(vector) >= 0 and max(vector) > 0:
        times = list(accumulate(vector))
        return lambda index: times[index] / 1000 if index < len(times) else None, None
    if rate and rate > 0:
        return lambda index: index / rate, None
    return lambda index: None, None
