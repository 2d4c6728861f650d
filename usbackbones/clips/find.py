"""Find the clips below a folder: each real file once, wherever symbolic links lead."""

import re
from collections import deque
from pathlib import Path

from usbackbones._words import plural
from usbackbones.clips.formats.base import GIVE, ClipError, Warn, by_parts, passed_over, shortened
from usbackbones.clips.formats.kinds import file_kind, is_dicomdir, why_unreadable
from usbackbones.clips.formats.names import identity_of, label_maps
from usbackbones.clips.formats.stills import entries, is_still
from usbackbones.clips.formats.zipped import zip_holds

DATA_OF_MHD = (".raw", ".zraw")
SUFFIXES = re.compile(
    r"\.(png|jpe?g|bmp|tiff?|webp|gif|m[4o]v|mp4|avi|mpe?g|webm|mkv|wmv|dcm|dicom|nii|mh[ad]|zip)", re.IGNORECASE
)


def find_clips(path: Path | str, note: Warn | None = None) -> list[Path]:
    """The clips at a path, in natural order: a file is one, and so is a folder that holds stills.

    Below a folder every DICOM file, video, volume and zip of stills is a clip of its own. A file whose name claims to
    be a clip, a .zip among them, is listed even if its content is not, and so is one that cannot be opened, so that
    reading it can report the fault. All other files are passed over; so are label maps beside their images, and NumPy
    arrays, which are as often labels or features: give these by name.

    Symbolic links are followed, but a file or folder that was found under its own name, or by an earlier link, is not
    found again: a link to a folder above it ends there, be it above `path` itself.

    Args:
        path: of a clip, or of a folder to search.
        note: gets a line for each kind of file below a folder that is passed over, with their number and names: NumPy
            arrays, label maps, files of no clip. Litter, indexes of DICOM and the data of a .mhd are none.

    Raises:
        ClipError: if the path does not exist or is a folder without clips.
    """
    path = Path(path)
    if not path.exists():
        raise ClipError(f"{path}: no such file or folder; check the path")
    if not path.is_dir():
        return [path]
    search = _Search(path)
    clips = search.clips()
    arrays = shortened(sorted(file.relative_to(path).as_posix() for file in search.arrays))
    files = plural(len(search.arrays), "NumPy file")
    if not clips and arrays:
        raise ClipError(f"{path}: a folder without clips but {files}, which may be labels: give by name {arrays}")
    if not clips:
        raise ClipError(f"{path}: a folder without clips; {GIVE}")
    if note and arrays:
        note(f"passed over {files} in {path}, which may be labels: {arrays}; give clips among them by name")
    if note and search.masks:
        note(passed_over(sorted(search.masks), path, f"in {path}, masks of their neighbors"))
    if note and (others := search.others()):
        note(passed_over(sorted(others), path, f"in {path}, no clips"))
    return clips


class _Search:
    """One walk over a tree: first all that stands there itself, then what links lead to.

    Attributes:
        root: folder that is searched.
        found: the clips, in the order in which they were met.
        arrays: NumPy files, which are none of them.
        masks: label maps beside their images, likewise.
        rest: files of no clip.
        seen: `identity_of` every file and folder that was met, and of the folders above the root.
        links: symbolic links that are still to be followed.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.found = root, dict[Path, None]()
        self.arrays, self.masks, self.rest = list[Path](), list[Path](), list[Path]()
        self.seen, self.links = set[tuple[int, int] | Path](), deque[Path]()

    def clips(self) -> list[Path]:
        """The clips in natural order, a folder of stills before what lies in it."""
        for above in self.root.resolve().parents:
            self._is_new(above)
        self._enter(self.root)
        while self.links:
            link = self.links.popleft()
            self._enter(link) if link.is_dir() else self._take(link)

        return sorted(self.found, key=lambda clip: by_parts(clip.relative_to(self.root)))

    def _enter(self, folder: Path) -> None:
        if not self._is_new(folder):
            return
        inside = entries(folder)
        masks = label_maps(inside)
        for entry in inside:
            if entry in masks:
                self.masks.append(entry)
            elif entry.is_symlink():
                self.links.append(entry)
            elif entry.is_dir():
                self._enter(entry)
            else:
                self._take(entry)

    def _take(self, file: Path) -> None:
        if not self._is_new(file):
            return
        if clip := _clip_of(file):
            self.found[clip] = None
        elif (file_kind(file) or [""])[0] == "numpy":
            self.arrays.append(file)
        else:
            self.rest.append(file)

    def others(self) -> list[Path]:
        """The files of no clip, without those that belong to one."""
        data = {(file.parent, file.stem) for file in self.found}
        return [
            file
            for file in self.rest
            if file.is_file()
            and not (file.suffix in DATA_OF_MHD and (file.parent, file.stem) in data)
            and not ((file_kind(file) or [""])[0] == "dicom" and is_dicomdir(file))
        ]

    def _is_new(self, path: Path) -> bool:
        identity = identity_of(path)
        known = identity in self.seen
        self.seen.add(identity)
        return not known


def _clip_of(file: Path) -> Path | None:
    """The clip that a file is, or is a frame of; None for a file that is passed over."""
    kind = file_kind(file)
    claims = bool(SUFFIXES.fullmatch(file.suffix))
    if kind is None:
        return file if claims or (file.is_file() and why_unreadable(file)) else None
    if is_still(kind):
        return file.parent
    if kind[0] == "zip":
        held = zip_holds(file)
        return file if held == "stills" or (not held and claims) else None
    return None if kind[0] == "numpy" or (kind[0] == "dicom" and is_dicomdir(file)) else file
