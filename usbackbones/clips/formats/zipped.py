"""Zipped folders of stills, read member by member and never extracted: nothing of them reaches the disk.

A zip can lie about itself. Members are therefore inflated one at a time and no further than a still can be large,
and an archive whose names point outside of it, or whose sizes no image has, is refused as a whole.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from usbackbones._words import plural
from usbackbones.clips.formats.base import GIVE, ClipError, Facts, Frames, Reading, Request, natural, shortened
from usbackbones.clips.formats.kinds import HEAD, Kind, kind_of
from usbackbones.clips.formats.names import is_litter, label_maps
from usbackbones.clips.formats.stills import image_frames, is_still
from usbackbones.clips.formats.watch import Watch

_MAX_BYTES = 1 << 28  # of one still
_MAX_RATIO = 200  # that a still of more than 1 MB may shrink by; a bomb of zeros shrinks a thousandfold
_MAX_MEMBERS = 100_000
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, RuntimeError, zlib.error)
# Office documents and Java archives are zips too, with pictures in them; none is a clip.
_DOCUMENTS = {"[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF"}


def open_zip(request: Request) -> Reading:
    """Open the stills of one zipped folder as a clip."""
    facts = Facts()
    return Reading(_frames(request, Watch(request, facts)), facts)


def zip_holds(path: Path) -> str:
    """What a zip is: "stills", "arrays" for an .npz, or "" for all that is no clip."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            if members and all(member.filename.endswith(".npy") for member in members):
                return "arrays"
            documents = _DOCUMENTS & set(archive.namelist())
            return "stills" if not documents and any(_still_format(archive, member) for member in members) else ""
    except _ZIP_ERRORS:
        return ""


def _frames(request: Request, watch: Watch) -> Frames:
    path, good = request.path, 0
    fault = None
    try:
        with zipfile.ZipFile(path) as archive:
            stills = _checked(path, archive, request)
            for member, format_name in stills[:: request.stride]:
                name = f"{path}/{member.filename}"
                try:
                    content = io.BytesIO(_content(archive, member))
                    watch.facts.name = _path(member).name
                    for pixels, _ in image_frames(content, name, format_name, 1, watch):
                        yield pixels, None
                        good += 1
                except ClipError as error:
                    request.warn(f"left out {error}")
                except _ZIP_ERRORS:
                    request.warn(f"left out {name}: damaged in the zip; zip the folder again")
    except ClipError:
        raise
    except _ZIP_ERRORS:
        fault = f"{path}: broken zip, its list of files cannot be read; copy it again or zip the folder again"
    if fault or not good:
        raise ClipError(fault or f"{path}: a zip without readable images; {GIVE}")


def _checked(path: Path, archive: zipfile.ZipFile, request: Request) -> list[tuple[zipfile.ZipInfo, str]]:
    """The stills of an archive with their formats, in natural order, once all of its promises were found sound."""
    members = _members(archive)
    if len(members) > _MAX_MEMBERS:
        raise ClipError(f"{path}: a zip of {len(members)} files, at most {_MAX_MEMBERS} are read; zip fewer")
    for member in members:
        name = _path(member)
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise ClipError(f"{path}: refused, a name in the zip points outside of it; zip the folder again")
        if member.flag_bits & 1:
            raise ClipError(f"{path}: the zip is encrypted; unzip it and give the folder")
        ratio = member.file_size / max(member.compress_size, 1)
        if member.file_size > _MAX_BYTES or (member.file_size > 1 << 20 and ratio > _MAX_RATIO):
            raise ClipError(
                f"{path}: refused, a file in the zip would inflate {ratio:.0f}-fold to {member.file_size >> 20} MB, "
                "as no image does; unzip it and give the folder"
            )
    masks = label_maps(Path(_path(member)) for member in members)
    formats = {m: _still_format(archive, m) for m in members if Path(_path(m)) not in masks}
    stills = [(member, name) for member, name in formats.items() if name]
    folders = {_path(member).parent for member, _ in stills}
    if len(folders) > 1:
        raise ClipError(f"{path}: stills in {len(folders)} folders of one zip; unzip it, or zip each clip by itself")
    others = [_path(member).name for member, name in formats.items() if not name]
    if not stills:
        raise ClipError(f"{path}: a zip without images, it holds {shortened(others) or 'nothing'}; unzip it, or {GIVE}")
    if others:
        request.warn(f"{path}: left out {plural(len(others), 'file')}, not of stills: {shortened(others)}")
    if masks:
        names = [_path(member).name for member in members if member not in formats]
        request.warn(f"{path}: left out {plural(len(masks), 'mask')} beside their images: {shortened(names)}")
    return stills


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive, litter left out, in natural order."""
    return sorted(_visible(archive), key=lambda member: (natural(member.filename), member.filename))


def _visible(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    for member in archive.infolist():
        parts = _path(member).parts
        # ".." is kept, to be refused by name.
        if not member.is_dir() and not any(is_litter(part) and part != ".." for part in parts):
            yield member


def _path(member: zipfile.ZipInfo) -> PurePosixPath:
    """The name of a member, whose parts Windows may have set apart in its own way."""
    return PurePosixPath(member.filename.replace("\\", "/"))


def _still_format(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str | None:
    """Pillow's name of the format if the member is a still; None for all else and for what cannot be opened."""
    kind: Kind | None
    try:
        with archive.open(member) as stream:
            kind = kind_of(stream.read(HEAD))
    except _ZIP_ERRORS:
        return None
    return kind[1] if kind and is_still(kind) else None


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, whose size was found sound; more than it promised are never inflated."""
    with archive.open(member) as stream:
        return stream.read(member.file_size)
