"""A manifest from a folder of one's own: groups, organs and labels guessed from names, every guess said.

A guess that joins two patients costs a little; one that divides a patient makes every later score too good. So where
names leave a doubt, clips are joined: 'a/patient01', 'b/Patient 1' and 'P1' are one group.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from training.data.corpora.record import stills, stills_with_masks
from training.data.manifest import Row
from usbackbones._words import plural
from usbackbones.clips import ClipError, find_clips
from usbackbones.clips.formats.base import shortened
from usbackbones.clips.formats.kinds import why_unreadable
from usbackbones.clips.patient import patient_of

_HEADER = "the DICOM header"
_COMPARED = 20
"""Images of a folder whose sizes are compared."""
_PATIENT = re.compile(
    r"(?<![a-z0-9])(?:(patient|pat|subject|subj|sub|case|person|pt)[ _-]?|([ps]))0*(\d+)(?![a-z0-9])", re.IGNORECASE
)
_SHORT = {"pat": "patient", "pt": "patient", "p": "patient", "subj": "subject", "sub": "subject", "s": "subject"}
_ORGANS = {
    **{word: "heart" for word in ("heart", "cardiac", "echo", "echocardiography", "a4c", "a2c", "plax", "psax")},
    **{word: "lung" for word in ("lung", "lungs", "lus", "pulmonary", "pleura")},
    **{word: "breast" for word in ("breast", "mammary", "bus")},
    **{word: "fetus" for word in ("fetus", "fetal", "foetus", "foetal", "obstetric")},
    **{word: "kidney" for word in ("kidney", "kidneys", "renal")},
    **{word: "liver" for word in ("liver", "hepatic")},
    **{word: word for word in ("thyroid", "muscle", "gallbladder", "carotid", "bladder", "prostate", "ovary")},
    **{word: word for word in ("uterus", "cervix", "spleen", "pancreas", "nerve", "tendon", "knee", "testis", "eye")},
}
_LABELS = {
    *("benign", "malignant", "normal", "abnormal", "healthy", "regular", "positive", "negative", "control", "disease"),
    *("covid", "covid19", "pneumonia", "cancer", "tumor", "tumour", "cyst", "nodule", "lesion", "effusion", "stenosis"),
    *("fibrosis", "steatosis", "cirrhosis", "hepatitis", "appendicitis", "pathological"),
}


@dataclass(frozen=True)
class Guess:
    """A guessed manifest.

    Attributes:
        rows: one a clip.
        notes: for each row where its group, organ and label are from.
        summary: what was guessed, and what a person must look at.
    """

    rows: list[Row]
    notes: list[str]
    summary: str


@dataclass(frozen=True)
class _Found:
    """A clip: its path, its mask as in `Row`, and the names of the folders and the file that lead to it."""

    path: Path
    mask: str
    names: tuple[str, ...]


def guess_manifest(folder: Path, licence: str = "", source: str = "", apart: bool = False) -> Guess:
    """Guess the manifest of a folder of clips, at any depth, under one licence.

    With `apart` every still is a clip of its own, even where those of a folder could be the frames of one.

    Raises:
        ClipError: if there is no clip.
    """
    root = folder.resolve()
    rows, notes, origins, closed = [], [], list[str](), []
    found = list(_find(root, apart))
    for clip in tqdm(found, desc="looking at clips", unit="clip", disable=None):
        group, origin = _group(clip)
        organ, label = _organ((root.name, *clip.names)), _label(clip)
        origins.append(origin)
        name = clip.path.relative_to(root).as_posix() if clip.path != root else root.name
        rows.append(Row(str(clip.path), name, group, organ, label, licence, source, mask=clip.mask))
        note = f"guessed: group from {origin}" + "; organ from names" * bool(organ) + "; label" * bool(label)
        reason = why_unreadable(clip.path) if clip.path.is_file() else ""
        if reason:
            closed.append(f"{name} {reason}")
        notes.append(note + f"; the file {reason}" * bool(reason))
    folders = sum(clip.path.is_dir() for clip in found)
    return Guess(rows, notes, _summary(rows, origins, folders, closed))


def _find(root: Path, apart: bool) -> Iterator[_Found]:
    for path in find_clips(root):
        names = path.relative_to(root).parts
        if path.is_dir() and (apart or not _is_one_clip(path)):
            for image, mask in stills_with_masks(path):
                yield _Found(image, mask, (*names, image.stem))
        else:
            yield _Found(path, "", (*names[:-1], path.stem if path.is_file() else path.name))


def _is_one_clip(folder: Path) -> bool:
    """Whether the stills of a folder can be frames of one clip: all of one size, and no masks among them."""
    images = stills(folder)
    if any("_mask" in image.stem for image in images):
        return False
    sizes = set()
    for path in images[:: max(1, len(images) // _COMPARED)]:
        try:
            with Image.open(path) as image:
                sizes.add(image.size)
        except OSError:  # reading the clip will tell what is wrong with it
            continue
    return len(sizes) < 2


def _by_origin(rows: Sequence[Row], origins: Sequence[str]) -> str:
    """How many groups are known by what, and how many clips they have; one that is known by two things counts once."""
    known: dict[str, set[str]] = {}
    for row, origin in zip(rows, origins, strict=True):
        known.setdefault(row.group, set()).add(origin)
    clips = Counter(row.group for row in rows)
    groups, members = Counter[str](), Counter[str]()
    for group, found in known.items():
        by = " and ".join(sorted(found))
        groups[by] += 1
        members[by] += clips[group]
    return ", ".join(f"{count} by {by} ({plural(members[by], 'clip')})" for by, count in groups.most_common())


def _group(clip: _Found) -> tuple[str, str]:
    """The group of a clip, and where it is from."""
    if patient := _dicom_patient(clip.path):
        return patient, _HEADER
    for name in clip.names:
        if found := _PATIENT.search(name):
            word = (found[1] or found[2]).lower()
            return f"{_SHORT.get(word, word)}{found[3]}", "a name like a patient's"
    for place in range(len(clip.names) - 1, 0, -1):
        if not _words(clip.names[place - 1]) & (_LABELS | _ORGANS.keys()):
            return "/".join(clip.names[:place]), "its folder"
    return "/".join(clip.names), "nothing but its own name"


def _dicom_patient(path: Path) -> str | None:
    """The pseudonym of a DICOM file's patient; None for other files, and where the header names nobody."""
    try:
        return patient_of(path)
    except ClipError:  # reading the clip will tell what is wrong with it
        return None


