"""Count what files tell about people besides their pixels: names and dates in headers, tags and file names.

No value is kept, shown or written: a file gets the names of what was noticed, a data set their counts.
"""

import re
import warnings
from pathlib import Path

import av
import numpy as np
from PIL import Image

from usbackbones.auditing import screens
from usbackbones.clips.files import file_kind, stills_in
from usbackbones.clips.read import ClipError, iter_frames
from usbackbones.features.shortcuts import Facts

_NOBODY = re.compile(
    r"anon\w*|deident\w*|removed|redacted|unknown|none|no|name|patient|subject|case|test|phantom|na|n|a|x+",
    re.IGNORECASE,
)
"""Words that stand in place of a name."""
_DAY, _MONTH, _YEAR = r"(0[1-9]|[12]\d|3[01])", r"(0[1-9]|1[0-2])", r"(19|20)\d{2}"
_TIME = r"([01]\d|2[0-3])[0-5]\d[0-5]\d\d{0,6}"  # and fractions of a second
_DATE = re.compile(
    rf"(?<!\d)({_YEAR}[-_. ]?{_MONTH}[-_. ]?{_DAY}({_TIME})?"
    rf"|{_DAY}[-_. ]{_MONTH}[-_. ]{_YEAR}|{_MONTH}[-_. ]{_DAY}[-_. ]{_YEAR})(?!\d)"
)
_RECORD = re.compile(r"(?<!\d)\d{7,10}(?!\d)")
_SCANNER = ("Manufacturer", "ManufacturerModelName", "InstitutionName", "StationName", "DeviceSerialNumber")
CODED = _SCANNER[2:]
"""Facts of a scanner that may name a hospital; they are shown as A, B, C."""
_EXIF_DATES, _EXIF_NAMES = (0x0132, 0x9003, 0x9004), (0x013B, 0x8298, 0x9C9D, 0xA430)
_EXIF_TEXT = (0x010E, 0x9286, 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F)
"""Description, comment, and what Windows adds: title, comment, keywords, subject."""
_INFO = ("comment", "xmp", "XML:com.adobe.xmp", "photoshop")
"""Keys under which Pillow hands on comments, XMP and IPTC."""
_TAG = re.compile(r"artist|author|date|name|title|comment|description|location|creation|time", re.IGNORECASE)
_PLAIN_TAGS = {"handler_name", "encoder", "major_brand", "minor_version", "compatible_brands", "language", "vendor_id"}

KINDS = {
    "header names": "DICOM headers with a person's name",
    "header dates": "DICOM headers with dates",
    "header denies text": "BurnedInAnnotation is NO, but text was found on the screen",
    "exif": "EXIF with names, dates or a place",
    "image text": "text fields, comments, XMP or IPTC in an image",
    "video tags": "tags with names, dates or places in a video",
    "name with a date": "names of files or folders that look like a date",
    "name with a number": "names of files or folders that look like a record number",
}
"""What may be noticed of a file, in words."""
LOOKED = "DICOM, images and videos"
"""Kinds of files whose headers and tags are looked at."""


def noticed(path: Path, root: Path | None = None) -> tuple[list[str], Facts, bool]:
    """What a file tells about people, as keys of `KINDS`, of its scanner, and whether its header could be looked at.

    Args:
        path: a clip that could be read; of a folder of stills each is looked at.
        root: folder of the data; names of folders below it count as the file's own.
    """
    inside = root is not None and path.is_relative_to(root)
    name = "/".join(path.relative_to(root).parts) if root is not None and inside else path.name
    found = dict.fromkeys(_of_name(name))
    scanner: Facts = {}
    looked = True
    for file in stills_in(path) if path.is_dir() else [path]:
        more, of, there = _of_file(file)
        found |= dict.fromkeys([*(_of_name(file.name) if path.is_dir() else []), *more])
        scanner, looked = scanner or of, looked and there
    return [key for key in KINDS if key in found], scanner, looked


def _of_name(name: str) -> list[str]:
    return [key for key, like in (("name with a date", _DATE), ("name with a number", _RECORD)) if like.search(name)]


def _of_file(path: Path) -> tuple[list[str], Facts, bool]:
    kind = file_kind(path) if path.is_file() else None
    if kind is not None and kind[0] == "dicom":
        return _of_header(path)
    if kind is not None and kind[0] == "image":
        return _of_image(path, kind[1]), {}, True
    if kind is not None and kind[0] == "video":
        return _of_video(path, kind[1]), {}, True
    return [], {}, False


def _of_header(path: Path) -> tuple[list[str], Facts, bool]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    found, told = [], {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they would print the values
            header = dcmread(path, stop_before_pixels=True, force=True)
            filled = [element for element in header.iterall() if element.value not in (None, "", [])]
        if any(element.VR == "PN" and is_name(str(element.value)) for element in filled):
            found.append("header names")
        if any(element.VR in ("DA", "DT") for element in filled):
            found.append("header dates")
        wanted = (*_SCANNER, "BurnedInAnnotation")
        told = {name: str(value).strip(" \0") for name in wanted if (value := header.get(name)) not in (None, "")}
    except (InvalidDicomError, OSError, ValueError, AttributeError, TypeError, LookupError, NotImplementedError):
        return [], {}, False  # a header that the reader could follow and pydicom cannot: nothing is known of it
    if told.get("BurnedInAnnotation", "").upper() == "NO" and screens.can_look() and _has_text(path):
        found.append("header denies text")
    return found, {name: told[name] for name in _SCANNER if name in told}, True


def is_name(value: str) -> bool:
    """Whether a value may be a person's name: a word of letters that does not stand in place of one."""
    words = [word for word in re.split(r"[\W_]+", value) if word and not any(c.isdigit() for c in word)]
    return any(not _NOBODY.fullmatch(word) for word in words)


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
            texts = [getattr(image, "text", None), *(own.get(tag) for tag in _EXIF_TEXT)]
            if any(texts) or any(image.info.get(key) for key in _INFO):
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
