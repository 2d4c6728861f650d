"""Recognize a file by its first bytes, never by its name."""

import gzip
import re
import struct
import zlib
from pathlib import Path
from typing import Literal

Family = Literal["image", "video", "dicom", "zip", "nifti", "metaimage", "numpy"]
Kind = tuple[Family, str]
"""Who reads a file, and the name of its format to that reader."""

HEAD = 352  # bytes that tell: NIfTI's signature is the last to come

# Stills in the container of mp4, whose first tile FFmpeg would show for the whole.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (  # offset, the bytes found there, what they stand for
    (128, b"DICM", ("dicom", "dicom")),
    (0, b"\x89PNG\r\n\x1a\n", ("image", "PNG")),
    (0, b"\xff\xd8\xff", ("image", "JPEG")),
    (0, b"GIF8", ("image", "GIF")),
    (0, b"BM", ("image", "BMP")),
    (0, b"II*\x00", ("image", "TIFF")),
    (0, b"MM\x00*", ("image", "TIFF")),
    (0, b"II+\x00", ("image", "TIFF")),  # BigTIFF
    (0, b"MM\x00+", ("image", "TIFF")),
    (8, b"WEBP", ("image", "WEBP")),
    (8, b"AVI ", ("video", "avi")),
    (0, b"\x00\x00\x01\xba", ("video", "mpeg")),
    (0, b"\x00\x00\x01\xb3", ("video", "mpegvideo")),
    (0, b"\x1aE\xdf\xa3", ("video", "matroska")),
    (0, b"0&\xb2u\x8ef\xcf\x11", ("video", "asf")),
    *((4, b"ftyp" + brand, ("image", "HEIF")) for brand in _HEIF),
    (4, b"ftyp", ("video", "mov")),  # mp4 and mov; QuickTime's older files begin with any of the next six
    *((4, atom, ("video", "mov")) for atom in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    (344, b"n+1\x00", ("nifti", "1")),
    (344, b"ni1\x00", ("nifti", "pair")),
    (4, b"n+2\x00\r\n\x1a\n", ("nifti", "2")),
    (4, b"ni2\x00\r\n\x1a\n", ("nifti", "pair")),
    (0, b"\x93NUMPY", ("numpy", "npy")),
    (0, b"PK\x03\x04", ("zip", "zip")),
)
_METAIMAGE = re.compile(rb"\s*(ObjectType|ObjectSubType|Comment|NDims|TransformType)\s*=")
_GZIP = b"\x1f\x8b"
_VRS = frozenset((b"UL", b"CS", b"UI", b"DA", b"TM", b"SH", b"LO", b"PN", b"OB", b"DT"))


def video_containers() -> tuple[str, ...]:
    """FFmpeg's names of the containers that are read."""
    return tuple(dict.fromkeys(form for _, _, (family, form) in _SIGNATURES if family == "video"))


def kind_of(head: bytes) -> Kind | None:
    """What the first `HEAD` bytes of a file stand for; None for all that is no clip."""
    found = next((kind for offset, mark, kind in _SIGNATURES if head.startswith(mark, offset)), None)
    if found is None and _METAIMAGE.match(head):
        return "metaimage", "metaimage"
    if found is None and _is_bare_dicom(head):
        return "dicom", "bare"
    return found


def file_kind(path: Path) -> Kind | None:
    """The kind of a file; None also for one that cannot be opened. Of gzip, only NIfTI's is a clip."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        if not head.startswith(_GZIP):
            return kind_of(head)
        with gzip.open(path) as stream:
            kind = kind_of(stream.read(HEAD))
    except (OSError, EOFError, zlib.error):
        return None
    return (kind[0], f"{kind[1]} gzip") if kind and kind[0] == "nifti" else None


def why_unreadable(path: Path) -> str:
    """Why not one byte of a file can be read, for lack of rights perhaps; "" where it can."""
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    return ""


def why_unknown(path: Path) -> str:
    """Why `file_kind` knows no kind for it."""
    return why_unreadable(path) or ("no format that is known here" if path.stat().st_size else "the file is empty")


def _is_bare_dicom(head: bytes) -> bool:
    """True for DICOM without its preamble: two elements of group 2 or 8 in rising order, with sensible lengths."""
    first = _element(head, 0)
    second = _element(head, first[1]) if first else None
    return bool(first and second and first[0] < second[0] and second[0] >> 16 in (2, 8))


def _element(head: bytes, place: int) -> tuple[int, int] | None:
    """(tag, end) of a short little-endian element that begins here; None if there is none."""
    if len(head) < place + 8:
        return None
    group, number, vr, length = struct.unpack_from("<HH2sH", head, place)
    start = place + 8
    if vr == b"OB":
        length, start = int.from_bytes(head[start : start + 4], "little"), start + 4
    elif vr not in _VRS:
        length = int.from_bytes(head[place + 4 : place + 8], "little")
    if group not in (2, 8) or length % 2 or length > 128:
        return None
    return group << 16 | number, start + length


def is_dicomdir(path: Path) -> bool:
    """True for the table of contents of a DICOM medium, which has no pixels."""
    with path.open("rb") as stream:
        return b"1.2.840.10008.1.3.10" in stream.read(HEAD + 64)
