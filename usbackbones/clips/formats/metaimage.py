"""MetaImage: .mha, and .mhd with its data in a file beside it, plain or compressed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from usbackbones._words import plural
from usbackbones.clips.formats.base import ClipError, Reading, Request
from usbackbones.clips.formats.inflate import ZLIB, inflated
from usbackbones.clips.formats.volume import Volume, believed_spacing, check_volume, read_volume

ELEMENT_TYPES: dict[str, str | None] = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
    # A long has 4 bytes with one writer and 8 with another; the others are no gray levels.
    **dict.fromkeys(("MET_LONG", "MET_ULONG", "MET_NONE", "MET_ASCII_CHAR", "MET_STRING", "MET_OTHER")),
    **dict.fromkeys(f"MET_{kind}_ARRAY" for kind in ("CHAR", "UCHAR", "SHORT", "USHORT", "INT", "UINT", "LONG")),
    **dict.fromkeys(f"MET_{kind}_ARRAY" for kind in ("ULONG", "LONG_LONG", "ULONG_LONG", "FLOAT", "DOUBLE")),
    "MET_FLOAT_MATRIX": None,
}
"""NumPy's code by MetaIO's name of a type; None for those that are refused."""
_LONGEST = 1 << 24  # bytes of a header; a tracked sweep has some 700 for each of its frames
_AXES = ("TransformMatrix", "Rotation", "Orientation")
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
        code, channels = ELEMENT_TYPES[fields["ElementType"]], int(fields.get("ElementNumberOfChannels", "1"))
        spacing = [float(step) for key in _SPACING if key in fields for step in fields[key].split()]
        skip = int(fields.get("HeaderSize", "0"))
        axes = next((tuple(map(float, fields[key].split())) for key in _AXES if key in fields), ())
    except KeyError as error:
        raise ClipError(f"{path}: MetaImage header without a {error.args[0]} that is known; export it again") from error
    except ValueError as error:
        raise ClipError(f"{path}: damaged MetaImage header, a number in it is none; export it again") from error
    if code is None:
        raise ClipError(
            f"{path}: a MetaImage of a type that is not read here ({fields['ElementType']}); save it as MET_UCHAR"
        )
    _check(path, fields, shape)
    big = _is_true(fields, "BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", ""))
    dtype = np.dtype(code).newbyteorder(">" if big else "<")
    if code == "u1":
        dtype = np.dtype(np.uint8)
    frames = check_volume(request, dtype, shape, channels)
    name = fields["ElementDataFile"]
    local = name.upper() == "LOCAL"
    file, start = (path, end) if local else (_beside(path, name), 0)
    compressed = _is_true(fields, "CompressedData")
    if skip == -1 and not compressed:  # the data are what stands at the end of the file
        length = frames[0] * frames[1] * frames[2] * channels * dtype.itemsize
        start, skip = max(file.stat().st_size - length, 0), 0
    if local and skip > 0:  # a place in the file, as ITK has it, and not behind the header
        start = skip
        if skip < end:
            raise ClipError(f"{path}: HeaderSize = {skip} lies within its header; export it again")
    elif skip > 0:
        start += skip

    @contextmanager
    def voxels() -> Iterator[BinaryIO]:
        with file.open("rb") as stream:
            if compressed:
                yield inflated(stream, start, ZLIB)
            else:
                stream.seek(start)
                yield stream

    if invalid := sum(key.endswith("_ImageStatus") and value.upper() == "INVALID" for key, value in fields.items()):
        request.warn(f"{path}: {plural(invalid, 'frame')} marked as INVALID by the recorder, read as stored")
    size = believed_spacing(spacing[1], spacing[0]) if len(spacing) > 1 else None
    if size == (1, 1):  # what ITK and PLUS write where nobody told them the size
        size = None
    volume = Volume(voxels, dtype, frames, channels, orientation=_orientation(path, fields), axes=axes)
    return read_volume(request, volume, size)


def _is_true(fields: dict[str, str], key: str, otherwise: str = "") -> bool:
    """A flag as MetaIO takes it: True, true, T and 1 are true."""
    return fields.get(key, otherwise)[:1] in ("T", "t", "1")


def _check(path: Path, fields: dict[str, str], shape: tuple[int, ...]) -> None:
    """Refuse voxels that are text, no image, or of as many axes as the header does not promise."""
    if "BinaryData" in fields and not _is_true(fields, "BinaryData"):
        raise ClipError(f"{path}: a MetaImage whose voxels are written as text; export it with BinaryData = True")
    kind = fields.get("UltrasoundImageType", "")
    if kind.upper().startswith("RF_"):
        raise ClipError(f"{path}: radio-frequency data ({kind[:20]}) and no image; export it as BRIGHTNESS")
    if fields.get("NDims", str(len(shape))) != str(len(shape)):
        raise ClipError(f"{path}: damaged MetaImage header, NDims and DimSize differ; export it again")


def _orientation(path: Path, fields: dict[str, str]) -> int:
    """The EXIF orientation of frames that PLUS recorded, by where the marked side and the far side of the probe are."""
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
    if name.upper().startswith("LIST"):
        raise ClipError(f"{path}: its slices are refused, they lie in files of their own; export it as one .mha")
    inner = PurePosixPath(name.replace("\\", "/"))
    if not name or inner.is_absolute() or ".." in inner.parts or ":" in inner.parts[0] or "%" in name or "\0" in name:
        raise ClipError(f"{path}: its data file is refused, it must be one file beside the header; export it as .mha")
    file = path.parent / inner
    if not file.is_file():
        raise ClipError(f"{path}: its data file {name} is missing; put it beside the header")
    return file
