"""MetaImage: .mha, and .mhd with its data in a file beside it, plain or compressed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from usbackbones.clips.formats.base import ClipError, Reading, Request
from usbackbones.clips.formats.inflate import ZLIB, inflated
from usbackbones.clips.formats.volume import Volume, believed_spacing, check_volume, read_volume

_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_LONGEST = 1 << 24  # bytes of a header; a tracked sweep has some 700 for each of its frames
_SPACING = ("ElementSpacing", "ElementSize")
# Columns go to the marked or the unmarked side, rows far or near, which come upright as marked and far.
_PLUS = {"MF": 1, "UF": 2, "UN": 3, "MN": 4, "FM": 5, "FU": 6, "NU": 7, "NM": 8}


def open_metaimage(request: Request, _: str) -> Reading:
    """Open a MetaImage whose third axis is the time.

    Raises:
        ClipError: if the header is damaged, describes no clip, or its data file is missing.
    """
    path = request.path
    fields, end = _read_fields(path)
    try:
        shape = tuple(map(int, fields["DimSize"].split()))
        code, channels = _TYPES[fields["ElementType"]], int(fields.get("ElementNumberOfChannels", "1"))
        spacing = [float(step) for key in _SPACING if key in fields for step in fields[key].split()]
        skip = int(fields.get("HeaderSize", "0"))
    except KeyError as error:
        raise ClipError(f"{path}: MetaImage header without a {error.args[0]} that is known; export it again") from error
    except ValueError as error:
        raise ClipError(f"{path}: damaged MetaImage header, a number in it is none; export it again") from error
    big = any(fields.get(key, "").lower() == "true" for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    dtype = np.dtype(code).newbyteorder(">" if big else "<")
    if code == "u1":
        dtype = np.dtype(np.uint8)
    frames = check_volume(request, dtype, shape, channels)
    name = fields["ElementDataFile"]
    file, start = (path, end) if name.upper() == "LOCAL" else (_beside(path, name), 0)
    compressed = fields.get("CompressedData", "").lower() == "true"
    if skip == -1 and not compressed:  # the data are what stands at the end of the file
        length = frames[0] * frames[1] * frames[2] * channels * dtype.itemsize
        start, skip = max(file.stat().st_size - length, 0), 0
    start += max(skip, 0)

    @contextmanager
    def voxels() -> Iterator[BinaryIO]:
        with file.open("rb") as stream:
            if compressed:
                yield inflated(stream, start, ZLIB)
            else:
                stream.seek(start)
                yield stream

    size = believed_spacing(spacing[1], spacing[0]) if len(spacing) > 1 else None
    if size == (1, 1):  # what ITK and PLUS write where nobody told them the size
        size = None
    return read_volume(request, Volume(voxels, dtype, frames, channels, orientation=_orientation(path, fields)), size)


def _orientation(path: Path, fields: dict[str, str]) -> int:
    """The EXIF orientation of frames that PLUS recorded, by where the marked side and the far side of the probe are.

    Raises:
        ClipError: for words that PLUS does not know.
    """
    word = fields.get("UltrasoundImageOrientation", "MF").upper()
    if word[:2] == "XX" or not word:  # PLUS's word for unknown
        return 1
    if word[:2] not in _PLUS:
        raise ClipError(f"{path}: UltrasoundImageOrientation = {word[:20]} is not known; export it again as MF")
    return _PLUS[word[:2]]


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """The lines "key = value" up to ElementDataFile, and the place behind it."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while (place := stream.tell()) < _LONGEST and (line := stream.readline(_LONGEST)):
            key, equals, value = line.decode("latin-1").partition("=")
            if not equals:
                break
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                return fields, place + len(line)
    raise ClipError(f"{path}: MetaImage header without ElementDataFile, damaged or cut short; export it again")


def _beside(path: Path, name: str) -> Path:
    """The data file that a header names, which lies in the header's folder or below and nowhere else."""
    inner = PurePosixPath(name.replace("\\", "/"))
    if not name or inner.is_absolute() or ".." in inner.parts or ":" in inner.parts[0] or "%" in name or "\0" in name:
        raise ClipError(f"{path}: its data file is refused, it must be one file beside the header; export it as .mha")
    file = path.parent / inner
    if not file.is_file():
        raise ClipError(f"{path}: its data file {name} is missing; put it beside the header")
    return file
