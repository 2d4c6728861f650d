"""The ledger: fingerprints of the frames that a weight was trained on, and whether a benchmark shares any of them.

Two kinds of evidence count: the patient is the same by name, or a frame is the same by its fingerprint. A ledger is
kept as fingerprints.safetensors beside the weight's card. It holds names and signs of spatial frequencies (608 bytes a
frame, four frames a clip), of which no image can be made.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm import tqdm

from training.data.clip_of_row import read_path
from training.data.manifest import Row
from usbackbones._evenly import evenly
from usbackbones._files import atomic_write
from usbackbones.clips.read import ClipError
from usbackbones.data.near_duplicates import fingerprint, near_duplicates_between

FramesOf = Callable[[Row], np.ndarray]
FILE = "fingerprints.safetensors"
KEPT = 4
"""Frames a clip in a weight's ledger. Against ASKED frames of a cut of the clip, 99 % of lung clips are found again."""
ASKED = 16
"""Frames a clip of a benchmark."""
SEEN_AT_MOST = 52
"""Most signs of 255 that differ in two frames of which one counts as seen: more than between near-duplicates of one set
(`usbackbones.data.near_duplicates.AT_MOST`), for a leak costs more than a look. One of the five pictures of DL_Track
in TimTrack's locked clips is mirrored and 51 signs away; up to 52 no frame of corpus 2 or 3 is near a locked clip."""


class LedgerError(ValueError):
    """A file that is no ledger."""


@dataclass(frozen=True, eq=False)
class Ledger:
    """Clips by name and by some of their frames' fingerprints.

    Attributes:
        clips: name of each clip.
        groups: its patient, or its source where patients are unknown.
        sources: its dataset.
        prints: uint64 [F, 19, 4], as `usbackbones.data.near_duplicates.fingerprint` gives them.
        clip_of: int [F], which clip a frame is from.
    """

    clips: tuple[str, ...]
    groups: tuple[str, ...]
    sources: tuple[str, ...]
    prints: np.ndarray
    clip_of: np.ndarray

    @property
    def patients(self) -> set[tuple[str, str]]:
        """(source, group) of the clips whose source is told: a group's name means nothing outside its dataset."""
        return {(source, group) for source, group in zip(self.sources, self.groups, strict=True) if source}


@dataclass(frozen=True)
class Overlap:
    """What a weight's training data and a benchmark share.

    Attributes:
        verdict: unknown where the weight has no ledger and names alone show nothing, or a side has no frame.
        clips: of the benchmark, each with the reason why it is taken for seen.
    """

    verdict: Literal["clean", "overlap", "unknown"]
    clips: dict[str, str]

    def __str__(self) -> str:
        if not self.clips:
            return self.verdict
        names, more = list(self.clips)[:10], len(self.clips) - 10
        told = ", ".join(names) + (f" and {more} more" if more > 0 else "")
        return f"{self.verdict} {len(self.clips)} clip{'s' * (len(self.clips) != 1)} ({told})"


def make_ledger(clips: Iterable[tuple[Row, np.ndarray]], most: int) -> Ledger:
    """The ledger of clips with their frames uint8 [T, H, W], with at most `most` frames of each."""
    rows, prints = [], []
    for row, frames in clips:
        rows.append(row)
        prints.append(fingerprint(np.ascontiguousarray(frames[evenly(len(frames), most)])))
    return Ledger(
        tuple(row.clip for row in rows),
        tuple(row.group for row in rows),
        tuple(row.source for row in rows),
        np.concatenate(prints) if prints else np.zeros((0, 19, 4), np.uint64),
        np.repeat(np.arange(len(rows)), [len(one) for one in prints]),
    )


def read_frames(row: Row) -> np.ndarray:
    """The frames of a clip, uint8 [T, H, W]."""
    return read_path(row.path).frames


def decoded(
    rows: Iterable[Row],
    progress: bool = True,
    frames_of: FramesOf = read_frames,
    broken: dict[str, str] | None = None,
) -> Iterator[tuple[Row, np.ndarray]]:
    """Every clip of a manifest with its frames; `broken` gets the names of those that cannot be read, with the reasons.

    Raises:
        ClipError: if one cannot be read and `broken` is None; a benchmark without it would be another one.
    """
    for row in tqdm(list(rows), desc="reading clips", unit="clip", disable=None if progress else True):
        try:
            frames = frames_of(row)
        except ClipError as error:
            if broken is None:
                raise
            broken[row.clip] = str(error)
            continue
        yield row, frames


def write_ledger(ledger: Ledger, file: Path) -> None:
    """Write a ledger under a temporary name and move it into place."""
    names = {name: json.dumps(getattr(ledger, name)) for name in ("clips", "groups", "sources")}
    tensors = {"prints": ledger.prints, "clip_of": ledger.clip_of.astype(np.int32)}
    with atomic_write(file) as stream:
        stream.write(save(tensors, metadata=names))


def read_ledger(file: Path) -> Ledger:
    """Read what `write_ledger` wrote.

    Raises:
        LedgerError: naming the file, if it is not there or is no ledger.
    """
    try:
        with safe_open(file, framework="numpy") as content:
            names = {name: tuple(json.loads(text)) for name, text in (content.metadata() or {}).items()}
            ledger = Ledger(**names, prints=content.get_tensor("prints"), clip_of=content.get_tensor("clip_of"))
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise LedgerError(f"{file} is no ledger of fingerprints: {error}") from error
    lengths = {len(ledger.clips), len(ledger.groups), len(ledger.sources)}
    known = (ledger.clip_of >= 0) & (ledger.clip_of < len(ledger.clips))
    shape = ledger.prints.dtype == np.uint64 and ledger.prints.shape == (len(ledger.clip_of), 19, 4)
    if len(lengths) != 1 or not known.all() or not shape:
        raise LedgerError(f"{file} is no ledger of fingerprints: its names and its frames do not fit; make it again")
    return ledger


def compare(seen: Ledger, benchmark: Ledger, at_most: int = SEEN_AT_MOST) -> Overlap:
    """Which clips of a benchmark were seen, by patient or by a frame that differs in `at_most` signs of 255."""
    clips: dict[str, str] = {}
    pairs = near_duplicates_between(benchmark.prints, seen.prints, at_most)
    for frame, other, distance in zip(*pairs, strict=True):  # closest first
        reason = f"a frame is {distance} signs of 255 from one of {seen.clips[seen.clip_of[other]]}"
        clips.setdefault(benchmark.clips[benchmark.clip_of[frame]], reason)
    clips |= {clip: f"group {group} of {source}" for clip, source, group in _shared(seen.patients, benchmark)}
    compared = bool(len(seen.prints) and len(benchmark.prints))  # of nothing nothing is known to be clean
    return Overlap("overlap" if clips else "clean" if compared else "unknown", dict(sorted(clips.items())))


def compare_names(patients: set[tuple[str, str]], benchmark: Ledger) -> Overlap:
    """The same for a weight without a ledger, of which the (source, group) pairs alone are known."""
    clips = {clip: f"group {group} of {source}" for clip, source, group in _shared(patients, benchmark)}
    return Overlap("overlap" if clips else "unknown", clips)


def _shared(patients: set[tuple[str, str]], benchmark: Ledger) -> Iterator[tuple[str, str, str]]:
    """(clip, source, group) of the benchmark's clips that are of one of these patients."""
    for clip, source, group in sorted(zip(benchmark.clips, benchmark.sources, benchmark.groups, strict=True)):
        if (source, group) in patients:
            yield clip, source, group
