"""Count what files tell about people besides their pixels: names and dates in headers, tags and file names.

No value is kept, shown or written: a file gets the names of what was noticed, a data set their counts.
"""

import re
from pathlib import Path

import av
import numpy as np
from PIL import Image

from usbackbones.auditing import screens
from usbackbones.clips.files import file_kind
from usbackbones.clips.read import ClipError, iter_frames
from usbackbones.features.shortcuts import Facts

_ANONYMOUS = re.compile(r"(anon|removed|unknown|deident|none|patient|test|n/?a)|^[\W_\d]*$", re.IGNORECASE)
_DATE = re.compile(r"(?<!\d)((19|20)\d{2}[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])|"
                   r"(0[1-9]|[12]\d|3[01])[-_.](0[1-9]|1[0-2])[-_.](19|20)\d{2})(?!\d)")  # fmt: skip
_RECORD = re.compile(r"(?<!\d)\d{7,10}(?!\d)")
_NAMES = ("PatientName", "OtherPatientNames", "ReferringPhysicianName", "OperatorsName", "PerformingPhysicianName")
_DATES = ("PatientBirthDate", "StudyDate", "AcquisitionDate", "ContentDate", "SeriesDate")
_SCANNER = ("Manufacturer", "ManufacturerModelName", "InstitutionName", "StationName", "DeviceSerialNumber")
CODED = _SCANNER[2:]
"""Facts of a scanner that may name a hospital; they are shown as A, B, C."""
_EXIF_DATES, _EXIF_NAMES = (0x0132, 0x9003, 0x9004), (0x013B, 0x8298, 0x9C9D)
_TAG = re.compile(r"artist|author|date|name|title|comment|description|location|creation|time", re.IGNORECASE)
_PLAIN_TAGS = {"handler_name", "encoder", "major_brand", "minor_version", "compatible_brands", "language", "vendor_id"}

KINDS = {
    "header names": "DICOM headers with a person's name",
    "header dates": "DICOM headers with dates",
    "header denies text": "BurnedInAnnotation is NO, but text was found on the screen",
    "exif": "EXIF with names, dates or a place",
    "image text": "text fields in a PNG, TIFF or GIF",
    "video tags": "tags with names, dates or places in a video",
    "name with a date": "file names that look like a date",
    "name with a number": "file names that look like a record number",
}
"""What may be noticed of a file, in words."""


def noticed(path: Path) -> tuple[list[str], Facts]:
    """What a file tells about people, as keys of `KINDS`, and of its scanner.

    Args:
        path: a clip that could be read.
    """
    found = [
        key for key, like in (("name with a date", _DATE), ("name with a number", _RECORD)) if like.search(path.name)
    ]
    kind = file_kind(path) if path.is_file() else None
    if kind is None:
        return found, {}
    if kind[0] == "dicom":
        more, scanner = _of_header(path)
        return found + more, scanner
    if kind[0] == "image":
        return found + _of_image(path, kind[1]), {}
    if kind[0] == "video":
        return found + _of_video(path, kind[1]), {}
    return found, {}


def _of_header(path: Path) -> tuple[list[str], Facts]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        wanted = [*_NAMES, *_DATES, *_SCANNER, "BurnedInAnnotation"]
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(wanted), force=True)
        told = {name: str(value).strip(" \0") for name in wanted if (value := header.get(name)) not in (None, "")}
    except (InvalidDicomError, OSError, ValueError, AttributeError, TypeError, LookupError):
        return [], {}  # a header that the reader could follow and pydicom cannot: nothing is known of it
    found = []
    if any(name in told and not _ANONYMOUS.search(told[name]) for name in _NAMES):
        found.append("header names")
    if any(name in told for name in _DATES):
        found.append("header dates")
    if told.get("BurnedInAnnotation", "").upper() == "NO" and screens.can_look() and _has_text(path):
        found.append("header denies text")
    return found, {name: told[name] for name in _SCANNER if name in told}


def _has_text(path: Path) -> bool:
    """Whether text stands anywhere on the whole screen of a file, beyond the region that is cut out for training."""
    try:
        frame = next(iter_frames(path, max_frames=1, crop=False, warn=lambda line: None))
    except ClipError:
        return False
    return screens.writing_on(np.ascontiguousarray(frame)) > 0


def _of_image(path: Path, form: str) -> list[str]:
    found = []
    try:
        with Image.open(path, formats=[form]) as image:
            exif = image.getexif()
            own = dict(exif) | dict(exif.get_ifd(0x8769))
            if any(own.get(tag) for tag in (*_EXIF_DATES, *_EXIF_NAMES)) or exif.get_ifd(0x8825):
                found.append("exif")
            if getattr(image, "text", None) or any(
                isinstance(image.info.get(key), str | bytes) for key in ("comment",)
            ):
                found.append("image text")
    except (OSError, SyntaxError, ValueError):
        return found
    return found


def _of_video(path: Path, demuxer: str) -> list[str]:
    try:
        with av.open(f"file:{path}", format=demuxer, metadata_errors="replace") as opened:
            tags = dict(opened.metadata)
            for stream in opened.streams:
                tags |= stream.metadata
    except av.error.FFmpegError:
        return []
    telling = [key for key, value in tags.items() if value and key not in _PLAIN_TAGS and _TAG.search(key)]
    epoch = {key for key in telling if str(tags[key]).startswith(("1970-", "1904-", "0000-"))}  # no date at all
    return ["video tags"] * bool(set(telling) - epoch)
