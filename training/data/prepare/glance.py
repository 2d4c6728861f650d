"""A look at a corpus before it is prepared: what it will take, and what the cleaning would do."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.data.errors import CorpusError
from training.data.manifest import Row
from training.data.prepare.decode import decode, pick
from usbackbones._evenly import evenly
from usbackbones._words import plural, rounded
from usbackbones.clips.cleaning.clean import Cleaning, clean
from usbackbones.clips.cleaning.preview import preview_sheet
from usbackbones.clips.read import ClipError

_SAMPLE = 12


def estimate(rows: Sequence[Row], size: int, max_frames: int, cleaning: Cleaning | None) -> str:
    """Decode a few clips from all over the corpus; what all of them will take, in words."""
    sample = [rows[number] for number in evenly(len(rows), _SAMPLE)]
    frames, broken, begun = 0, [], time.perf_counter()
    for row in tqdm(sample, unit="clip", desc="sample"):
        try:
            frames += len(decode(row.path, size, max_frames, cleaning).frames)
        except ClipError as error:
            broken.append(str(error))
    seconds = (time.perf_counter() - begun) / len(sample) * len(rows)
    all_frames = frames / len(sample) * len(rows)
    told = [
        f"{plural(len(rows), 'clip')} of {plural(len({(row.source, row.group) for row in rows}), 'group')}",
        f"by a sample of {plural(len(sample), 'clip')}: about {all_frames:.0f} frames of {size} px, "
        f"{rounded(all_frames * size**2 / 1e9, 2)} GB, {rounded(seconds / 60, 1)} minutes of one core",
        *(f"of the sample, would be skipped: {reason}" for reason in broken),
    ]
    return "\n".join(told)


def preview(rows: Sequence[Row], out: Path, clips: int, max_frames: int, cleaning: Cleaning) -> tuple[int, int]:
    """Draw `clips` clips from all over the corpus before and after the cleaning; broken ones are left out.

    Returns:
        (clips that are shown, clips that could not be read).

    Raises:
        CorpusError: if there is no number of clips to show, or not one could be read.
    """
    if clips < 1:
        raise CorpusError(f"--preview-clips {clips}: a preview needs at least 1")
    shown, chosen = [], evenly(len(rows), clips)
    for number in tqdm(chosen, unit="clip", desc="preview"):
        row = rows[number]
        try:
            frames = np.stack(pick(row.path, max_frames).frames)
        except ClipError:
            continue
        cleaned = clean(frames, cleaning)  # of all frames, for it looks at what moves; the sheet shows the middle one
        middle = slice(len(frames) // 2, len(frames) // 2 + 1)
        shown.append((row.clip, frames[middle].copy(), replace(cleaned, frames=cleaned.frames[middle].copy())))
    if not shown:
        raise CorpusError(f"not one of {plural(min(clips, len(rows)), 'clip')} could be read: there is nothing to show")
    preview_sheet(shown, out)
    return len(shown), len(chosen) - len(shown)