def _organ(names: Sequence[str]) -> str:
    """The first organ that is named, from the innermost name outwards; "" for none."""
    return next((_ORGANS[word] for name in reversed(names) for word in sorted(_words(name)) if word in _ORGANS), "")


def _label(clip: _Found) -> str:
    """The innermost folder whose name holds a word that is a finding; "" for none."""
    folders = clip.names if clip.path.is_dir() else clip.names[:-1]
    return next((name for name in reversed(folders) if _words(name) & _LABELS), "")


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+[0-9]*", name.lower())) | set(re.findall(r"[a-z]+", name.lower()))


def _summary(rows: Sequence[Row], origins: Sequence[str], folders: int, closed: list[str]) -> str:
    def counts(values: Sequence[str]) -> str:
        return ", ".join(f"{value or 'none named'} {count}" for value, count in Counter(values).most_common())

    members = Counter(row.group for row in rows)
    largest, size = members.most_common(1)[0]
    sources = "names and DICOM headers" if _HEADER in origins else "names"
    lines = [
        f"guessed from {sources}; look at each line before you train:",
        f"  groups  {len(members)}: {_by_origin(rows, origins)}",
        f"          the largest, {largest!r}, has {size} of {plural(len(rows), 'clip')}: "
        "correct it if it is not one patient",
        f"  organs  of clips: {counts([row.organ for row in rows])}",
        f"  labels  of clips: {counts([row.label for row in rows])}",
        f"  masks   beside {sum(bool(row.mask) for row in rows)} of {plural(len(rows), 'clip')}",
    ]
    if folders:
        taken = "1 folder of images is taken for a clip" if folders == 1 else f"{folders} folders of images are clips"
        lines.append(f"  stills  {taken}, each image a frame; else --stills")
    if closed:
        lines.append(f"  closed  {plural(len(closed), 'file')}, so only names told the patients: {shortened(closed)};")
        lines.append("          see to their rights and run this again")
    lines.append("  names   of files and folders are copied as they are: if they name people, rename them first")
    return "\n".join(lines)
