"""Images, clips and other files in folders of data; whoever reads a folder has to name the others."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from usbackbones.clips.find import DATA_OF_MHD, SUFFIXES
from usbackbones.clips.formats.base import by_parts, passed_over, shortened
from usbackbones.clips.formats.kinds import file_kind
from usbackbones.clips.formats.names import identity_of, image_named, images_named, is_litter, label_maps, real, stem_of
from usbackbones.clips.formats.stills import entries, is_still

__all__ = [
    "DATA_OF_MHD",
    "by_parts",
    "claims_clip",
    "entries",
    "file_kind",
    "files_below",
    "identity_of",
    "image_named",
    "images_named",
    "is_litter",
    "is_still",
    "label_maps",
    "passed_over",
    "real",
    "shortened",
    "stem_of",
    "stills_in",
]


def claims_clip(file: Path) -> bool:
    """Whether a file is a clip by its content, or says so by its name."""
    return file_kind(file) is not None or SUFFIXES.fullmatch(file.suffix) is not None


def stills_in(folder: Path) -> list[Path]:
    """The images that lie in a folder itself, label maps left out, by name."""
    inside = [entry for entry in entries(folder) if entry.is_file()]
    masks = label_maps(inside)
    return sorted(file for file in inside if file not in masks and is_still(file_kind(file)))


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder in natural order, litter left out; each real folder once, wherever links lead.

    What lies in folders that links lead to comes last, so that a folder keeps the name that is its own.

    Raises:
        ClipError: if a folder cannot be listed.
    """
    seen, links = {identity_of(above) for above in folder.resolve().parents}, deque([folder])
    while links:
        yield from _files_of(links.popleft(), seen, links)


def _files_of(folder: Path, seen: set[tuple[int, int] | Path], links: deque[Path]) -> Iterator[Path]:
    if identity_of(folder) in seen:
        return
    seen.add(identity_of(folder))
    folders = list[Path]()
    for entry in entries(folder):
        if not entry.is_dir():
            yield entry
        else:
            (links if entry.is_symlink() else folders).append(entry)
    for below in folders:
        yield from _files_of(below, seen, links)
